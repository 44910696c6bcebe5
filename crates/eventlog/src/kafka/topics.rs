//! The topics: their names, how they are created, and the check of existing ones.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};
use std::time::Duration;
use tokio::time::Instant;

use crate::kafka::address::broker_at;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::topic_settings::{Role, TopicFault, Values, describe, faults, pinned};
use crate::kafka::witness::{Witness, metadata};

const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(30);
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

/// Makes the topics that are not there yet, with everything that the design needs, and waits until every broker
/// knows them; those that are there stay as they are.
///
/// # Errors
/// [`TopicError`], but only for what keeps the topics from being made and seen.
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
    until_every_broker_knows(settings, topics).await
}

/// A client asks whichever broker it is connected to, and each broker learns of a new topic at its own time after the
/// controller has made it.
async fn until_every_broker_knows(
    settings: &KafkaSettings,
    topics: &Topics,
) -> Result<(), TopicError> {
    let deadline = Instant::now() + VISIBLE_TIMEOUT;
    loop {
        match every_broker_knows(settings, topics).await {
            Ok(true) => return Ok(()),
            // A broker that does not answer may be about to leave the cluster.
            _ if Instant::now() < deadline => tokio::time::sleep(VISIBLE_PERIOD).await,
            told => return told.map(drop),
        }
    }
}

/// False if a broker was not asked, because its address led to another one.
async fn every_broker_knows(settings: &KafkaSettings, topics: &Topics) -> Result<bool, TopicError> {
    let told = look_up(settings, topics).await?;
    let others = told.brokers.iter().filter(|(id, _)| told.by != *id);
    for (id, address) in others {
        let mut settings = settings.clone();
        settings.brokers.clone_from(address);
        if look_up(&settings, topics).await?.by != *id {
            return Ok(false);
        }
    }
    Ok(true)
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
    let shapes = look_up(settings, topics).await?.shapes;
    let [events, ..] = shapes;
    if events.partitions != partitions {
        return Err(TopicError::Partitions {
            topic: topics.events.clone(),
            actual: events.partitions,
            expected: partitions,
        });
    }
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

/// A topic's settings, the broker's defaults among them.
async fn values(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> Result<Values, TopicError> {
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let asked = [ResourceSpecifier::Topic(topic)];
    let mut told = admin.describe_configs(&asked, &options).await?;
    match told.pop() {
        Some(Ok(told)) => {
            let entries = told.entries.into_iter();
            Ok(entries.filter_map(|e| Some((e.name, e.value?))).collect())
        }
        Some(Err(code)) => Err(TopicError::SettingsUnknown {
            topic: topic.to_owned(),
            code,
        }),
        None => Err(TopicError::Client(KafkaError::Canceled)),
    }
}

/// A topic in the cluster's metadata.
#[derive(Debug, Clone, Copy)]
struct Shape {
    partitions: i32,
    /// The number of replicas of the partition that has the fewest.
    replicas: usize,
}

/// What one broker tells about the topics.
struct Told {
    /// Of all topics, as [`Role::ALL`] has them.
    shapes: [Shape; 4],
    /// Its id.
    by: i32,
    /// The cluster's brokers and their addresses.
    brokers: Vec<(i32, String)>,
}

async fn look_up(settings: &KafkaSettings, topics: &Topics) -> Result<Told, TopicError> {
    let config = settings.client_config();
    let client: BaseConsumer<Witness> = config.create_with_context(Witness::default())?;
    let names = Role::ALL.map(|role| role.topic(topics).to_owned());
    let look = move || {
        // Of all topics in one answer. A question about one topic may lead the client to another broker.
        let told = metadata(&client, None, METADATA_TIMEOUT)?;
        let address = |b: &MetadataBroker| (b.id(), broker_at(b.host(), b.port()));
        let [events, outcomes, states, letters] = &names;
        Ok(Told {
            shapes: [
                shape(&told, events)?,
                shape(&told, outcomes)?,
                shape(&told, states)?,
                shape(&told, letters)?,
            ],
            by: told.orig_broker_id(),
            brokers: told.brokers().iter().map(address).collect(),
        })
    };
    tokio::task::spawn_blocking(look)
        .await
        .unwrap_or(Err(TopicError::Client(KafkaError::Canceled)))
}

fn shape(told: &Metadata, topic: &str) -> Result<Shape, TopicError> {
    let found = told.topics().iter().find(|t| t.name() == topic);
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
    let told = metadata(client, Some(topic), METADATA_TIMEOUT)?;
    Ok(shape(&told, topic)?.partitions)
}
