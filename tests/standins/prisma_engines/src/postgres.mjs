// node-postgres, made to behave as Prisma's native engines do.
import pg from 'pg';
import Result from 'pg/lib/result.js';
import { parseDatabaseUrl } from './database-url.mjs';

// Types of PostgreSQL's own tables, and what to read them as: the native engine gives text, the adapter refuses them.
const TEXT = 25;
const TEXT_ARRAY = 1009;
const READ_AS = new Map([
  [18, TEXT], // char
  [19, TEXT], // name
  [24, TEXT], // regproc
  [2205, TEXT], // regclass
  [2206, TEXT], // regtype
  [1003, TEXT_ARRAY], // name[]
  [2210, TEXT_ARRAY], // regclass[]
]);

const { addFields } = Result.prototype;
Result.prototype.addFields = function addReadableFields(fields) {
  for (const field of fields) field.dataTypeID = READ_AS.get(field.dataTypeID) ?? field.dataTypeID;
  return addFields.call(this, fields);
};

export function cannotReach(database, cause) {
  return Object.assign(new Error(`Can't reach database server at ${database.server}: ${cause?.message ?? 'no connection'}`), { error_code: 'P1001' });
}

async function tryClient(database, ssl) {
  const client = new pg.Client({ ...database.client, ssl });
  client.on('error', () => {}); // a server that goes away is noticed by the next query
  await client.connect();
  return client;
}

// A connected client. Without a word about TLS it is used where the server has it.
export async function connect(url) {
  const database = parseDatabaseUrl(url);
  const modes = { disable: [false], prefer: [database.tls, false] }[database.sslmode] ?? [database.tls];
  let problem;
  for (const ssl of modes) {
    try {
      return { database: { ...database, client: { ...database.client, ssl } }, client: await tryClient(database, ssl) };
    } catch (error) {
      problem = error;
      if (!/does not support SSL/.test(error.message)) break;
    }
  }
  throw cannotReach(database, problem);
}

// A pool, after one connection has shown that the address and the password are right.
export async function openPool(url) {
  const { database, client } = await connect(url);
  await client.end();
  const pool = new pg.Pool({ ...database.client, ...database.pool });
  pool.on('error', (error) => console.error(JSON.stringify({ level: 'error', message: String(error) })));
  return { database, pool };
}
