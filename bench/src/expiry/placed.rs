//! Orders that lapse in the same second, though they are placed in many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use seckill_domain::{OrderId, VoucherId};

use super::SALE_DURATION;
use super::crowd::Crowd;
use crate::api::{Api, Ledger, NewSale};
use crate::load::Pace;
use crate::progress::Stage;
use crate::table::count;

/// More time than it takes to place the orders and to open the streams.
const HOLD_SECONDS: u32 = 75;
/// Seconds in which orders may be placed, each with a sale of its own that gives a second less to pay.
const SECONDS: u32 = 40;
const OPENED_AT_A_TIME: usize = 16;
const SETTLED_DEADLINE: Duration = Duration::from_secs(30);

/// What was ordered.
pub(super) struct Placed {
    /// Each with its buyer, from 1.
    pub(super) orders: Vec<(OrderId, u32)>,
    pub(super) sales: Vec<VoucherId>,
    /// When the first lapses; the last does a second later.
    pub(super) lapse: Instant,
    /// From the first order until all were settled.
    pub(super) took: Duration,
}

impl Placed {
    /// An order of each of `buyers`, as fast as they are taken.
    pub(super) async fn place(
        api: &Api,
        buyers: u32,
        bearers: &Arc<[String]>,
    ) -> anyhow::Result<Self> {
        let sales = sales(api, buyers).await?;
        let stage = Stage::begin("Orders", buyers.into());
        let mut orders = Vec::new();
        let begun = Instant::now();
        let mut ends = begun;
        for sale in &sales {
            ends += Duration::from_secs(1);
            let next = u32::try_from(orders.len())? + 1;
            if next > buyers {
                break;
            }
            let crowd = Crowd {
                sale: *sale,
                buyers: next..=buyers,
                pace: Pace::WhenAnswered,
                time: ends.saturating_duration_since(Instant::now()),
                bar: stage.bar().clone(),
            };
            let ordered = crowd.order(api, bearers).await?;
            orders.extend(ordered.iter().map(|ordered| (ordered.id, ordered.buyer)));
        }
        ensure!(
            orders.len() == buyers as usize,
            "only {} orders were placed in {SECONDS} s",
            orders.len()
        );
        until_all(api, &sales, SETTLED_DEADLINE, Ledger::is_at_rest).await?;
        stage.done(&format!("{} placed", count(orders.len() as u64)));
        Ok(Self {
            orders,
            sales,
            lapse: begun + Duration::from_secs(HOLD_SECONDS.into()),
            took: begun.elapsed(),
        })
    }

    /// Waits until nobody holds a unit any more.
    pub(super) async fn until_all_are_back(
        &self,
        api: &Api,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let are_back = |ledger: &Ledger| ledger.is_at_rest() && ledger.available == ledger.initial;
        until_all(api, &self.sales, deadline, are_back).await
    }
}

/// One for each second, in order.
async fn sales(api: &Api, stock: u32) -> anyhow::Result<Vec<VoucherId>> {
    let sale = |second| async move {
        let hold_seconds = HOLD_SECONDS - second;
        let sale = NewSale::from_now("Nobody pays", stock.into(), hold_seconds, SALE_DURATION)?;
        api.open_sale(&sale).await
    };
    let sales = stream::iter((0..SECONDS).map(sale));
    sales.buffered(OPENED_AT_A_TIME).try_collect().await
}

/// Of the same deadline. What is so stays so: nobody orders any more.
async fn until_all(
    api: &Api,
    sales: &[VoucherId],
    deadline: Duration,
    is_so: impl Fn(&Ledger) -> bool,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    for sale in sales {
        let left = deadline.saturating_sub(begun.elapsed());
        api.until_ledger(*sale, "the sales to be at rest", left, &is_so)
            .await?;
    }
    Ok(())
}
