//! Which Kafka cluster it is that one talks to.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::TopicError;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The id that the cluster gave itself when it was made; none where no broker tells it.
///
/// # Errors
/// When the settings are none of a client.
pub async fn cluster_id(settings: &KafkaSettings) -> Result<Option<String>, TopicError> {
    let client: BaseConsumer = settings.client_config().create()?;
    tokio::task::spawn_blocking(move || client.client().fetch_cluster_id(ANSWER_TIMEOUT))
        .await
        .map_err(|_| TopicError::Client(KafkaError::Canceled))
}
