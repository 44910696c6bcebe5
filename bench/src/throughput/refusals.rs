//! What refused orders cost: nearly everybody who comes to a sale comes for units that are gone. Beside them, in the
//! same round, orders whose token is refused: what HTTP, routing and the check of a token cost alone.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::ensure;
use seckill_service::settings::Secret;

use super::measured::{Rate, is_order, labels};
use super::{Bench, Crowd};
use crate::credentials;
use crate::load::Pace;
use crate::orders::Click;
use crate::progress::Stage;

/// With fewer of the answers that are meant, something else was measured.
const MEANT_SHARE_MIN: f64 = 0.99;
/// Tokens of somebody else, used again and again.
const STRANGERS: u32 = 4_096;

impl Bench<'_> {
    /// Orders for sales whose last unit is gone, each by a buyer who has none.
    pub(super) async fn sold_out(&self, vouchers: usize) -> anyhow::Result<Rate> {
        let sales = self.open_sales(vouchers, 1).await?;
        let buyers = u32::try_from(vouchers)?;
        let crowd = |users: RangeInclusive<u32>| Crowd {
            sales: &sales,
            bearers: Arc::clone(&self.bearers),
            clicks: users.map(|user| Click::of(user, vouchers)).collect(),
            pace: Pace::WhenAnswered,
            time: self.time_of_refusals(),
        };
        let stage = Stage::begin("Last units", buyers.into());
        let bought = self.send(crowd(1..=buyers), &stage).await?;
        ensure!(
            bought.samples.iter().all(|sample| is_order(&sample.answer)),
            "the last units were not sold: {:?}",
            labels(&bought)
        );
        stage.done("sold");
        let others = crowd(buyers + 1..=self.users()?);
        let name = format!("Sold out, {vouchers} sale(s)");
        let rate = self.refused(&name, others, "409 sold-out").await?;
        self.close(&sales).await?;
        Ok(rate)
    }

    /// Orders with tokens that somebody else has signed.
    pub(super) async fn strangers(&self) -> anyhow::Result<Rate> {
        let sales = self.open_sales(1, 1).await?;
        let another = Secret::new("of somebody who has another key");
        let numbers = 0..self.users()?;
        let crowd = Crowd {
            sales: &sales,
            bearers: credentials::bearers(&another, STRANGERS)?.into(),
            clicks: numbers.map(|n| Click::of(n % STRANGERS + 1, 1)).collect(),
            pace: Pace::WhenAnswered,
            time: self.time_of_refusals(),
        };
        let rate = self
            .refused("Tokens refused", crowd, "401 unauthorized")
            .await?;
        self.close(&sales).await?;
        Ok(rate)
    }

    async fn refused(&self, name: &str, crowd: Crowd<'_>, meant: &str) -> anyhow::Result<Rate> {
        let stage = Stage::begin(name, crowd.clicks.len() as u64);
        let run = self.send(crowd, &stage).await?;
        let answers = labels(&run);
        let as_meant = answers.get(meant).copied().unwrap_or(0);
        ensure!(
            as_meant as f64 >= MEANT_SHARE_MIN * run.samples.len() as f64,
            "these were to be {meant}: {answers:?}"
        );
        let rate = Rate::of(&run, |_| true)?;
        stage.done(&format!("{:.0} answers a second", rate.per_second));
        Ok(rate)
    }
}
