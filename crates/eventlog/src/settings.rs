//! What every Kafka client of this project has in common.

use std::time::Duration;

use rdkafka::ClientConfig;

/// How the cluster is reached, and how long a record may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Bootstrap servers: `host:port`, separated by commas.
    pub brokers: String,
    /// The service's name. It is `client.id`, and `ce_source` of what the service writes.
    pub client_id: String,
    /// How long a record may wait for others to go along with it.
    pub linger: Duration,
    /// After this long without an ack a record's fate is unknown.
    pub delivery_timeout: Duration,
}

impl KafkaSettings {
    /// The defaults: 1 ms to linger, 5 s to deliver.
    #[must_use]
    pub fn new(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: client_id.into(),
            linger: Duration::from_millis(1),
            delivery_timeout: Duration::from_secs(5),
        }
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A topic that is missing is a mistake to be reported, not to be covered up.
            .set("allow.auto.create.topics", "false")
            // The default, 10 s, is an outage on top of a broker's restart.
            .set("reconnect.backoff.max.ms", "1000");
        config
    }
}
