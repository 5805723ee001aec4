import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuery } from '../src/graphql.mjs';

test('a query with arguments and nested selections', () => {
  const text = `query {
    result: findManyUser
    (
      where: { AND: [{ age: { gte: 18 } }, { name: "a \\"b\\" \\u00e9" }], "odd key": null, }
      take: -1.5e3
      sort: desc
      active: true
    )
    { id posts(where: { x: [] }) { id } }
  }`;
  assert.deepEqual(parseQuery(text), {
    field: 'findManyUser',
    arguments: {
      where: { AND: [{ age: { gte: 18 } }, { name: 'a "b" é' }], 'odd key': null },
      take: -1500,
      sort: 'desc',
      active: true,
    },
    selection: { id: true, posts: { arguments: { where: { x: [] } }, selection: { id: true } } },
  });
});

test('neither alias nor arguments nor selection', () => {
  assert.deepEqual(parseQuery('mutation { executeRaw }'), { field: 'executeRaw', arguments: {}, selection: {} });
});

test('integers too large for JavaScript keep their digits', () => {
  const { arguments: args } = parseQuery('query { f(a: 9007199254740993, b: 9007199254740991) }');
  assert.deepEqual(args, { a: { $type: 'BigInt', value: '9007199254740993' }, b: 9007199254740991 });
});

test('what cannot be read is refused with its place', () => {
  assert.throws(() => parseQuery('query { f(a: &) }'), /offset 13: "&\) }"/);
  assert.throws(() => parseQuery('query { f(a 1) }'), /where : belongs/);
  assert.throws(() => parseQuery('query { f(a: 1)'), /\{"kind":"end"\} where \} belongs/);
});
