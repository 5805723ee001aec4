// What the stand-ins need to know of a Prisma schema, read from its text.

const block = (kind) => new RegExp(`^${kind}\\s+(\\w+)\\s*\\{([\\s\\S]*?)^\\}`, 'gm');

// { User: { id: 'String', meta: 'Json', posts: 'Post' }, … }: enough to tell Json fields and relations from the rest.
export function readModels(schema) {
  const models = {};
  for (const [, name, body] of schema.matchAll(block('model'))) {
    models[name] = Object.fromEntries([...body.matchAll(/^[ \t]*(\w+)[ \t]+(\w+)/gm)].map(([, field, type]) => [field, type]));
  }
  return models;
}

// The address a schema's datasource names. Migrations prefer the direct one: a pooler does not do for them.
export function datasourceUrl(schema, environment, { direct = false } = {}) {
  const body = schema.matchAll(block('datasource')).next().value?.[2] ?? '';
  for (const key of direct ? ['directUrl', 'url'] : ['url']) {
    const [, variable, literal] = body.match(new RegExp(`^\\s*${key}\\s*=\\s*(?:env\\("([^"]+)"\\)|"([^"]+)")`, 'm')) ?? [];
    const url = variable ? environment[variable] : literal;
    if (url) return url;
  }
  return undefined;
}
