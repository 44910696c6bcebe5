//! What has to be true before the first order: the stores are there, and are what the settings say.

use std::time::Duration;

use seckill_eventlog::{TopicError, check_topics, cluster_id};
use seckill_service::health::{Health, Unmet};
use seckill_stock::StockError;
use seckill_stores::wait_for_schema_ids;

use crate::clients::Clients;
use crate::sign_in::SignIn;

const WARM_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for each store that is away, naming it in `/readyz`.
///
/// # Errors
/// What waiting does not mend: topics that are not as the design needs them, a Redis that evicts.
pub(crate) async fn pass(
    health: &Health,
    clients: &Clients,
    sign_in: &SignIn,
    partitions: i32,
) -> Result<(), Unmet> {
    // The topics, and then a warm producer: its first ack would take half a second otherwise.
    let kafka = async {
        let ask = || check_topics(&clients.kafka, &clients.topics, partitions);
        health
            .wait_for("kafka", TopicError::is_lasting, ask)
            .await?;
        let learn = async || {
            let id = cluster_id(&clients.kafka).await?;
            clients.log.learn(&id.unwrap_or_default());
            Ok::<_, TopicError>(())
        };
        health.wait_for("kafka", |_| false, learn).await?;
        let warm_up = || clients.producer.warm_up(WARM_UP_TIMEOUT);
        health.wait_for("kafka", |_| false, warm_up).await
    };
    let stock = &clients.stock_orders;
    let postgresql = async {
        let ask = || clients.door.check_schema();
        health.wait_for("postgresql", |_| false, ask).await?;
        // Also who has signed out: a token of theirs must not be good here because this instance is new.
        let learn = || sign_in.learn_sign_outs();
        health.wait_for("postgresql", |_| false, learn).await
    };
    tokio::try_join!(
        postgresql,
        health.wait_for("redis", StockError::is_lasting, || stock.check_server()),
        wait_for_schema_ids(health, &clients.kafka, &clients.topics),
        kafka,
    )?;
    Ok(())
}
