//! Reads what was decided of orders and sales, and prints it: one line of JSON an outcome.
//!
//! At least once: an offset is stored after its outcome was handled, and what comes again is recognised by its
//! event id. Whoever writes to a database keeps the event ids there, under a unique index and in the transaction
//! of what they do about an outcome; then nothing has to be remembered here.

mod schemas;

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message};
use tokio::signal::unix::{SignalKind, signal};

use crate::schemas::{Reading, Schemas};

const POLL: Duration = Duration::from_millis(200);

/// A repetition comes soon after what it repeats: when a process died between publishing and noting it.
const REMEMBERED: usize = 100_000;

/// How the services are told to sign in, and librdkafka's names for that.
const SECURITY: [(&str, &str); 7] = [
    ("KAFKA_SECURITY_PROTOCOL", "security.protocol"),
    ("KAFKA_SASL_MECHANISM", "sasl.mechanism"),
    ("KAFKA_SASL_USERNAME", "sasl.username"),
    ("KAFKA_SASL_PASSWORD", "sasl.password"),
    ("KAFKA_SSL_CA_LOCATION", "ssl.ca.location"),
    ("KAFKA_SSL_CERTIFICATE_LOCATION", "ssl.certificate.location"),
    ("KAFKA_SSL_KEY_LOCATION", "ssl.key.location"),
];

#[derive(Parser)]
struct Options {
    /// Bootstrap servers, `host:port[,host:port…]`
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// The outcome topic, with the deployment's prefix if it has one
    #[arg(long, default_value = "seckill.order-outcomes.v1")]
    topic: String,
    /// The consumer group: its members share the partitions
    #[arg(long, default_value = "outcomes-example")]
    group: String,
    /// Directory of the Avro schemas, all versions
    #[arg(long, default_value = "schemas")]
    schemas: PathBuf,
    /// Where to ask for schemas by id, if messages are in Confluent's framing
    #[arg(long, env = "SCHEMA_REGISTRY_URL")]
    registry: Option<String>,
    /// `ID=FILE`: the schema of an id, where there is no registry to ask. May be repeated
    #[arg(long = "schema-id", value_parser = schema_id)]
    schema_ids: Vec<(u32, PathBuf)>,
}

fn schema_id(text: &str) -> Result<(u32, PathBuf)> {
    let (id, file) = text.split_once('=').context("not ID=FILE")?;
    Ok((id.parse().context("not a number")?, file.into()))
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut schemas = Schemas::load(&options.schemas)?;
    for (id, file) in &options.schema_ids {
        schemas.insert_id(*id, file)?;
    }
    if let Some(url) = &options.registry {
        schemas.ask(url);
    }
    let mut config = ClientConfig::new();
    for (variable, name) in SECURITY {
        if let Ok(value) = std::env::var(variable)
            && !value.is_empty()
        {
            config.set(name, value);
        }
    }
    let consumer: BaseConsumer = config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "outcomes-example")
        .set("group.id", &options.group)
        .set("auto.offset.reset", "earliest")
        // Commits what was stored, every few seconds and at the end; stored is what was handled.
        .set("enable.auto.commit", "true")
        .set("enable.auto.offset.store", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()?;
    consumer.subscribe(&[&options.topic])?;

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    // The client's poll blocks: a thread of its own.
    let mut work = tokio::task::spawn_blocking(move || consume(&consumer, &mut schemas, &stopped));
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = &mut work => return ended?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    stop.store(true, Ordering::Relaxed);
    work.await?
}

fn consume(consumer: &BaseConsumer, schemas: &mut Schemas, stopped: &AtomicBool) -> Result<()> {
    let mut seen = Seen::default();
    while !stopped.load(Ordering::Relaxed) {
        let message = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                go_on_after(error)?;
                continue;
            }
        };
        match schemas.read(message.payload().unwrap_or_default())? {
            Reading::Outcome { event_id, json } => {
                if seen.is_new(event_id) {
                    writeln!(std::io::stdout(), "{json}")?;
                }
            }
            Reading::Unreadable(why) => {
                let (topic, partition) = (message.topic(), message.partition());
                eprintln!("skipped {topic}-{partition}@{}: {why}", message.offset());
            }
        }
        consumer.store_offset_from_message(&message)?;
    }
    Ok(())
}

/// The client mends what it can by itself; the rest is for people.
fn go_on_after(error: KafkaError) -> Result<()> {
    use RDKafkaErrorCode::{
        GroupAuthorizationFailed, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition,
    };
    match error {
        KafkaError::MessageConsumption(code) => {
            if let UnknownTopic
            | UnknownTopicOrPartition
            | TopicAuthorizationFailed
            | GroupAuthorizationFailed = code
            {
                bail!("{code}: is --topic right?");
            }
            eprintln!("going on after: {code}");
            Ok(())
        }
        fatal => Err(fatal.into()),
    }
}

/// The last so many event ids.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, event_id: String) -> bool {
        if !self.ids.insert(event_id.clone()) {
            return false;
        }
        self.oldest_first.push_back(event_id);
        if self.oldest_first.len() > REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
