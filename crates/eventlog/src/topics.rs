//! The three topics: their names, how they are made, and the check of their partitions.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

use crate::settings::KafkaSettings;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
const VISIBLE_PERIOD: Duration = Duration::from_millis(50);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
const OUTCOME_RETENTION_MS: &str = "604800000";
/// A dead letter is the original and the headers that say why: larger than what was refused.
pub(crate) const DEAD_LETTER_MAX_BYTES: &str = "2097152";

/// The topics' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Every fact, keyed by voucher id.
    pub events: String,
    /// What was decided, keyed by order id.
    pub outcomes: String,
    /// What could not be decoded or applied.
    pub dead_letters: String,
}

impl Topics {
    /// The names behind a prefix, which is empty but for deployments that share a cluster.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            events: format!("{prefix}seckill.order-events.v1"),
            outcomes: format!("{prefix}seckill.order-outcomes.v1"),
            dead_letters: format!("{prefix}seckill.order-events.v1.dlq"),
        }
    }
}

/// Why a topic cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster did not answer, or refused.
    #[error("the Kafka cluster cannot be asked about topics")]
    Client(#[from] KafkaError),
    /// The cluster refused to make it.
    #[error("topic {topic} cannot be created: {code}")]
    NotCreated {
        /// Its name.
        topic: String,
        /// The broker's reason.
        code: RDKafkaErrorCode,
    },
    /// It is not there.
    #[error("topic {topic} is missing: create it with `seckillctl topics create`")]
    Missing {
        /// Its name.
        topic: String,
    },
    /// Its number of partitions is not what the keys were spread over.
    #[error(
        "topic {topic} has {actual} partitions, and EVENT_PARTITIONS is {expected}: every voucher's \
         place depends on that number; {}",
        advice(*actual, *expected)
    )]
    Partitions {
        /// Its name.
        topic: String,
        /// How many it has.
        actual: i32,
        /// How many it should have.
        expected: i32,
    },
}

fn advice(actual: i32, expected: i32) -> String {
    let set = "set EVENT_PARTITIONS to what the topic was created with";
    if actual < expected {
        return set.to_owned();
    }
    format!(
        "{set}. If partitions were added since, Kafka cannot take them away: services that run go on, \
         in the first {expected}, and lose nothing; before they are started again, move the log as \
         ops/runbooks/topics.md says"
    )
}

impl TopicError {
    /// Whether it stays until somebody changes a setting; a cluster that has just started may not
    /// know its topics yet.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Partitions { .. })
    }
}

/// Makes the topics that are not there yet, and waits until they can be used; those that are there
/// stay as they are.
///
/// # Errors
/// [`TopicError::Client`] and [`TopicError::NotCreated`].
pub async fn create_topics(
    settings: &KafkaSettings,
    topics: &Topics,
    partitions: i32,
    replication: i32,
) -> Result<(), TopicError> {
    let admin = AdminClient::<DefaultClientContext>::from_config(&settings.client_config())?;
    let in_sync = (replication - 1).max(1).to_string();
    let topic = |name, partitions| {
        NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
            .set("cleanup.policy", "delete")
            .set("min.insync.replicas", &in_sync)
    };
    let wanted = [
        topic(&topics.events, partitions).set("retention.ms", "-1"),
        topic(&topics.outcomes, partitions).set("retention.ms", OUTCOME_RETENTION_MS),
        topic(&topics.dead_letters, 1)
            .set("retention.ms", "-1")
            .set("max.message.bytes", DEAD_LETTER_MAX_BYTES),
    ];
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
    for result in admin.create_topics(&wanted, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::NotCreated { topic, code }),
        }
    }
    until_visible(settings, topics, partitions).await
}

/// Brokers learn of a new topic a moment after the controller has made it.
async fn until_visible(
    settings: &KafkaSettings,
    topics: &Topics,
    partitions: i32,
) -> Result<(), TopicError> {
    let deadline = tokio::time::Instant::now() + VISIBLE_TIMEOUT;
    loop {
        match check_partitions(settings, topics, partitions).await {
            Err(TopicError::Missing { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(VISIBLE_PERIOD).await;
            }
            // A topic that was there already may have another number of partitions: not this
            // call's concern.
            Err(TopicError::Partitions { .. }) => return Ok(()),
            other => return other,
        }
    }
}

/// Checks that the topics are there, and that the event topic has the number of partitions that
/// the services were told.
///
/// # Errors
/// [`TopicError::Missing`], [`TopicError::Partitions`], [`TopicError::Client`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn check_partitions(
    settings: &KafkaSettings,
    topics: &Topics,
    expected: i32,
) -> Result<(), TopicError> {
    let client: BaseConsumer = settings.client_config().create()?;
    let topics = topics.clone();
    let check = move || {
        let actual = partition_count(&client, &topics.events)?;
        if actual != expected {
            return Err(TopicError::Partitions {
                topic: topics.events,
                actual,
                expected,
            });
        }
        partition_count(&client, &topics.outcomes)?;
        partition_count(&client, &topics.dead_letters)?;
        Ok(())
    };
    tokio::task::spawn_blocking(check)
        .await
        .unwrap_or(Err(TopicError::Client(KafkaError::Canceled)))
}

/// Blocks until a broker has answered.
pub(crate) fn partition_count(client: &BaseConsumer, topic: &str) -> Result<i32, TopicError> {
    let metadata = client.fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let count = found.map_or(0, |t| t.partitions().len());
    if count == 0 {
        return Err(TopicError::Missing {
            topic: topic.to_owned(),
        });
    }
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}
