"""Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.

At least once: an offset is stored after its outcome was handled, and what comes again is recognised by its event id.
Whoever writes to a database keeps the event ids there, under a unique index and in the transaction of what they do
about an outcome; then nothing has to be remembered here.
"""

import argparse
import base64
import io
import json
import os
import signal
import ssl
import sys
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException
from fastavro.schema import fingerprint, to_parsing_canonical_form

POLL_SECONDS = 0.2
REGISTRY_TIMEOUT_SECONDS = 10
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# A repetition comes soon after what it repeats: when a process died between publishing and noting it.
REMEMBERED = 100_000

# The records of this topic. One of another name is newer than this program.
RECORDS = {"seckill.v1.OrderOutcome", "seckill.v1.SaleOutcome", "seckill.v1.RefundDue"}

# The client mends what it can by itself; these are for people.
HOPELESS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


class Unreadable(Exception):
    """A message that this program does not know, and why. Reading it again would end the same."""


class Schemas:
    """The schemas that messages may be written under, by both of their names."""

    def __init__(self, directory: Path, registry: str | None, login: str | None):
        """Loads every .avsc file under the directory: old versions stand beside new ones in the topic."""
        self.registry = registry
        self.login = login
        # The system's trust, unless a file says otherwise.
        self.trust = ssl.create_default_context(cafile=os.environ.get("SCHEMA_REGISTRY_SSL_CA_LOCATION"))
        self.by_id = {}
        self.by_fingerprint = {}
        for path in directory.rglob("*.avsc"):
            schema = parse(path.read_text())
            rabin = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
            self.by_fingerprint[bytes.fromhex(rabin)] = schema
        if not self.by_fingerprint:
            raise SystemExit(f"no schemas in {directory}")

    def read(self, message: bytes) -> dict:
        """An outcome's fields and its record's name. Raises Unreadable; another error is none of the message's."""
        if message[:2] == b"\xc3\x01" and len(message) >= 10:
            # Avro's single-object encoding: C3 01, the schema's fingerprint, the body.
            schema, wanted = self.by_fingerprint.get(message[2:10]), f"fingerprint {message[2:10].hex()}"
            body = message[10:]
        elif message[:1] == b"\x00" and len(message) >= 5:
            # Confluent's framing: 00, the schema's id in the registry, the body.
            number = int.from_bytes(message[1:5], "big")
            schema, wanted = self.of_id(number), f"id {number}"
            body = message[5:]
        else:
            raise Unreadable("neither of the two framings")
        if schema is None:
            raise Unreadable(f"no schema has the {wanted}: written by a newer version?")
        return read_body(schema, body)

    def of_id(self, number: int) -> dict | None:
        if number not in self.by_id and self.registry:
            url = f"{self.registry.rstrip('/')}/schemas/ids/{number}"
            request = urllib.request.Request(url)
            if self.login:
                request.add_header("Authorization", "Basic " + base64.b64encode(self.login.encode()).decode())
            try:
                with urllib.request.urlopen(request, context=self.trust, timeout=REGISTRY_TIMEOUT_SECONDS) as answer:
                    self.by_id[number] = parse(json.load(answer)["schema"])
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
        return self.by_id.get(number)


def parse(text: str) -> dict:
    return fastavro.parse_schema(json.loads(text))


def read_body(schema: dict, body: bytes) -> dict:
    """Reads under the writer's schema: a newer version has fields more, an older one has fields less."""
    if schema["name"] not in RECORDS:
        raise Unreadable(f"a record {schema['name']!r}, which this program does not know")
    stream = io.BytesIO(body)
    try:
        fields = fastavro.schemaless_reader(stream, schema)
    except Exception as error:  # Whatever the bytes make the library raise.
        raise Unreadable(f"{schema['name']}: {error!r}") from error
    if rest := stream.read():
        raise Unreadable(f"{schema['name']}: {len(rest)} bytes too many")
    return {"record": schema["name"].rpartition(".")[2], **fields}


def to_json(value: object) -> str | int:
    """What JSON has no type for: ids as text, times as microseconds since 1970."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    raise TypeError(f"{value!r} has no place in JSON")


def consume(consumer: Consumer, schemas: Schemas, is_stopped) -> None:
    seen = {}  # Keys in the order of their arrival.
    while not is_stopped():
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        if error := message.error():
            if error.fatal() or error.code() in HOPELESS:
                raise KafkaException(error)
            print(f"going on after: {error}", file=sys.stderr)
            continue
        try:
            outcome = schemas.read(message.value() or b"")
            if outcome["event_id"] not in seen:
                line = json.dumps(outcome, default=to_json, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                print(line, flush=True)
                seen[outcome["event_id"]] = True
                if len(seen) > REMEMBERED:
                    del seen[next(iter(seen))]
        except Unreadable as why:
            place = f"{message.topic()}-{message.partition()}@{message.offset()}"
            print(f"skipped {place}: {why}", file=sys.stderr, flush=True)
        consumer.store_offsets(message)


# How the services are told to sign in, and librdkafka's names for that.
SECURITY = {
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SASL_MECHANISM": "sasl.mechanism",
    "KAFKA_SASL_USERNAME": "sasl.username",
    "KAFKA_SASL_PASSWORD": "sasl.password",
    "KAFKA_SSL_CA_LOCATION": "ssl.ca.location",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "ssl.certificate.location",
    "KAFKA_SSL_KEY_LOCATION": "ssl.key.location",
}


def schema_id(text: str) -> tuple[int, Path]:
    number, _, file = text.partition("=")
    return int(number), Path(file)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    env = os.environ.get
    parser.add_argument("--brokers", default=env("KAFKA_BROKERS"), help="bootstrap servers [$KAFKA_BROKERS]")
    parser.add_argument("--topic", default="seckill.order-outcomes.v1", help="with the deployment's prefix")
    parser.add_argument("--group", default="outcomes-example", help="its members share the partitions")
    parser.add_argument("--schemas", type=Path, default="schemas", help="directory of the Avro schemas, all versions")
    parser.add_argument(
        "--registry", default=env("SCHEMA_REGISTRY_URL"), help="asked for schemas by id [$SCHEMA_REGISTRY_URL]"
    )
    parser.add_argument(
        "--schema-id",
        metavar="ID=FILE",
        type=schema_id,
        action="append",
        default=[],
        help="the schema of an id, where there is no registry to ask; may be repeated",
    )
    chosen = parser.parse_args()
    if not chosen.brokers:
        parser.error("set KAFKA_BROKERS or give --brokers")
    return chosen


def main() -> None:
    chosen = options()
    user, password = (os.environ.get(f"SCHEMA_REGISTRY_{half}") for half in ("USERNAME", "PASSWORD"))
    schemas = Schemas(chosen.schemas, chosen.registry, f"{user}:{password}" if user and password else None)
    for number, file in chosen.schema_id:
        schemas.by_id[number] = parse(file.read_text())
    consumer = Consumer(
        {
            "bootstrap.servers": chosen.brokers,
            "client.id": "outcomes-example",
            "group.id": chosen.group,
            "auto.offset.reset": "earliest",
            # Commits what was stored, every few seconds and at the end; stored is what was handled.
            "enable.auto.commit": True,
            "enable.auto.offset.store": False,
            "partition.assignment.strategy": "cooperative-sticky",
            **{name: os.environ[variable] for variable, name in SECURITY.items() if os.environ.get(variable)},
        }
    )
    consumer.subscribe([chosen.topic])
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    try:
        consume(consumer, schemas, lambda: stopped)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
