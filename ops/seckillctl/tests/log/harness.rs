//! A pipeline's topics and database, without its services.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use seckill_domain::{
    Epoch, Event, EventBody, EventId, Money, Offset, OrderId, SaleScheduled, SeckillReserved,
    Terms, Timestamp, Title, TraceParent, UserId, VoucherId,
};
use seckill_eventlog::{
    EventProducer, Headers, KafkaSettings, Record, Topics, create_topics, read_all,
};
use seckill_orderbook::{Orderbook, OrderbookOptions, View};
use seckill_testkit::{Database, fresh_database, shared_kafka, unique_prefix};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

pub(crate) struct CliWorld {
    prefix: String,
    partitions: i32,
    settings: KafkaSettings,
    database: Database,
    pub(crate) topics: Topics,
    pub(crate) producer: EventProducer,
    pub(crate) book: Orderbook,
    pub(crate) sql: PgPool,
}

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    async fn of(mut command: Command) -> Self {
        let ran = tokio::task::spawn_blocking(move || command.output());
        let Output {
            status,
            stdout,
            stderr,
        } = ran.await.unwrap().unwrap();
        Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl CliWorld {
    pub(crate) async fn new(partitions: i32) -> Self {
        let servers = || (shared_kafka().unwrap(), fresh_database().unwrap());
        let (brokers, database) = tokio::task::spawn_blocking(servers).await.unwrap();
        let prefix = unique_prefix();
        let topics = Topics::new(&prefix);
        let settings = KafkaSettings {
            delivery_timeout: SOON,
            ..KafkaSettings::new(brokers, "test")
        };
        create_topics(&settings, &topics, partitions, 1)
            .await
            .unwrap();
        let book = Orderbook::connect(&OrderbookOptions {
            database_url: database.url(),
            application_name: "test".to_owned(),
            max_connections: 2,
            holds_connections: false,
            acquire_timeout: SOON,
            statement_timeout: SOON,
            idle_transaction_timeout: SOON,
        });
        let book = book.unwrap();
        book.migrate().await.unwrap();
        Self {
            producer: EventProducer::new(&settings, &topics, partitions).unwrap(),
            sql: PgPool::connect(&database.url()).await.unwrap(),
            prefix,
            partitions,
            settings,
            database,
            topics,
            book,
        }
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.settings.brokers
    }

    pub(crate) fn database_url(&self) -> String {
        self.database.url()
    }

    /// Writes an event and returns where it stands.
    pub(crate) async fn write(&self, event: &Event, trace: Option<TraceParent>) -> (i32, Offset) {
        let sent = self.producer.send_event(event, trace).unwrap();
        let delivered = sent.await.unwrap();
        (delivered.partition, delivered.offset)
    }

    /// Writes many events at once, in their order.
    pub(crate) async fn write_all(&self, events: impl Iterator<Item = Event>) {
        let send = |event| self.producer.send_event(&event, None).unwrap();
        for delivery in events.map(send).collect::<Vec<_>>() {
            delivery.await.unwrap();
        }
    }

    /// Writes a record under a sale's key that says nothing.
    pub(crate) async fn write_garbage(&self, sale: VoucherId) {
        let record = Record {
            partition: 0,
            offset: Offset::new(0),
            key: Some(sale.to_string().into_bytes()),
            payload: Some(b"?".to_vec()),
            headers: Headers::default(),
            timestamp_ms: None,
        };
        let sent = self.producer.send_copy(&self.topics.events, &record);
        sent.unwrap().await.unwrap();
    }

    /// Writes any record into its partition, and says where it stands.
    pub(crate) async fn write_record(&self, record: &Record) -> Offset {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .create()
            .unwrap();
        let headers = record.headers.iter().flatten();
        let headers = headers.fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value })
        });
        let mut sent = FutureRecord::<[u8], [u8]>::to(&self.topics.events)
            .partition(record.partition)
            .headers(headers);
        sent.key = record.key.as_deref();
        sent.payload = record.payload.as_deref();
        Offset::new(producer.send(sent, SOON).await.unwrap().offset)
    }

    /// All that is in a topic.
    pub(crate) async fn read(&self, topic: &str) -> Vec<Record> {
        read_all(&self.settings, topic, SOON).await.unwrap()
    }

    /// Topics of somebody else's.
    pub(crate) async fn other_topics(&self) -> Topics {
        let topics = Topics::new(&unique_prefix());
        let made = create_topics(&self.settings, &topics, self.partitions, 1);
        made.await.unwrap();
        topics
    }

    /// Folds what the log has and the tables have not, as the projector does.
    pub(crate) async fn fold(&self) {
        let records = self.read(&self.topics.events).await;
        for partition in 0..self.partitions {
            let topic = &self.topics.events;
            let at = self.book.positions(topic, &[partition], View::Orders).await;
            let from = at.unwrap()[0].1;
            let of_partition = records.iter().filter(|r| r.partition == partition);
            let new: Vec<_> = of_partition.filter(|r| r.offset >= from).collect();
            let Some(last) = new.last() else { continue };
            let to = last.offset.next();
            let new: Vec<_> = new.into_iter().cloned().collect();
            let batch = Record::batch(&new, self.partitions, to);
            let skips = self
                .book
                .skip_decisions(topic, partition, from)
                .await
                .unwrap();
            let applied = self.book.apply(topic, partition, from, &batch, &skips);
            applied.await.unwrap();
        }
    }

    /// `seckillctl` with this pipeline's settings and nobody at the keyboard.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments)).await
    }

    /// The same where nobody reads what it prints.
    pub(crate) async fn run_unread(&self, arguments: &[&str]) -> Ran {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = self.command(arguments);
        command.stdout(writer);
        Ran::of(command).await
    }

    /// The same, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seckillctl"));
        command
            .args(arguments)
            .env_clear()
            .env("KAFKA_BROKERS", &self.settings.brokers)
            .env("TOPIC_PREFIX", &self.prefix)
            .env("EVENT_PARTITIONS", self.partitions.to_string())
            .env("DATABASE_URL", self.database.url())
            .stdin(Stdio::null());
        command
    }

    /// The same in JSON, of a command that succeeds.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--output", "json"]].concat()).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Actor, reason and affected count of every row of the audit.
    pub(crate) async fn audit(&self) -> Vec<(String, String, i64)> {
        let rows = "SELECT actor, reason, affected FROM ops_audit ORDER BY id";
        sqlx::query_as(rows).fetch_all(&self.sql).await.unwrap()
    }
}

