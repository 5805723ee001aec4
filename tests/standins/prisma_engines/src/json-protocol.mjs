// Between the GraphQL of prisma-client-py and Prisma's JSON protocol, the only one its WASM engine speaks.
import { parseQuery } from './graphql.mjs';

const RAW = new Set(['queryRaw', 'executeRaw']);
const ACTION = new RegExp(
  '^(?:(?<find>findUnique|findFirst)(?<found>\\w+?)(?<orThrow>OrThrow)?'
  + '|(?<plain>findMany|createOne|createMany|updateOne|updateMany|deleteOne|deleteMany|upsertOne|aggregate|groupBy)(?<model>\\w+))$',
);

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value) && value.$type === undefined;
const mapValues = (object, change) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value, key)]));
const eachOf = (value, change) => (Array.isArray(value) ? value.map(change) : change(value));

// --- requests -------------------------------------------------------------------------------------------------------------------------

// Options of a filter on a Json field that are no JSON themselves.
const PLAIN_IN_JSON_FILTER = /^(path|mode|string_\w+)$/;

// GraphQL writes the text of a JSON value; in the JSON protocol a plain string would be a JSON string.
function tagJson(value) {
  if (typeof value === 'string') return { $type: 'Json', value };
  if (Array.isArray(value)) return value.map(tagJson);
  if (!isObject(value)) return value;
  return mapValues(value, (inner, key) => (PLAIN_IN_JSON_FILTER.test(key) ? inner : tagJson(inner)));
}

// Operations on a relation whose operand is again { where, data, create, update }.
const isNested = (key, value) => /^(upsert|connectOrCreate|updateMany)$/.test(key)
  || (key === 'update' && isObject(value) && 'where' in value && 'data' in value);

// The arguments of an action or of an operation on a relation: { where: …, data: …, some: … }.
function tagArguments(args, model, models) {
  if (!isObject(args)) return args;
  return mapValues(args, (value, key) => eachOf(value, (one) => (isNested(key, one) ? tagArguments : tagFields)(one, model, models)));
}

// An object keyed by the fields of a model, or by AND, OR, NOT and the names of compound keys.
function tagFields(fields, model, models) {
  if (!isObject(fields)) return fields;
  return mapValues(fields, (value, key) => {
    const type = models[model]?.[key];
    if (type === 'Json') return tagJson(value);
    if (type in models) return eachOf(value, (one) => tagArguments(one, type, models));
    return type === undefined ? eachOf(value, (one) => tagFields(one, model, models)) : value;
  });
}

function tagSelection(selection, model, models) {
  return mapValues(selection, (field, name) => {
    const type = models[model]?.[name];
    if (field === true || !(type in models)) return field;
    return {
      ...(field.arguments && { arguments: tagArguments(field.arguments, type, models) }),
      selection: tagSelection(field.selection, type, models),
    };
  });
}

export function toJsonProtocol(text, models = {}) {
  const { field, arguments: args, selection } = parseQuery(text);
  if (RAW.has(field)) return { action: field, query: { arguments: args, selection: {} } };
  const match = field.match(ACTION)?.groups;
  if (!match) throw new Error(`the stand-in for the query engine has no ${field}`);
  const modelName = match.found ?? match.model;
  const action = match.find ? match.find + (match.orThrow ?? '') : match.plain;
  return {
    modelName,
    action,
    query: {
      // `by` and `having` of a groupBy name fields and hold no JSON.
      arguments: action === 'groupBy' ? args : tagArguments(args, modelName, models),
      selection: tagSelection(selection, modelName, models),
    },
  };
}

// --- answers --------------------------------------------------------------------------------------------------------------------------

// { $type: 'DateTime', value: '…' } -> '…', as GraphQL answers.
function untag(value) {
  if (Array.isArray(value)) return value.map(untag);
  if (value === null || typeof value !== 'object') return value;
  return typeof value.$type === 'string' ? value.value : mapValues(value, untag);
}

// Engines before 5.14 say of each cell of a raw row what it is.
function rawCell(type, value) {
  if (value === null) return { prisma__type: 'null', prisma__value: null };
  if (!type.endsWith('-array')) return { prisma__type: type, prisma__value: value };
  const inner = type.slice(0, -'-array'.length);
  return { prisma__type: 'array', prisma__value: value.map((one) => rawCell(inner, one)) };
}

const rawRows = ({ columns, types, rows }) => rows.map((row) => Object.fromEntries(row.map((cell, i) => [columns[i], rawCell(types[i], cell)])));

export function fromJsonProtocol(answer, action) {
  if (!answer?.data) return answer;
  const [data] = Object.values(answer.data);
  const result = { queryRaw: rawRows, executeRaw: (count) => count }[action] ?? untag;
  return { ...answer, data: { result: result(data) } };
}
