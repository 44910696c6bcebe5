//! Why a broker refuses a client. The client reports it as events, not in its answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::kafka::topics::TopicError;

const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// More events than a client has in a second.
const EVENTS_HEARD: usize = 20;

/// The client's errors about connections that failed. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Option<Failure>>>);

#[derive(Debug, Clone)]
struct Failure {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl ClientContext for Witness {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // This error is a consequence of one that was reported before.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        let reason = reason.to_owned();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure { code, reason });
    }
}

impl ConsumerContext for Witness {}

impl Witness {
    fn failure(&self) -> Option<Failure> {
        let failure = self.0.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `error`, with why there is no connection.
    pub(crate) fn explain(&self, error: KafkaError) -> TopicError {
        let Some(Failure { mut reason, .. }) = self.failure() else {
            return TopicError::Client(error);
        };
        if reason.contains("certificate verify failed") {
            reason += "; it may be out of date, of another authority, or for another name";
        }
        TopicError::Away {
            cause: reason,
            error,
        }
    }

    /// Whether somebody has to change a setting, or a broker's certificate.
    fn is_not_let_in(&self) -> bool {
        let code = self.failure().and_then(|failure| failure.code);
        matches!(
            code,
            Some(RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication)
        )
    }
}

/// Blocks until a broker has answered about a topic or all, or has refused this client, or `patience` is over.
pub(crate) fn metadata(
    client: &BaseConsumer<Witness>,
    topic: Option<&str>,
    patience: Duration,
) -> Result<Metadata, TopicError> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let told = client.fetch_metadata(topic, left.min(ASK_AGAIN_AFTER));
        if told.is_err() {
            hear(client);
        }
        match told {
            Ok(told) => return Ok(told),
            Err(error) if left <= ASK_AGAIN_AFTER || client.context().is_not_let_in() => {
                return Err(client.context().explain(error));
            }
            Err(_) => {}
        }
    }
}

/// The client reports events only while it is polled. No record comes, because nothing is assigned.
fn hear(client: &BaseConsumer<Witness>) {
    for _ in 0..EVENTS_HEARD {
        let _ = client.poll(Duration::from_millis(1));
    }
}
