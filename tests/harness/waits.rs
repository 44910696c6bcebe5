//! Functions with which tests wait for conditions, never for a fixed time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::{Event, Offset, VoucherId, partition_of};
use serde_json::Value;

use crate::client::Answer;
use crate::consistency::read_log;
use crate::world::{PATIENCE, PERIOD, World};

impl World {
    /// Waits until Redis serves a sale.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn until_served(&self, voucher: VoucherId) -> Result<()> {
        eventually("the sale is served", || async {
            Ok(self.client.ledger(voucher).await?["redis_available"].is_i64())
        })
        .await
    }

    /// Waits until all current records of a sale in the log are folded, and returns them. The ledger alone is not
    /// enough for that, because for example it does not show a cancellation before it is folded.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn until_folded(&self, voucher: VoucherId) -> Result<Vec<(Offset, Event)>> {
        let log = read_log(self, voucher).await?;
        let (last, _) = log.last().context("an empty log")?;
        let partitions: i32 = self.stack.setting("EVENT_PARTITIONS").parse()?;
        let pool = self.database().await?;
        eventually("the fold has reached the end of the log", || async {
            let folded: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM view_positions WHERE view = 'orders' AND partition = $1 AND next_offset > $2)",
            )
            .bind(partition_of(voucher.to_string().as_bytes(), partitions))
            .bind(last.get())
            .fetch_one(&pool)
            .await?;
            Ok(folded)
        })
        .await?;
        Ok(log)
    }

    /// Waits until the effects of everything folded so far are carried out and published.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn until_carried_out(&self) -> Result<()> {
        let pool = self.database().await?;
        eventually("the effects have reached the fold", || async {
            let behind: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM view_positions f WHERE f.view = 'orders' AND f.next_offset >
                   coalesce((SELECT e.next_offset FROM view_positions e WHERE e.view = 'effects'
                                AND e.topic = f.topic AND e.partition = f.partition), 0))",
            )
            .fetch_one(&pool)
            .await?;
            Ok(!behind)
        })
        .await
    }

    /// Waits until an order has a status. Returns the order.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub async fn until_status(&self, user: u64, order_id: &str, status: &str) -> Result<Value> {
        let path = format!("/api/v1/orders/{order_id}");
        let what = format!("order {order_id} is {status}");
        eventually(&what, || async {
            Ok(self.client.get(user, &path).await?.body["status"] == status)
        })
        .await?;
        Ok(self.client.get(user, &path).await?.body)
    }

    /// Waits until all granted orders are decided, and all decisions are carried out.
    ///
    /// # Errors
    /// When that is not so in time.
    pub async fn quiet(&self, voucher: VoucherId) -> Result<Value> {
        let what = "everything is decided and carried out";
        let quiet = eventually(what, || async {
            self.quiet_ledger(voucher).await.map(|_| true)
        });
        quiet.await.with_context(|| self.log_tails())?;
        self.client.ledger(voucher).await
    }

    /// As [`Self::quiet`], and no order is unpaid, by the same reading of the ledger: while some are not decided yet,
    /// it says nothing that none is unpaid.
    ///
    /// # Errors
    /// When that is not so within `patience`.
    pub async fn quiet_with_none_unpaid(
        &self,
        voucher: VoucherId,
        patience: Duration,
    ) -> Result<Value> {
        let what = "everything has ended and is carried out";
        let quiet = eventually_within(patience, what, || async {
            let ledger = self.quiet_ledger(voucher).await?;
            ensure!(ledger["unpaid"] == 0, "{ledger}");
            Ok(true)
        });
        quiet.await.with_context(|| self.log_tails())?;
        self.client.ledger(voucher).await
    }

    /// The ledger, if all granted orders are decided and carried out.
    async fn quiet_ledger(&self, voucher: VoucherId) -> Result<Value> {
        let ledger = self.client.ledger(voucher).await?;
        let settled = ledger["in_flight"] == 0 && ledger["drift"] == 0;
        ensure!(settled && ledger["consistent"] == true, "{ledger}");
        Ok(ledger)
    }

    /// The same, while services that end are started again. Returns how many were.
    ///
    /// # Errors
    /// As [`Self::quiet`], or when a service cannot be started again.
    pub async fn quiet_under_supervision(&mut self, voucher: VoucherId) -> Result<usize> {
        let is_quiet = async |world: &Self| world.quiet_ledger(voucher).await.map(|_| true);
        self.eventually_under_supervision("everything is carried out", is_quiet)
            .await
    }

    /// As [`eventually`], while services that end are started again. Returns how many were.
    ///
    /// # Errors
    /// When the condition does not hold in time, or a service cannot be started again.
    pub async fn eventually_under_supervision(
        &mut self,
        what: &str,
        condition: impl AsyncFn(&Self) -> Result<bool>,
    ) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        let mut ended = 0;
        loop {
            let holds = condition(self).await;
            if matches!(holds, Ok(true)) {
                return Ok(ended);
            }
            ensure!(
                Instant::now() < deadline,
                "not in time: {what}: {holds:?}\n{}",
                self.log_tails()
            );
            ended += self.supervise()?;
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Repeats a request for as long as its answer is a planned refusal, and returns the first other answer.
///
/// # Errors
/// When there is none in time.
pub async fn until_answered<F>(ask: impl Fn() -> F) -> Result<Answer>
where
    F: Future<Output = Result<Answer>>,
{
    let last = Cell::new(None);
    eventually("the request is answered", || async {
        let answer = ask().await?;
        ensure!(!answer.is_planned_503(), "{answer:?}");
        last.set(Some(answer));
        Ok(true)
    })
    .await?;
    last.take().context("no answer")
}

/// Waits up to 60 s until a condition holds. An error of the condition counts as *not yet*, and is reported at the end.
///
/// # Errors
/// When it does not hold in time.
pub async fn eventually<F>(what: &str, condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    eventually_within(PATIENCE, what, condition).await
}

/// The same with another time limit.
///
/// # Errors
/// When it does not hold in time.
pub async fn eventually_within<F>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let result = condition().await;
        if matches!(result, Ok(true)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return match result {
                Ok(_) => Err(anyhow::anyhow!("not in time: {what}")),
                Err(error) => Err(error.context(format!("not in time: {what}"))),
            };
        }
        tokio::time::sleep(PERIOD).await;
    }
}
