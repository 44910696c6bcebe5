import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import avro, { type Type } from "avsc";

/** The records of this topic. One of another name is newer than this program. */
const RECORDS = ["seckill.v1.OrderOutcome", "seckill.v1.SaleOutcome", "seckill.v1.RefundDue"];

/** A message that this program does not know, and why. Reading it again would end the same. */
export class Unreadable extends Error {}

export type Outcome = Record<string, string | number | bigint | null>;

/** Ids of users have 63 bits: more than a number of this language. */
const LONG = avro.types.LongType.__with({
  fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
  toBuffer: (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(value);
    return bytes;
  },
  fromJSON: BigInt,
  toJSON: String,
  isValid: (value: unknown) => typeof value === "bigint",
  compare: (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0),
});

/** The schemas that messages may be written under, by both of their names. */
export class Schemas {
  private readonly byFingerprint = new Map<string, Type>();
  private readonly byId = new Map<number, Type>();

  /** Loads every .avsc file under the directory: old versions stand beside new ones in the topic. */
  constructor(directory: string, private readonly registry: string | undefined) {
    for (const entry of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
      if (entry.endsWith(".avsc")) {
        const type = parseFile(join(directory, entry));
        this.byFingerprint.set(fingerprint(type), type);
      }
    }
  }

  put(id: number, file: string): void {
    this.byId.set(id, parseFile(file));
  }

  /** An outcome's fields. Another error than Unreadable is none of the message's: the registry, say. */
  async read(message: Buffer): Promise<Outcome> {
    if (message.length >= 10 && message.readUInt16BE(0) === 0xc301) {
      // Avro's single-object encoding: C3 01, the schema's fingerprint, the body.
      const wanted = message.toString("hex", 2, 10);
      return readBody(this.byFingerprint.get(wanted), `fingerprint ${wanted}`, message.subarray(10));
    }
    if (message.length >= 5 && message[0] === 0) {
      // Confluent's framing: 00, the schema's id in the registry, the body.
      const id = message.readUInt32BE(1);
      return readBody(await this.ofId(id), `id ${id}`, message.subarray(5));
    }
    throw new Unreadable("neither of the two framings");
  }

  private async ofId(id: number): Promise<Type | undefined> {
    if (!this.byId.has(id) && this.registry) {
      const url = `${this.registry.replace(/\/+$/, "")}/schemas/ids/${id}`;
      const headers = new Headers();
      const user = process.env.SCHEMA_REGISTRY_USERNAME;
      if (user) {
        const login = Buffer.from(`${user}:${process.env.SCHEMA_REGISTRY_PASSWORD ?? ""}`);
        headers.set("authorization", `Basic ${login.toString("base64")}`);
      }
      const answer = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) });
      if (answer.status === 404) {
        return undefined;
      }
      if (!answer.ok) {
        throw new Error(`${url}: status ${answer.status}`);
      }
      const body = (await answer.json()) as { schema: string };
      this.byId.set(id, parse(body.schema));
    }
    return this.byId.get(id);
  }
}

function parseFile(file: string): Type {
  return parse(readFileSync(file, "utf8"));
}

// Versions of a record have one name: each is parsed by itself. Logical types are left as what they are made of.
function parse(text: string): Type {
  const isLong = (schema: unknown) => schema === "long" || (schema as { type?: unknown }).type === "long";
  const typeHook = (schema: unknown) => (isLong(schema) ? LONG : undefined);
  return avro.Type.forSchema(JSON.parse(text), { typeHook });
}

/** CRC-64-AVRO of the canonical form, as it stands in a message. */
function fingerprint(type: Type): string {
  const EMPTY = 0xc15d213aa4d7a795n;
  let crc = EMPTY;
  for (const byte of Buffer.from(JSON.stringify(type.schema()))) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc >> 1n) ^ (crc & 1n ? EMPTY : 0n);
    }
  }
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(crc);
  return bytes.toString("hex");
}

/** Under the writer's schema: a newer version has fields more, an older one has fields less. */
function readBody(type: Type | undefined, wanted: string, body: Buffer): Outcome {
  if (!type) {
    throw new Unreadable(`no schema has the ${wanted}: written by a newer version?`);
  }
  const name = type.name ?? "no record";
  if (!RECORDS.includes(name)) {
    throw new Unreadable(`a record ${name}, which this program does not know`);
  }
  let read: { value: Outcome; offset: number };
  try {
    read = type.decode(body, 0) as { value: Outcome; offset: number };
  } catch (error) {
    // Whatever the bytes make the library throw.
    throw new Unreadable(`${name}: ${error}`);
  }
  if (read.offset < 0) {
    throw new Unreadable(`${name}: it ends too early`);
  }
  if (read.offset < body.length) {
    throw new Unreadable(`${name}: ${body.length - read.offset} bytes too many`);
  }
  return { ...read.value, record: name.slice(name.lastIndexOf(".") + 1) };
}

/** An outcome as one line of JSON, its members sorted. Times are microseconds since 1970. */
export function line(outcome: Outcome): string {
  const members = Object.entries(outcome).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = (value: Outcome[string]) => (typeof value === "bigint" ? value.toString() : JSON.stringify(value));
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${text(value)}`).join(",")}}`;
}
