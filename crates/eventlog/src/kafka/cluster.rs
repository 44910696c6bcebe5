//! The id of the Kafka cluster that a client is connected to.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::TopicError;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The id that the cluster has had since it was created; none if no broker tells it.
///
/// # Errors
/// When no client can be made with the settings.
pub async fn cluster_id(settings: &KafkaSettings) -> Result<Option<String>, TopicError> {
    let client: BaseConsumer = settings.client_config().create()?;
    tokio::task::spawn_blocking(move || client.client().fetch_cluster_id(ANSWER_TIMEOUT))
        .await
        .map_err(|_| TopicError::Client(KafkaError::Canceled))
}
