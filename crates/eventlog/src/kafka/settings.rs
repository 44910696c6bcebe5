//! What every Kafka client of this project has in common.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaResult;

use crate::kafka::properties::Properties;
use crate::registry::SchemaRegistry;

/// How long a broker may keep a fetch that finds less than is worth an answer. A partition that is resumed
/// joins the next fetch only: with the default, half a second, a busy partition would stand still that long
/// at every pause. Without a least size a busy log answers for every batch that a producer brings.
const FETCH_WAIT_MAX_MS: &str = "20";
const FETCH_MIN_BYTES: &str = "65536";

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
    /// How the client signs in, whom it trusts, and whatever else is set of it.
    pub properties: Properties,
    /// Where the schemas' ids are known. With one, they stand in the framing of what is written.
    pub registry: Option<SchemaRegistry>,
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
            properties: Properties::default(),
            registry: None,
        }
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Whoever waits finds out that the other side is gone.
        config.set("socket.keepalive.enable", "true");
        self.properties.add_to(&mut config);
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A topic that is missing is a mistake to be reported, not to be covered up.
            .set("allow.auto.create.topics", "false")
            // What somebody did to a topic shows within seconds; the default is five minutes.
            .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
            // The default, 10 s, is an outage on top of a broker's restart.
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// What every consumer has beyond that. A transaction that somebody left open must not hold back
    /// what stands behind it, and what one reader sees all have to see: nobody waits for its end.
    pub(crate) fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config
            .set("isolation.level", "read_uncommitted")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A position that the log does not have must not be mended in silence.
            .set("auto.offset.reset", "error");
        config
    }

    /// The same of a consumer that follows a topic as it grows.
    pub(crate) fn following_config(&self) -> ClientConfig {
        let mut config = self.consumer_config();
        config
            .set("fetch.min.bytes", FETCH_MIN_BYTES)
            .set("fetch.wait.max.ms", FETCH_WAIT_MAX_MS);
        config
    }
}

const METADATA_REFRESH_MS: &str = "5000";
const RETRY: Duration = Duration::from_millis(50);

/// Asks a partition's leader for its ends: the oldest offset, and the one after the newest. Asks
/// again until `deadline`: a partition that was just made or moved has no leader for a moment.
pub(crate) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
    deadline: Instant,
) -> KafkaResult<(i64, i64)> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let found = client.fetch_watermarks(topic, partition, left);
        if found.is_ok() || left <= RETRY {
            return found;
        }
        std::thread::sleep(RETRY);
    }
}
