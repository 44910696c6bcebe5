//! What an operator sets of the Kafka client itself.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

/// The design sets these, or depends on their defaults.
const OURS: [&str; 51] = [
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "compression.codec",
    "compression.type",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sasl.mechanisms",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "statistics.interval.ms",
    "test.mock.broker.rtt",
    "test.mock.num.brokers",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
    "transaction.timeout.ms",
    "transactional.id",
];

/// librdkafka's settings by their names, also secret ones: how a client signs in, which certificates it trusts,
/// and every other setting that the design leaves open.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// Names without values: some are secret.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Properties {
    /// Sets one, if librdkafka knows it and the design does not need a certain value.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if OURS.contains(&name) {
            return Err(format!("{name} is part of the design and cannot be set"));
        }
        let mut alone = ClientConfig::new();
        alone.set(name, value);
        if let Err(error) = alone.create_native_config() {
            return Err(without_value(error, name));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Checks that a client can be made with all of them: that they fit together, and that the files that they
    /// name can be read.
    ///
    /// # Errors
    /// What is wrong with them, without their values.
    pub fn check(&self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut config = ClientConfig::new();
        self.add_to(&mut config);
        let client: Result<BaseConsumer, KafkaError> = config.create();
        client
            .map(drop)
            .map_err(|error| without_value(error, "a setting of the Kafka client"))
    }

    pub(crate) fn add_to(&self, config: &mut ClientConfig) {
        for (name, value) in &self.0 {
            config.set(name, value);
        }
    }
}

/// The error text of the client may contain a value.
fn without_value(error: KafkaError, name: &str) -> String {
    match error {
        KafkaError::ClientConfig(..) => format!("librdkafka does not take it as {name}"),
        KafkaError::ClientCreation(why) => why,
        _ => format!("librdkafka refuses {name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_the_design_sets_is_refused_by_name() {
        let mut properties = Properties::default();
        for name in OURS {
            let why = properties.set(name, "1").unwrap_err();
            assert!(why.contains(name), "{why}");
        }
        assert_eq!(properties, Properties::default());
        properties.set("socket.nagle.disable", "true").unwrap();
        properties.check().unwrap();
    }

    #[test]
    fn everything_that_the_clients_set_is_among_what_is_refused() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let entries = |folder| {
            std::fs::read_dir(folder)
                .unwrap()
                .map(|e| e.unwrap().path())
        };
        let rooms = entries(sources).filter(|path| path.is_dir());
        let mut found = 0;
        for file in rooms.flat_map(entries) {
            let text = std::fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for set in code.split(".set(\"").skip(1) {
                let name = set.split('"').next().unwrap();
                assert!(OURS.contains(&name), "{name}");
                found += 1;
            }
        }
        assert!(found > 20, "{found}");
    }

    #[test]
    fn what_librdkafka_does_not_take_is_told_without_the_value() {
        let mut properties = Properties::default();
        for name in ["no.such.setting", "security.protocol"] {
            let why = properties.set(name, "hunter2").unwrap_err();
            assert!(why.contains(name) && !why.contains("hunter2"), "{why}");
        }
        properties.set("security.protocol", "ssl").unwrap();
        properties.set("ssl.key.password", "hunter2").unwrap();
        properties.set("ssl.ca.location", "/nowhere").unwrap();
        let why = properties.check().unwrap_err();
        assert!(why.contains("ssl.ca.location"), "{why}");
        assert!(!format!("{why}{properties:?}").contains("hunter2"));
    }
}
