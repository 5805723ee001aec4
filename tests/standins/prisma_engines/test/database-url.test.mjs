import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDatabaseUrl } from '../src/database-url.mjs';

test('defaults', () => {
  const database = parseDatabaseUrl('postgresql://me@db/litellm');
  assert.deepEqual(database.client, { host: 'db', port: 5432, user: 'me', password: '', database: 'litellm', connectionTimeoutMillis: 5000 });
  assert.deepEqual(database.pool, { max: 5, connectionTimeoutMillis: 10_000 });
  assert.deepEqual([database.schema, database.sslmode, database.tls.rejectUnauthorized], ['public', 'prefer', false]);
});

test('everything said', () => {
  const { client, pool, schema, sslmode, tls } = parseDatabaseUrl(
    'postgresql://m%40e:p%2Fw@[::1]:6432/a%20b?schema=lite&connection_limit=7&connect_timeout=20&pool_timeout=3&sslmode=require&sslaccept=strict&pgbouncer=true',
  );
  assert.deepEqual(client, {
    host: '::1', port: 6432, user: 'm@e', password: 'p/w', database: 'a b', connectionTimeoutMillis: 20_000, options: '-c search_path="lite"',
  });
  assert.deepEqual(pool, { max: 7, connectionTimeoutMillis: 20_000 });
  assert.deepEqual([schema, sslmode, tls], ['lite', 'require', { rejectUnauthorized: true }]);
});

test('a Unix socket', () => {
  assert.equal(parseDatabaseUrl('postgresql://me@localhost/db?host=/run/postgresql').client.host, '/run/postgresql');
});
