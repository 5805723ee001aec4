// Prisma's WASM query engine over node-postgres, behind the requests of prisma-client-py.
import { PrismaPg } from '@prisma/adapter-pg';
import { bindAdapter } from '@prisma/driver-adapter-utils';
import * as bindings from '@prisma/client/runtime/query_engine_bg.postgresql.js';
import wasm from '@prisma/client/runtime/query_engine_bg.postgresql.wasm';
import { readModels } from './datamodel.mjs';
import { fromJsonProtocol, toJsonProtocol } from './json-protocol.mjs';
import { cannotReach, openPool } from './postgres.mjs';

const NO_TRACE = '{}';

function loadWasm() {
  const instance = new WebAssembly.Instance(new WebAssembly.Module(wasm), { './query_engine_bg.js': bindings });
  bindings.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start?.();
}

export class Engine {
  #adapter;
  #database;
  #models;
  #wasm;

  static async start({ url, datamodel }) {
    const { database, pool } = await openPool(url);
    loadWasm();
    const engine = new Engine();
    engine.#database = database;
    engine.#models = readModels(datamodel);
    engine.#adapter = bindAdapter(new PrismaPg(pool, { schema: database.schema }));
    engine.#wasm = new bindings.QueryEngine({ datamodel, logLevel: 'error', logQueries: false }, () => {}, engine.#adapter);
    await engine.#wasm.connect(NO_TRACE);
    return engine;
  }

  // A request as prisma-client-py posts it: one query, or a batch of them.
  async query(request, transaction) {
    const answer = await (request.batch ? this.#batch(request, transaction) : this.#single(request, transaction));
    this.#nameUnreachable(answer);
    return answer;
  }

  async #single({ query }, transaction) {
    const translated = toJsonProtocol(query, this.#models);
    return fromJsonProtocol(await this.#run(translated, transaction), translated.action);
  }

  async #batch({ batch, transaction: isTransaction, isolation_level: isolationLevel = null }, transaction) {
    const translated = batch.map(({ query }) => toJsonProtocol(query, this.#models));
    const answer = await this.#run({ batch: translated, ...(isTransaction && { transaction: { isolationLevel } }) }, transaction);
    answer.batchResult = answer.batchResult?.map((one, i) => fromJsonProtocol(one, translated[i].action));
    return answer;
  }

  async #run(request, transaction) {
    return JSON.parse(await this.#wasm.query(JSON.stringify(request), NO_TRACE, transaction));
  }

  // An adapter's failure is P2036 whatever its cause; the native engine says P1001 where the database cannot be reached.
  #nameUnreachable(answer) {
    const errors = answer.errors ?? answer.batchResult?.flatMap((one) => one.errors ?? []) ?? [];
    for (const error of errors.filter((one) => one.user_facing_error?.error_code === 'P2036')) {
      const cause = this.#adapter.errorRegistry.consumeError(error.user_facing_error.meta?.id)?.error;
      const { message, error_code } = cannotReach(this.#database, cause);
      Object.assign(error, { error: message, user_facing_error: { is_panic: false, message, meta: {}, error_code } });
    }
  }

  async startTransaction(options) {
    return JSON.parse(await this.#wasm.startTransaction(options, NO_TRACE));
  }

  async endTransaction(id, how) {
    return how === 'commit' ? this.#wasm.commitTransaction(id, NO_TRACE) : this.#wasm.rollbackTransaction(id, NO_TRACE);
  }
}
