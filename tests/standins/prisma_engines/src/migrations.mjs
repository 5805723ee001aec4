// `prisma migrate deploy` and `prisma migrate resolve` on PostgreSQL: Prisma's ledger of migrations, its lock and its error codes.
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

// Two deployments at once wait for each other by this advisory lock, as with the native engine.
const LOCK = 72707369;

const LEDGER = `
  CREATE TABLE _prisma_migrations (
    id                  VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum            VARCHAR(64) NOT NULL,
    finished_at         TIMESTAMPTZ,
    migration_name      VARCHAR(255) NOT NULL,
    logs                TEXT,
    rolled_back_at      TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
  )`;

export function problem(code, message, meta = {}) {
  return Object.assign(new Error(message), { error_code: code, meta });
}

export class Migrations {
  #client;
  #folder;
  #schema;

  constructor(client, schema, folder) {
    this.#client = client;
    this.#schema = schema;
    this.#folder = folder;
  }

  static names(folder) {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && existsSync(join(folder, entry.name, 'migration.sql')))
      .map((entry) => entry.name)
      .sort();
  }

  // Applies what is missing, in order, each migration as one script. Returns the names of what was applied.
  async deploy() {
    await this.#client.query('SELECT pg_advisory_lock($1)', [LOCK]);
    const rows = await this.#ledger();
    const failed = rows.find((row) => !row.finished_at && !row.rolled_back_at);
    if (failed) {
      throw problem('P3009', 'migrate found failed migrations in the target database, new migrations will not be applied.\n'
        + `The \`${failed.migration_name}\` migration started at ${failed.started_at.toISOString()} failed`);
    }
    const applied = new Set(rows.filter((row) => !row.rolled_back_at).map((row) => row.migration_name));
    const missing = Migrations.names(this.#folder).filter((name) => !applied.has(name));
    for (const name of missing) await this.#apply(name);
    return missing;
  }

  async markApplied(name) {
    const rows = (await this.#ledger()).filter((row) => row.migration_name === name);
    if (rows.some((row) => row.finished_at && !row.rolled_back_at)) {
      throw problem('P3008', `The migration \`${name}\` is already recorded as applied in the database.`);
    }
    await this.#client.query('UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = $1 AND rolled_back_at IS NULL', [name]);
    await this.#note(name, this.#script(name), { finished: true });
  }

  async markRolledBack(name) {
    const { rowCount } = await this.#client.query(
      'UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = $1 AND finished_at IS NULL AND rolled_back_at IS NULL',
      [name],
    );
    if (!rowCount) throw problem('P3012', `Migration \`${name}\` cannot be rolled back because it is not in a failed state.`);
  }

  async #apply(name) {
    const script = this.#script(name);
    const id = await this.#note(name, script, { finished: false });
    try {
      await this.#client.query(script);
    } catch (error) {
      await this.#client.query('UPDATE _prisma_migrations SET logs = $1 WHERE id = $2', [error.message, id]);
      throw problem('P3018', 'A migration failed to apply. New migrations cannot be applied before the error is recovered from.\n\n'
        + `Migration name: ${name}\n\nDatabase error code: ${error.code}\n\nDatabase error:\nERROR: ${error.message}`, { migration_name: name });
    }
    await this.#client.query('UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = $1', [id]);
  }

  // All rows of the ledger. It is made in an empty schema; in one that others use, Prisma wants to be told what is applied already.
  async #ledger() {
    const { rows } = await this.#client.query(
      "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relkind IN ('r', 'p')",
      [this.#schema],
    );
    if (!rows.some((row) => row.relname === '_prisma_migrations')) {
      if (rows.length > 0) {
        throw problem('P3005', 'The database schema is not empty. '
          + 'Read more about how to baseline an existing production database: https://pris.ly/d/migrate-baseline');
      }
      await this.#client.query(LEDGER);
    }
    return (await this.#client.query('SELECT * FROM _prisma_migrations ORDER BY started_at')).rows;
  }

  async #note(name, script, { finished }) {
    const id = randomUUID();
    await this.#client.query(
      `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ($1, $2, $3, ${finished ? 'now()' : 'NULL'})`,
      [id, createHash('sha256').update(script).digest('hex'), name],
    );
    return id;
  }

  #script(name) {
    return readFileSync(join(this.#folder, name, 'migration.sql'), 'utf8');
  }
}
