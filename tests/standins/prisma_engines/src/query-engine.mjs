// Takes the place of the `query-engine` executable: the same command line, environment and HTTP endpoints.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { datasourceUrl } from './datamodel.mjs';
import { Engine } from './engine.mjs';

const NO_METRICS = { counters: [], gauges: [], histograms: [] };

// prisma-client-py may give another address than the schema names.
function overriddenUrl(text) {
  if (!text) return undefined;
  const json = text.trimStart().startsWith('[') ? text : Buffer.from(text, 'base64').toString();
  return JSON.parse(json)[0]?.url;
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const failure = (error) => {
  const message = String(error?.message ?? error);
  return { errors: [{ error: message, user_facing_error: { is_panic: false, message } }] };
};

// [status, body] of a request.
async function answer(engine, path, request) {
  const end = path.match(/^\/transaction\/([^/]+)\/(commit|rollback)$/);
  if (end) return [200, await engine.endTransaction(end[1], end[2])];
  switch (path) {
    case '/':
      return [200, await engine.query(JSON.parse(await bodyOf(request)), request.headers['x-transaction-id'])];
    case '/status':
      return [200, { status: 'ok' }];
    case '/metrics':
      return [200, NO_METRICS];
    case '/transaction/start': {
      const started = await engine.startTransaction(await bodyOf(request));
      return started.id ? [200, started] : [400, { errors: [{ error: started.message, user_facing_error: started }] }];
    }
    default:
      return [404, { error: 'not found' }];
  }
}

function serve(engine, port) {
  const server = createServer(async (request, response) => {
    let status;
    let body;
    try {
      [status, body] = await answer(engine, request.url.split('?')[0], request);
    } catch (error) {
      console.error(JSON.stringify({ level: 'error', message: String(error?.stack ?? error) }));
      [status, body] = [200, failure(error)];
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  // Longer than the client keeps a connection, so that it never writes into one that closes.
  server.keepAliveTimeout = 120_000;
  server.listen(port, 'localhost');
}

async function main() {
  // LiteLLM looks for orphans by this name in /proc/<pid>/comm.
  process.title = 'query-engine';
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
  const { values } = parseArgs({ options: { port: { type: 'string', short: 'p' } }, strict: false });
  const datamodel = readFileSync(process.env.PRISMA_DML_PATH, 'utf8');
  const url = overriddenUrl(process.env.OVERWRITE_DATASOURCES) ?? datasourceUrl(datamodel, process.env);
  serve(await Engine.start({ url, datamodel }), Number(values.port));
}

main().catch((error) => {
  console.error(JSON.stringify({ is_panic: false, message: error.message, error_code: error.error_code }));
  process.exit(1);
});
