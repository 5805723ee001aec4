import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJsonProtocol, toJsonProtocol } from '../src/json-protocol.mjs';

const MODELS = {
  Team: { id: 'String', meta: 'Json', members: 'Member', limits: 'Int' },
  Member: { id: 'String', team: 'Team', data: 'Json' },
};
const argumentsOf = (text) => toJsonProtocol(text, MODELS).query.arguments;
const json = (value) => ({ $type: 'Json', value });

test('the name of a field is an action and a model', () => {
  for (const [field, action, modelName] of [
    ['findUniqueTeam', 'findUnique', 'Team'],
    ['findFirstTeamOrThrow', 'findFirstOrThrow', 'Team'],
    ['findManyTeam', 'findMany', 'Team'],
    ['createManyLiteLLM_Team', 'createMany', 'LiteLLM_Team'],
    ['upsertOneTeam', 'upsertOne', 'Team'],
  ]) {
    const translated = toJsonProtocol(`query { result: ${field} { id } }`);
    assert.deepEqual([translated.action, translated.modelName], [action, modelName]);
  }
  assert.throws(() => toJsonProtocol('query { result: inventTeam { id } }'), /has no inventTeam/);
});

test('JSON that is written is tagged, whatever it is in', () => {
  assert.deepEqual(argumentsOf('mutation { createOneTeam(data: { id: "1", meta: "{}", limits: 1 }) { id } }'), {
    data: { id: '1', meta: json('{}'), limits: 1 },
  });
  assert.deepEqual(argumentsOf('mutation { createManyTeam(data: [{ meta: "1" }, { meta: "2" }]) { count } }'), {
    data: [{ meta: json('1') }, { meta: json('2') }],
  });
});

test('JSON in a filter is tagged, its options are not', () => {
  assert.deepEqual(argumentsOf('query { findManyTeam(where: { OR: [{ meta: { path: ["a"], equals: "1", string_contains: "x" } }, { limits: { gt: 1 } }] }) { id } }'), {
    where: { OR: [{ meta: { path: ['a'], equals: json('1'), string_contains: 'x' } }, { limits: { gt: 1 } }] },
  });
});

test('JSON behind relations', () => {
  assert.deepEqual(argumentsOf('mutation { updateOneTeam(where: { id: "1" }, data: { members: { create: [{ data: "[]" }], update: { where: { id: "2" }, data: { data: "{}" } } } }) { id } }'), {
    where: { id: '1' },
    data: { members: { create: [{ data: json('[]') }], update: { where: { id: '2' }, data: { data: json('{}') } } } },
  });
  const { query } = toJsonProtocol('query { findManyTeam { id members(where: { data: { equals: "1" } }) { id } } }', MODELS);
  assert.deepEqual(query.selection, { id: true, members: { arguments: { where: { data: { equals: json('1') } } }, selection: { id: true } } });
});

test('raw queries pass as they are', () => {
  assert.deepEqual(toJsonProtocol('mutation { result: queryRaw(query: "SELECT 1", parameters: "[]") }'), {
    action: 'queryRaw',
    query: { arguments: { query: 'SELECT 1', parameters: '[]' }, selection: {} },
  });
});

test('answers lose their tags', () => {
  const answer = { data: { findManyTeam: [{ id: '1', at: { $type: 'DateTime', value: '2026-01-01T00:00:00Z' }, meta: json('{}') }] } };
  assert.deepEqual(fromJsonProtocol(answer, 'findMany'), { data: { result: [{ id: '1', at: '2026-01-01T00:00:00Z', meta: '{}' }] } });
});

test('raw rows say what each cell is', () => {
  const answer = { data: { queryRaw: { columns: ['n', 'l', 'x'], types: ['int', 'string-array', 'int'], rows: [[1, ['a'], null]] } } };
  assert.deepEqual(fromJsonProtocol(answer, 'queryRaw').data.result, [{
    n: { prisma__type: 'int', prisma__value: 1 },
    l: { prisma__type: 'array', prisma__value: [{ prisma__type: 'string', prisma__value: 'a' }] },
    x: { prisma__type: 'null', prisma__value: null },
  }]);
});

test('errors pass as they are', () => {
  const answer = { errors: [{ error: 'x' }] };
  assert.equal(fromJsonProtocol(answer, 'findMany'), answer);
});
