/**
 * Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.
 *
 * At least once: an offset is committed after its outcome was handled, and what comes again is recognised by its event
 * id. Whoever writes to a database keeps the event ids there, under a unique index and in the transaction of what they
 * do about an outcome; then nothing has to be remembered here.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import kafkajs, { type KafkaConfig, type SASLOptions } from "kafkajs";
import { decompress, compress } from "lz4js";
import { Schemas, Unreadable, line } from "./schemas.js";

const { CompressionCodecs, CompressionTypes, Kafka, KafkaJSNonRetriableError, logLevel } = kafkajs;

// The projector compresses so, and this client does not bring it along.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder: { buffer: Buffer }) => Buffer.from(compress(encoder.buffer)),
  decompress: async (frame: Buffer) => Buffer.from(decompress(frame)),
});

/** A repetition comes soon after what it repeats: when a process died between publishing and noting it. */
const REMEMBERED = 100_000;

const env = (name: string) => process.env[name] || undefined;

/** How the services are told to sign in. */
function security(): Pick<KafkaConfig, "ssl" | "sasl"> {
  const protocol = env("KAFKA_SECURITY_PROTOCOL")?.toLowerCase() ?? "plaintext";
  const file = (name: string) => (env(name) ? readFileSync(env(name)!) : undefined);
  const ssl = protocol.endsWith("ssl") && {
    ca: file("KAFKA_SSL_CA_LOCATION"),
    cert: file("KAFKA_SSL_CERTIFICATE_LOCATION"),
    key: file("KAFKA_SSL_KEY_LOCATION"),
  };
  const sasl = {
    mechanism: env("KAFKA_SASL_MECHANISM")?.toLowerCase(),
    username: env("KAFKA_SASL_USERNAME"),
    password: env("KAFKA_SASL_PASSWORD"),
  } as SASLOptions;
  return protocol.startsWith("sasl") ? { ssl, sasl } : { ssl };
}

const { values: chosen } = parseArgs({
  options: {
    brokers: { type: "string", default: env("KAFKA_BROKERS") },
    topic: { type: "string", default: "seckill.order-outcomes.v1" },
    group: { type: "string", default: "outcomes-example" },
    schemas: { type: "string", default: "schemas" },
    registry: { type: "string", default: env("SCHEMA_REGISTRY_URL") },
    "schema-id": { type: "string", multiple: true, default: [] },
  },
});
if (!chosen.brokers) {
  throw new Error("set KAFKA_BROKERS or give --brokers");
}
const schemas = new Schemas(chosen.schemas, chosen.registry);
for (const pair of chosen["schema-id"]) {
  const [id, file] = pair.split("=", 2);
  schemas.put(Number(id), file);
}
const kafka = new Kafka({
  clientId: "outcomes-example",
  brokers: chosen.brokers.split(","),
  logLevel: logLevel.NOTHING,
  ...security(),
});
const consumer = kafka.consumer({ groupId: chosen.group, allowAutoTopicCreation: false });
const seen = new Set<string>();

async function handle(place: string, message: Buffer): Promise<void> {
  try {
    const outcome = await schemas.read(message);
    const id = String(outcome.event_id);
    if (!seen.has(id)) {
      console.log(line(outcome));
      seen.add(id);
      if (seen.size > REMEMBERED) {
        seen.delete(seen.values().next().value!);
      }
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) {
      // Not to be tried again here: the process ends, and nothing is passed over.
      throw new KafkaJSNonRetriableError(String(error));
    }
    console.error(`skipped ${place}: ${error.message}`);
  }
}

consumer.on(consumer.events.CRASH, ({ payload }) => {
  // The client mends by itself what it starts again after.
  console.error(payload.restart ? "going on after:" : "ended by:", payload.error.message);
  if (!payload.restart) {
    process.exitCode = 1;
    void consumer.disconnect();
  }
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => void consumer.disconnect());
}
await consumer.connect();
await consumer.subscribe({ topics: [chosen.topic], fromBeginning: true });
await consumer.run({
  // Offsets of what was handled; also when something fails.
  autoCommit: true,
  autoCommitInterval: 1_000,
  eachMessage: ({ topic, partition, message }) =>
    handle(`${topic}-${partition}@${message.offset}`, message.value ?? Buffer.alloc(0)),
});
