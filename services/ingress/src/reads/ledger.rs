//! A sale's units in both stores, so that operators can see that no unit is lost.

use std::time::Duration;

use seckill_domain::{Effect, Offset, VoucherId};
use seckill_orderbook::{EffectsPage, LedgerRow};
use seckill_stock::{Probe, SaleView};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Inner, ReadError, Reads};

const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(25);
/// Effects in one look.
const PAGE: usize = 500;

/// A sale's units. `initial + adjusted = available + unpaid + paid`, always; where `consistent`
/// holds, `drift` is 0 unless the stores disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ledger {
    /// Units at the start.
    pub initial: i64,
    /// Units added less units taken away since.
    pub adjusted: i64,
    /// Units free by PostgreSQL.
    pub available: i64,
    /// Units held in Redis. None, here and below: Redis does not serve the sale.
    #[schema(required = true)]
    pub held: Option<i64>,
    /// Units in unpaid orders, by PostgreSQL.
    pub unpaid: i64,
    /// Units in paid orders, by PostgreSQL.
    pub paid: i64,
    /// Units free by Redis.
    #[schema(required = true)]
    pub redis_available: Option<i64>,
    /// Units granted in Redis and not yet folded.
    #[schema(required = true)]
    pub in_flight: Option<i64>,
    /// `available - redis_available - in_flight`.
    #[schema(required = true)]
    pub drift: Option<i64>,
    /// Whether the two stores were read at the same point of the log.
    pub consistent: bool,
}

impl Ledger {
    fn new(row: &LedgerRow, served: Option<&SaleView>, consistent: bool) -> Self {
        Self {
            initial: row.initial,
            adjusted: row.adjusted,
            available: row.available,
            held: served.map(|view| view.held),
            unpaid: row.unpaid,
            paid: row.paid,
            redis_available: served.map(|view| view.stock),
            in_flight: served.map(|view| view.unsettled),
            drift: served.map(|view| row.available - view.stock - view.unsettled),
            consistent,
        }
    }
}

impl Reads {
    /// The ledger of a sale; while orders flow it is read again until both stores are at the same
    /// point, for half a second at most. None: there is no such sale.
    ///
    /// # Errors
    /// When PostgreSQL or Redis does not answer.
    pub async fn ledger(&self, voucher: VoucherId) -> Result<Option<Ledger>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            let mut read = inner.ledger(voucher).await?;
            for _ in 1..ATTEMPTS {
                if read.is_none_or(|ledger| ledger.consistent) {
                    break;
                }
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                read = inner.ledger(voucher).await?;
            }
            Ok(read)
        })
        .await
    }
}

impl Inner {
    /// PostgreSQL, Redis, and PostgreSQL again.
    async fn ledger(&self, voucher: VoucherId) -> Result<Option<Ledger>, ReadError> {
        let (orderbook, topic) = (&self.sources.orderbook, &self.sources.events_topic);
        let Some(row) = orderbook.ledger(topic, voucher).await? else {
            return Ok(None);
        };
        let view = match self.sources.stock.probe(voucher).await? {
            Probe::Open(view) => view,
            // One row, read at one moment.
            Probe::NotServed { .. } => return Ok(Some(Ledger::new(&row, None, true))),
        };
        let sale = orderbook.sale(voucher).await?.ok_or(ReadError::Behind)?;
        let same_point = self
            .same_point(&row, &view, voucher, sale.partition)
            .await?;
        let consistent = row.epoch == view.epoch && same_point;
        Ok(Some(Ledger::new(&row, Some(&view), consistent)))
    }

    /// Whether nothing on the stock lies between where Redis and where the row stands. What is not on
    /// the stock, such as refunds due, does not move Redis' position, and there may be much of it.
    async fn same_point(
        &self,
        row: &LedgerRow,
        view: &SaleView,
        voucher: VoucherId,
        partition: i32,
    ) -> Result<bool, ReadError> {
        let (orderbook, topic) = (&self.sources.orderbook, &self.sources.events_topic);
        let mut since = view.position.min(row.position);
        loop {
            let page = orderbook
                .effects_of_voucher(topic, partition, voucher, since, None, PAGE)
                .await?;
            match compare(&page, since, row.position) {
                Some(same) => return Ok(same),
                None => since = page.to,
            }
        }
    }
}

/// Whether the stores are at one point, by the effects from `since` on; none: by the next page.
fn compare(page: &EffectsPage, since: Offset, position: Offset) -> Option<bool> {
    let on_stock = |effect: &Effect| effect.stock.is_some();
    if page.effects.iter().any(on_stock) {
        return Some(false);
    }
    if page.to >= position {
        return Some(true);
    }
    (page.to <= since).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::{Epoch, Outcome, SaleOutcome, SalePhase, StockOp, Timestamp};

    fn row() -> LedgerRow {
        LedgerRow {
            initial: 100,
            adjusted: 10,
            available: 60,
            unpaid: 30,
            paid: 20,
            retired: false,
            epoch: Epoch::FIRST,
            position: Offset::new(50),
        }
    }

    fn view(stock: i64, unsettled: i64) -> SaleView {
        SaleView {
            stock,
            held: 50 + unsettled,
            unsettled,
            epoch: Epoch::FIRST,
            position: Offset::new(50),
            sale_closed: false,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            max_quantity: 1,
        }
    }

    #[test]
    fn units_in_flight_are_no_drift_and_lost_ones_are() {
        let ledger = Ledger::new(&row(), Some(&view(57, 3)), true);
        assert_eq!((ledger.in_flight, ledger.drift), (Some(3), Some(0)));
        assert_eq!((ledger.redis_available, ledger.held), (Some(57), Some(53)));
        let leaked = Ledger::new(&row(), Some(&view(55, 3)), true);
        assert_eq!(leaked.drift, Some(2));
        let oversold = Ledger::new(&row(), Some(&view(58, 3)), true);
        assert_eq!(oversold.drift, Some(-1));
    }

    #[test]
    fn without_redis_there_is_nothing_to_compare() {
        let json = serde_json::to_value(Ledger::new(&row(), None, true)).unwrap();
        for member in ["held", "redis_available", "in_flight", "drift"] {
            assert!(json[member].is_null(), "{member}");
        }
        assert_eq!(json["available"], 60);
    }

    #[test]
    fn an_effect_that_one_store_lacks_makes_the_reading_inconsistent() {
        let effect = |stock| Effect {
            voucher_id: VoucherId::new(7).unwrap(),
            offset: Offset::new(50),
            stock,
            outcome: Outcome::Sale(SaleOutcome {
                phase: SalePhase::Adjusted,
                version: 51,
                delta: 1,
            }),
        };
        let page = |effects, to| EffectsPage {
            skipped: Vec::new(),
            effects,
            to: Offset::new(to),
            log_number: 0,
        };
        let compare = |page: EffectsPage| compare(&page, Offset::new(40), row().position);
        assert_eq!(compare(page(vec![], 50)), Some(true));
        assert_eq!(compare(page(vec![effect(None)], 51)), Some(true));
        let restock = Some(StockOp::Restock { units: 1 });
        assert_eq!(compare(page(vec![effect(restock)], 51)), Some(false));
        assert_eq!(compare(page(vec![effect(None)], 49)), None, "there is more");
        assert_eq!(compare(page(vec![], 40)), Some(false), "there is no more");
    }
}
