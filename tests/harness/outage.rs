//! Computes from the log how long a sale was not served.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use seckill_domain::{Epoch, Event, EventBody, Timestamp, VoucherId};

use crate::consistency::read_log;
use crate::world::World;

/// The most time for which the lost sale may still grant units after the fault.
const STOPPED_WITHIN_MS: i64 = 1_000;

/// A fault that costs a sale its data in Redis.
#[derive(Debug)]
pub struct Outage {
    voucher: VoucherId,
    epoch: Epoch,
    at: Timestamp,
}

/// The times from the fault until the sale stopped and reopened.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The last order that was granted before the sale stopped.
    pub stopped_ms: i64,
    /// The first order that was granted after the load.
    pub reopened_ms: i64,
    /// The time from the new epoch until then, without the drain, whose length is a setting.
    pub after_drain_ms: i64,
}

impl Outage {
    /// To be called right before the fault.
    ///
    /// # Errors
    /// When the sale is not there.
    pub async fn begins(world: &World, voucher: VoucherId) -> Result<Self> {
        let pool = world.database().await?;
        let epoch = sqlx::query_scalar("SELECT epoch FROM vouchers WHERE voucher_id = $1")
            .bind(voucher.get())
            .fetch_one(&pool)
            .await?;
        pool.close().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self {
            voucher,
            epoch: Epoch::new(epoch),
            at: Timestamp::from_micros(i64::try_from(now.as_micros())?),
        })
    }

    #[must_use]
    pub const fn voucher(&self) -> VoucherId {
        self.voucher
    }

    /// Prints when, after the fault, the last order was granted before the sale stopped, and the first one after the
    /// load. Both times are of Redis' clock, which is this machine's.
    ///
    /// # Errors
    /// When the sale was still served after a second, or has not opened again.
    pub async fn report(&self, world: &World, case: &str) -> Result<Times> {
        let log = read_log(world, self.voucher).await?;
        let reloaded_at = log.iter().rev().find_map(|(_, event)| match event.body {
            EventBody::SaleReloaded(_) => Some(event.occurred_at),
            _ => None,
        });
        let reloaded_at = reloaded_at.context("the sale was never loaded again")?;
        let grants = || {
            log.iter()
                .filter_map(|(_, event)| Some((epoch_of(event)?, event)))
        };
        let old = grants().filter(|(epoch, _)| *epoch <= self.epoch);
        let last_old = old.map(|(_, event)| self.ms_until(event.occurred_at)).max();
        // Pending orders that are granted again keep their old time.
        let new = grants().filter(|(_, event)| event.occurred_at > reloaded_at);
        let new = new.filter(|(epoch, _)| *epoch > self.epoch);
        let first_new = new.map(|(_, event)| self.ms_until(event.occurred_at)).min();

        let stopped_ms = last_old.unwrap_or(0).max(0);
        let reopened_ms = first_new.context("nothing was granted after the load")?;
        let after_drain_ms = reopened_ms - self.ms_until(reloaded_at);
        println!(
            "case {case}: stopped_ms={stopped_ms} reopened_ms={reopened_ms} of which after_drain_ms={after_drain_ms}"
        );
        ensure!(
            stopped_ms < STOPPED_WITHIN_MS,
            "stopped after {stopped_ms} ms"
        );
        Ok(Times {
            stopped_ms,
            reopened_ms,
            after_drain_ms,
        })
    }

    fn ms_until(&self, at: Timestamp) -> i64 {
        (at.as_micros() - self.at.as_micros()) / 1_000
    }
}

fn epoch_of(event: &Event) -> Option<Epoch> {
    match &event.body {
        EventBody::SeckillReserved(reserved) => Some(reserved.epoch),
        _ => None,
    }
}
