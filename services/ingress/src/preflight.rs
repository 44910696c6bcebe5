//! What has to be true before the first order: the stores are there, and are what the settings say.

use std::time::Duration;

use anyhow::anyhow;
use seckill_eventlog::{TopicError, check_partitions};
use seckill_stock::StockError;
use seckill_telemetry::health::Health;

use crate::sign_in::SignIn;
use crate::startup::Clients;

const RETRY: Duration = Duration::from_millis(500);
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a check did not pass.
enum Failure {
    /// The store is away: wait for it.
    Away(String),
    /// Waiting changes nothing.
    Wrong(anyhow::Error),
}

/// The checks, with what they need.
pub(crate) struct Preflight<'a> {
    clients: &'a Clients,
    sign_in: &'a SignIn,
    health: &'a Health,
    partitions: i32,
}

impl<'a> Preflight<'a> {
    pub(crate) const fn new(
        clients: &'a Clients,
        sign_in: &'a SignIn,
        health: &'a Health,
        partitions: i32,
    ) -> Self {
        Self {
            clients,
            sign_in,
            health,
            partitions,
        }
    }

    /// Returns when every check has passed. Until then each store that is away is a named problem
    /// of readiness.
    ///
    /// # Errors
    /// When a store is not what the settings say.
    pub(crate) async fn pass(&self) -> anyhow::Result<()> {
        loop {
            let (postgresql, redis, kafka) =
                tokio::join!(self.postgresql(), self.redis(), self.kafka());
            let passed = [
                self.note("postgresql", postgresql)?,
                self.note("redis", redis)?,
                self.note("kafka", kafka)?,
            ];
            if passed == [true; 3] {
                return Ok(());
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn note(&self, name: &'static str, result: Result<(), Failure>) -> anyhow::Result<bool> {
        match result {
            Ok(()) => {
                self.health.resolved(name);
                Ok(true)
            }
            Err(Failure::Away(why)) => {
                self.health.problem(name, why);
                Ok(false)
            }
            Err(Failure::Wrong(error)) => Err(error.context(name)),
        }
    }

    /// Also who has signed out: a token of theirs must not be good here because this instance is new.
    async fn postgresql(&self) -> Result<(), Failure> {
        let answer = self.sign_in.learn_sign_outs().await;
        answer.map_err(|error| Failure::Away(error.to_string()))
    }

    async fn redis(&self) -> Result<(), Failure> {
        let answer = self.clients.stock_orders.check_server().await;
        answer.map_err(|error| match error {
            StockError::Misconfigured(_) => Failure::Wrong(error.into()),
            other => Failure::Away(other.to_string()),
        })
    }

    /// The topics, and then a warm producer: its first ack would take half a second otherwise.
    async fn kafka(&self) -> Result<(), Failure> {
        let clients = self.clients;
        check_partitions(&clients.kafka, &clients.topics, self.partitions)
            .await
            .map_err(|error| match error {
                TopicError::Partitions { .. } => Failure::Wrong(error.into()),
                other => Failure::Away(format!("{:#}", anyhow!(other))),
            })?;
        let producer = clients.producer.clone();
        let warm = tokio::task::spawn_blocking(move || producer.warm_up(WARM_UP_TIMEOUT)).await;
        match warm {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Away(error.to_string())),
            Err(error) => Err(Failure::Wrong(error.into())),
        }
    }
}
