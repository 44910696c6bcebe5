//! The topics: their names, how they are created, and the check of existing ones.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

use crate::kafka::settings::KafkaSettings;
use crate::kafka::topic_settings::{Role, TopicFault, Values, describe, faults, pinned};
use crate::kafka::witness::{Witness, metadata};

const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
const VISIBLE_PERIOD: Duration = Duration::from_millis(50);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// The topics' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Every fact, keyed by voucher id.
    pub events: String,
    /// What was decided, keyed by order id.
    pub outcomes: String,
    /// The last decision about every order, keyed by order id, and compacted.
    pub states: String,
    /// What could not be decoded or applied.
    pub dead_letters: String,
}

impl Topics {
    /// The names with a prefix. It is empty unless several deployments share a cluster.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            events: format!("{prefix}seckill.order-events.v1"),
            outcomes: format!("{prefix}seckill.order-outcomes.v1"),
            states: format!("{prefix}seckill.order-states.v1"),
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
    /// No broker can be reached, or none accepts this client.
    #[error("the Kafka cluster cannot be asked about topics: {cause}")]
    Away {
        /// The client's error about the last connection that failed.
        cause: String,
        /// What could not be done because of it.
        #[source]
        error: KafkaError,
    },
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
    /// Its number of partitions is not the number by which the keys were distributed.
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
    /// Settings of topics could lose records, or refuse them.
    #[error(
        "the topics' settings could lose or refuse records:\n{}",
        describe(brokers, faults)
    )]
    Settings {
        /// Where the topics are.
        brokers: String,
        /// What is wrong, topic by topic.
        faults: Vec<TopicFault>,
    },
    /// The cluster does not tell a topic's settings.
    #[error(
        "the settings of topic {topic} cannot be read: {code}; allow this client DESCRIBE_CONFIGS on it"
    )]
    SettingsUnknown {
        /// Its name.
        topic: String,
        /// The broker's reason.
        code: RDKafkaErrorCode,
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
         docs/topics.md says"
    )
}

impl TopicError {
    /// Whether it lasts until somebody changes a setting. A missing topic may not last: a cluster that has just
    /// started may not know its topics yet.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Partitions { .. } | Self::Settings { .. })
    }
}

/// Makes the topics that are not there yet, with everything that the design needs, and waits until they
/// can be used; those that are there stay as they are.
///
/// # Errors
/// [`TopicError::Client`] and [`TopicError::NotCreated`].
pub async fn create_topics(
    settings: &KafkaSettings,
    topics: &Topics,
    partitions: i32,
    replication: i32,
) -> Result<(), TopicError> {
    let witness = Witness::default();
    let config = settings.client_config();
    let admin = AdminClient::from_config_and_context(&config, witness.clone())?;
    let replicas = usize::try_from(replication).unwrap_or(1);
    let pins = Role::ALL.map(|role| (role, pinned(role, replicas)));
    let wanted = pins.each_ref().map(|(role, pins)| {
        let partitions = match role {
            Role::Events | Role::Outcomes | Role::States => partitions,
            Role::DeadLetters => 1,
        };
        let replication = TopicReplication::Fixed(replication);
        let topic = NewTopic::new(role.topic(topics), partitions, replication);
        pins.iter()
            .fold(topic, |topic, (name, value)| topic.set(name, value))
    });
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
    let made = admin.create_topics(&wanted, &options).await;
    for result in made.map_err(|error| witness.explain(error))? {
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
        match shapes(settings, topics, partitions).await {
            Err(TopicError::Missing { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(VISIBLE_PERIOD).await;
            }
            // A topic that was there already may have another number of partitions: not this
            // call's concern.
            Ok(_) | Err(TopicError::Partitions { .. }) => return Ok(()),
            Err(other) => return Err(other),
        }
    }
}

/// Checks that the topics are there, that the event topic has the number of partitions that the
/// services were told, and that no setting could lose records or refuse them.
///
/// # Errors
/// [`TopicError`], but for [`TopicError::NotCreated`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn check_topics(
    settings: &KafkaSettings,
    topics: &Topics,
    partitions: i32,
) -> Result<(), TopicError> {
    let shapes = shapes(settings, topics, partitions).await?;
    let admin = AdminClient::<DefaultClientContext>::from_config(&settings.client_config())?;
    let mut found = Vec::new();
    for (role, shape) in Role::ALL.into_iter().zip(shapes) {
        let topic = role.topic(topics);
        let values = values(&admin, topic).await?;
        found.extend(faults(role, topic, &values, shape.replicas));
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(TopicError::Settings {
        brokers: settings.brokers.clone(),
        faults: found,
    })
}

/// A topic's settings, the broker's defaults among them. The broker that answers may learn of a new topic
/// a moment after the one that was asked for its partitions.
async fn values(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> Result<Values, TopicError> {
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let deadline = tokio::time::Instant::now() + VISIBLE_TIMEOUT;
    loop {
        let asked = [ResourceSpecifier::Topic(topic)];
        let told = admin.describe_configs(&asked, &options).await?;
        match told.into_iter().next() {
            Some(Ok(told)) => {
                let entries = told.entries.into_iter();
                return Ok(entries.filter_map(|e| Some((e.name, e.value?))).collect());
            }
            Some(Err(code)) => {
                let is_new = code == RDKafkaErrorCode::UnknownTopicOrPartition;
                if !is_new || tokio::time::Instant::now() >= deadline {
                    let topic = topic.to_owned();
                    return Err(TopicError::SettingsUnknown { topic, code });
                }
            }
            None => return Err(TopicError::Client(KafkaError::Canceled)),
        }
        tokio::time::sleep(VISIBLE_PERIOD).await;
    }
}

/// A topic in the cluster's metadata.
#[derive(Debug, Clone, Copy)]
struct Shape {
    partitions: i32,
    /// The number of replicas of the partition that has the fewest.
    replicas: usize,
}

/// Of all topics, as [`Role::ALL`] has them.
async fn shapes(
    settings: &KafkaSettings,
    topics: &Topics,
    expected: i32,
) -> Result<[Shape; 4], TopicError> {
    let config = settings.client_config();
    let client: BaseConsumer<Witness> = config.create_with_context(Witness::default())?;
    let topics = topics.clone();
    let look = move || {
        let events = shape(&client, &topics.events)?;
        if events.partitions != expected {
            return Err(TopicError::Partitions {
                topic: topics.events,
                actual: events.partitions,
                expected,
            });
        }
        let outcomes = shape(&client, &topics.outcomes)?;
        let states = shape(&client, &topics.states)?;
        let dead_letters = shape(&client, &topics.dead_letters)?;
        Ok([events, outcomes, states, dead_letters])
    };
    tokio::task::spawn_blocking(look)
        .await
        .unwrap_or(Err(TopicError::Client(KafkaError::Canceled)))
}

/// Blocks until a broker has answered.
fn shape(client: &BaseConsumer<Witness>, topic: &str) -> Result<Shape, TopicError> {
    let metadata = metadata(client, topic, METADATA_TIMEOUT)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let partitions = found.map_or(&[][..], |topic| topic.partitions());
    let replicas = partitions.iter().map(|p| p.replicas().len()).min();
    let Some(replicas) = replicas else {
        return Err(TopicError::Missing {
            topic: topic.to_owned(),
        });
    };
    let partitions = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
    Ok(Shape {
        partitions,
        replicas,
    })
}

/// Blocks until a broker has answered.
pub(crate) fn partition_count(
    client: &BaseConsumer<Witness>,
    topic: &str,
) -> Result<i32, TopicError> {
    Ok(shape(client, topic)?.partitions)
}
