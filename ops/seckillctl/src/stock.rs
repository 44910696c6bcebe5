//! Access to Redis for the commands.

use anyhow::Context;
use seckill_eventlog::cluster_id;
use seckill_stock::{LogIdentity, Stock, StockOptions};

use crate::failure::Failure;
use crate::log::Log;
use crate::settings::Settings;

/// The stock of this deployment. Sales that another deployment has loaded are refused.
pub(crate) async fn connect_stock(settings: &Settings, log: &Log) -> Result<Stock, Failure> {
    let identity = LogIdentity::default();
    let id = cluster_id(&log.client).await.context("KAFKA_BROKERS")?;
    identity.learn(&id.unwrap_or_default());
    let options = StockOptions::new(settings.redis()?);
    let options = options.of_deployment(settings.kafka()?.topic_prefix, identity);
    Ok(Stock::new(options).context("REDIS_URL")?)
}
