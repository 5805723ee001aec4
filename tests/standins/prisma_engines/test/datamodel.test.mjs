import assert from 'node:assert/strict';
import { test } from 'node:test';
import { datasourceUrl, readModels } from '../src/datamodel.mjs';

const SCHEMA = `
datasource client {
  provider  = "postgresql"
  url       = env("DATABASE_URL")
  directUrl = env("DIRECT_URL")
}

model Team {
  id      String @id @default(uuid())
  meta    Json   @default("{}")
  keys    Key[]
  @@map("teams")
}

model Key {
  token String @id
  team  Team?  @relation(fields: [team_id], references: [id])
}
`;

test('fields and their types', () => {
  assert.deepEqual(readModels(SCHEMA), {
    Team: { id: 'String', meta: 'Json', keys: 'Key' },
    Key: { token: 'String', team: 'Team' },
  });
});

test('the address, and the direct one for migrations', () => {
  const environment = { DATABASE_URL: 'pooler', DIRECT_URL: 'server' };
  assert.equal(datasourceUrl(SCHEMA, environment), 'pooler');
  assert.equal(datasourceUrl(SCHEMA, environment, { direct: true }), 'server');
  assert.equal(datasourceUrl(SCHEMA, { DATABASE_URL: 'pooler' }, { direct: true }), 'pooler');
  assert.equal(datasourceUrl('datasource db {\n  url = "postgresql://here"\n}', {}), 'postgresql://here');
  assert.equal(datasourceUrl('', {}), undefined);
});