pub(crate) fn voucher(number: i64) -> VoucherId {
    VoucherId::new(number).unwrap()
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

pub(crate) fn euros(cents: i64) -> Money {
    Money::new(cents, "EUR".parse().unwrap()).unwrap()
}

pub(crate) fn event(voucher_id: VoucherId, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id,
        occurred_at: Timestamp::from_micros(1_781_784_000_000_000),
        body,
    }
}

/// A sale of five units.
pub(crate) fn scheduled(voucher_id: VoucherId) -> Event {
    let terms = Terms {
        title: Title::new("Night train").unwrap(),
        price: euros(100),
        stock: 5,
        max_quantity: 2,
        opens_at: Timestamp::from_micros(0),
        closes_at: Timestamp::from_micros(1),
        hold_seconds: 60,
        requires_sale_token: false,
    };
    event(
        voucher_id,
        EventBody::SaleScheduled(SaleScheduled { terms }),
    )
}

/// The voucher's `number`-th order, of one unit at 100 cents.
pub(crate) fn order(voucher_id: VoucherId, number: u64) -> OrderId {
    OrderId::from_parts(voucher_id, 1, number)
}

pub(crate) fn reserved(order_id: OrderId, user_id: UserId) -> Event {
    let body = SeckillReserved {
        order_id,
        user_id,
        quantity: 1,
        price: euros(100),
        pay_by: Timestamp::from_micros(1_781_784_960_000_000),
        epoch: Epoch::FIRST,
        key_hash: None,
    };
    event(order_id.voucher_id(), EventBody::SeckillReserved(body))
}
