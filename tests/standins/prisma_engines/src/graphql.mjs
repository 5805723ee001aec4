// Reads the subset of GraphQL that prisma-client-py writes: one operation with one field, literal arguments, a selection of fields.

const TOKEN = /(?<skip>[\s,]+)|(?<string>"(?:[^"\\]|\\.)*")|(?<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?<name>[A-Za-z_$][\w$]*)|(?<sign>[{}()[\]:])/y;
const CONSTANTS = { true: true, false: false, null: null };

function* tokens(text) {
  const pattern = new RegExp(TOKEN);
  while (pattern.lastIndex < text.length) {
    const start = pattern.lastIndex;
    const match = pattern.exec(text);
    if (!match) throw new SyntaxError(`cannot read the query from offset ${start}: ${JSON.stringify(text.slice(start, start + 40))}`);
    const { skip, string, number, name, sign } = match.groups;
    if (skip !== undefined) continue;
    if (string !== undefined) yield { kind: 'value', value: JSON.parse(string) };
    else if (number !== undefined) yield { kind: 'value', value: readNumber(number) };
    else if (name !== undefined) yield { kind: 'name', value: name };
    else yield { kind: sign };
  }
  yield { kind: 'end' };
}

// Integers that JavaScript cannot hold keep their digits, tagged as Prisma's JSON protocol does.
function readNumber(text) {
  const number = Number(text);
  return /^-?\d+$/.test(text) && !Number.isSafeInteger(number) ? { $type: 'BigInt', value: text } : number;
}

class Reader {
  #tokens;
  #next;

  constructor(text) {
    this.#tokens = tokens(text);
    this.#next = this.#tokens.next().value;
  }

  at(kind) {
    return this.#next.kind === kind;
  }

  take(...kinds) {
    const token = this.#next;
    if (!kinds.includes(token.kind)) throw new SyntaxError(`the query has ${JSON.stringify(token)} where ${kinds.join(' or ')} belongs`);
    if (token.kind !== 'end') this.#next = this.#tokens.next().value;
    return token.value;
  }

  // "{ key: value … }" or "( key: value … )". Keys of Python dictionaries come quoted where they are no names.
  pairs(open, close) {
    const found = {};
    this.take(open);
    while (!this.at(close)) {
      const key = this.take('name', 'value');
      this.take(':');
      found[key] = this.value();
    }
    this.take(close);
    return found;
  }

  list() {
    const found = [];
    this.take('[');
    while (!this.at(']')) found.push(this.value());
    this.take(']');
    return found;
  }

  value() {
    if (this.at('{')) return this.pairs('{', '}');
    if (this.at('[')) return this.list();
    if (this.at('value')) return this.take('value');
    const name = this.take('name');
    return Object.hasOwn(CONSTANTS, name) ? CONSTANTS[name] : name; // what is left is the value of an enum
  }

  // One field of a selection: its arguments and, where it is a relation, what is selected of it.
  field() {
    const found = {};
    if (this.at('(')) found.arguments = this.pairs('(', ')');
    if (this.at('{')) found.selection = this.selection();
    return found;
  }

  selection() {
    const found = {};
    this.take('{');
    while (!this.at('}')) {
      const name = this.take('name');
      const field = this.field();
      found[name] = field.selection ? field : true;
    }
    this.take('}');
    return found;
  }
}

// 'mutation { result: createOneUser(data: {…}) { id } }' -> { field: 'createOneUser', arguments: {…}, selection: { id: true } }
export function parseQuery(text) {
  const reader = new Reader(text);
  reader.take('name'); // query or mutation: the field tells too
  reader.take('{');
  let name = reader.take('name');
  if (reader.at(':')) {
    reader.take(':');
    name = reader.take('name');
  }
  const { arguments: args = {}, selection = {} } = reader.field();
  reader.take('}');
  reader.take('end');
  return { field: name, arguments: args, selection };
}
