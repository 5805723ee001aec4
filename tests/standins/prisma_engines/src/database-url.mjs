// A database URL as Prisma understands it, in the terms of node-postgres.
import { readFileSync } from 'node:fs';

// seconds, with Prisma's defaults
const CONNECT_TIMEOUT = 5;
const POOL_TIMEOUT = 10;

export function parseDatabaseUrl(text) {
  const url = new URL(text);
  const option = (name) => url.searchParams.get(name) ?? undefined;
  const seconds = (name, otherwise) => Number(option(name) ?? otherwise) * 1000;
  const schema = option('schema') ?? 'public';
  const ca = option('sslcert');
  return {
    server: `\`${url.hostname}\`:\`${url.port || 5432}\``,
    schema,
    // Prisma encrypts where the server can, and trusts whatever certificate it shows unless told to be strict.
    sslmode: option('sslmode') ?? 'prefer',
    tls: { rejectUnauthorized: option('sslaccept') === 'strict', ...(ca && { ca: readFileSync(ca, 'utf8') }) },
    client: {
      host: option('host') ?? url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: Number(url.port || 5432),
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database: decodeURIComponent(url.pathname.slice(1)),
      connectionTimeoutMillis: seconds('connect_timeout', CONNECT_TIMEOUT),
      ...(schema !== 'public' && { options: `-c search_path="${schema}"` }),
    },
    pool: {
      max: Number(option('connection_limit')) || 5,
      // node-postgres has one limit for waiting in line and for connecting.
      connectionTimeoutMillis: Math.max(seconds('connect_timeout', CONNECT_TIMEOUT), seconds('pool_timeout', POOL_TIMEOUT)),
    },
  };
}
