//! The settings that all Kafka clients of this project share.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaResult;

use crate::kafka::properties::Properties;
use crate::registry::SchemaRegistry;

/// How long a broker may delay the answer to a fetch that finds less than the least size. A partition that is
/// resumed takes part in the next fetch only: with the default, half a second, a busy partition would wait
/// that long at every pause. Without a least size a broker answers once for every batch of a producer.
const FETCH_WAIT_MAX_MS: &str = "20";
const FETCH_MIN_BYTES: &str = "65536";
/// How long a client that has fetched enough ahead rests before it fetches more. With the default, a second, whoever
/// reads a backlog would wait that long again and again: new records could come faster than the old ones are read.
const FETCH_REST_MS: &str = "5";

/// How the cluster is reached, and how long a record may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Bootstrap servers: `host:port`, separated by commas.
    pub brokers: String,
    /// The service's name. It is `client.id`, and `ce_source` of what the service writes.
    pub client_id: String,
    /// How long a record may wait for others to go along with it.
    pub linger: Duration,
    /// After this long without an ack it is unknown whether a record was written.
    pub delivery_timeout: Duration,
    /// How the client signs in, which certificates it trusts, and its other settings.
    pub properties: Properties,
    /// The schema registry. With one, the framing of what is written contains its ids.
    pub registry: Option<SchemaRegistry>,
}

impl KafkaSettings {
    /// The defaults: half a millisecond to linger, 5 s to deliver.
    #[must_use]
    pub fn new(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: client_id.into(),
            linger: Duration::from_micros(500),
            delivery_timeout: Duration::from_secs(5),
            properties: Properties::default(),
            registry: None,
        }
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // So that a client that waits notices that the other side is gone.
        config.set("socket.keepalive.enable", "true");
        self.properties.add_to(&mut config);
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A missing topic is an error that has to be reported: no client creates it.
            .set("allow.auto.create.topics", "false")
            // A change of a topic is noticed within seconds; the default is five minutes.
            .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
            // The default, 10 s, would make an outage after a broker's restart longer.
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// The further settings of every consumer. No reader waits for the end of a transaction: one that was left
    /// open must not hold back the records behind it, and all readers have to see the same records.
    pub(crate) fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config
            .set("isolation.level", "read_uncommitted")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("fetch.queue.backoff.ms", FETCH_REST_MS)
            // A position that the log does not have is an error, and must not be replaced silently.
            .set("auto.offset.reset", "error");
        config
    }

    /// The same for a consumer that follows a growing topic.
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
/// again until `deadline`: a partition that was just made or moved has no leader for a moment. The client keeps
/// what it was told, that there is no leader, and so it has to be told anew.
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
        if let Err(error) = client.fetch_metadata(Some(topic), left) {
            tracing::debug!(%error, topic, partition, "the leader is not told anew");
        }
        std::thread::sleep(RETRY);
    }
}
