//! A sale with orders that end in every possible way, while buyers keep coming.

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;

use crate::client::Answer;
use crate::consistency::{SaleTotals, check_consistency};
use crate::crowd::Crowd;
use crate::waits::until_answered;
use crate::world::{SaleTerms, World};

/// More buyers than come during a test, also on a slow machine.
const BUYERS: u32 = 30_000;

/// A running sale.
#[derive(Debug)]
pub struct Trade {
    pub voucher: VoucherId,
    pub crowd: Crowd,
    answers: Vec<Answer>,
}

impl Trade {
    /// Puts up a sale in which one order is paid and one is cancelled, and another sale in which an order expires. More
    /// orders are placed meanwhile.
    ///
    /// # Errors
    /// When one of them does not get to its end in time.
    pub async fn begin(world: &World) -> Result<Self> {
        let short = SaleTerms {
            hold_seconds: 1,
            ..SaleTerms::of(10)
        };
        let lapses = world.sale(short).await?;
        let voucher = world.sale(SaleTerms::of(BUYERS.into())).await?;
        let crowd = Crowd::come(
            std::slice::from_ref(&world.client),
            voucher,
            10..BUYERS.into(),
        );
        let expires = buy(world, lapses, 1).await?;
        let paid = buy(world, voucher, 1).await?;
        let cancelled = buy(world, voucher, 2).await?;
        let id = |answer: &Answer| {
            let id = answer.order_id().map(str::to_owned);
            id.with_context(|| format!("no order id: {answer:?}"))
        };
        world.until_status(1, &id(&paid)?, "unpaid").await?;
        world.until_status(2, &id(&cancelled)?, "unpaid").await?;
        let done = world.client.pay(&id(&paid)?, "p-1", 1_000).await?;
        ensure!(done.status == 202, "{done:?}");
        let done = world.client.cancel(2, &id(&cancelled)?).await?;
        ensure!(done.status == 202, "{done:?}");
        world.until_status(1, &id(&paid)?, "paid").await?;
        world.until_status(2, &id(&cancelled)?, "cancelled").await?;
        world.until_status(1, &id(&expires)?, "expired").await?;
        crowd.flows(200).await?;
        Ok(Self {
            voucher,
            crowd,
            answers: vec![paid, cancelled],
        })
    }

    /// Ends the buyers, and compares every answer with the stores.
    ///
    /// # Errors
    /// When something does not come to rest, or does not hold.
    pub async fn end(self, world: &World) -> Result<SaleTotals> {
        let mut answers = self.crowd.leave().await?;
        answers.extend(self.answers);
        world.quiet(self.voucher).await?;
        check_consistency(world, self.voucher, &answers).await
    }
}

/// Orders like a buyer: after a planned 503 the request is repeated with the same key.
async fn buy(world: &World, voucher: VoucherId, user: u64) -> Result<Answer> {
    let key = format!("trade-{user}");
    until_answered(|| world.client.order(voucher, user, Some(&key), 1)).await
}
