// Takes the place of the `schema-engine` executable for `prisma migrate deploy` and `prisma migrate resolve`: JSON-RPC by lines.
// What else it can do (diff, db push, introspection) answers an error.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { datasourceUrl } from './datamodel.mjs';
import { Migrations } from './migrations.mjs';
import { connect } from './postgres.mjs';

const METHODS = {
  listMigrationDirectories: async ({ migrationsDirectoryPath }) => ({ migrations: Migrations.names(migrationsDirectoryPath) }),
  ensureConnectionValidity: ({}, url) => withDatabase(url, async () => ({})),
  getDatabaseVersion: ({}, url) => withDatabase(url, async (client) => (await client.query('SHOW server_version')).rows[0].server_version),
  applyMigrations: ({ migrationsDirectoryPath }, url) => withDatabase(url, async (client, schema) => ({
    appliedMigrationNames: await new Migrations(client, schema, migrationsDirectoryPath).deploy(),
  })),
  markMigrationApplied: ({ migrationsDirectoryPath, migrationName }, url) => withDatabase(url, async (client, schema) => {
    await new Migrations(client, schema, migrationsDirectoryPath).markApplied(migrationName);
    return {};
  }),
  markMigrationRolledBack: ({ migrationName }, url) => withDatabase(url, async (client, schema) => {
    await new Migrations(client, schema).markRolledBack(migrationName);
    return {};
  }),
};

async function withDatabase(url, work) {
  const { client, database } = await connect(url);
  try {
    return await work(client, database.schema);
  } finally {
    await client.end();
  }
}

async function call({ method, params }, url) {
  if (!Object.hasOwn(METHODS, method)) throw new Error(`the stand-in for the schema engine has no ${method}`);
  return METHODS[method](params ?? {}, url);
}

async function serve(url) {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
      answer = { result: await call(request, url) };
    } catch ({ message, meta = {}, error_code }) {
      answer = {
        error: { code: 4466, message: 'An error happened. Check the data field for details.', data: { is_panic: false, message, meta, error_code } },
      };
    }
    console.log(JSON.stringify({ jsonrpc: '2.0', id: request.id, ...answer }));
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { datamodel: { type: 'string', short: 'd' }, datasource: { type: 'string' } },
    allowPositionals: true,
    strict: false,
  });
  if (positionals[0] === 'cli') {
    // schema-engine cli --datasource URL can-connect-to-database
    await withDatabase(values.datasource, async () => {});
    return;
  }
  const schema = values.datamodel ? readFileSync(values.datamodel, 'utf8') : '';
  await serve(datasourceUrl(schema, process.env, { direct: true }) ?? process.env.DATABASE_URL);
}

main().catch(({ message, error_code }) => {
  console.error(JSON.stringify({ level: 'ERROR', target: 'schema_engine::logger', fields: { is_panic: false, error_code, message } }));
  process.exitCode = 1;
});
