//! Four times a second every sale of this process' partitions is looked at, in PostgreSQL and in
//! Redis: one that Redis does not serve is loaded, one that is over leaves Redis.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_domain::VoucherId;
use seckill_orderbook::ServedSale;
use seckill_stock::Probe;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::partition::{Partition, Seen, Shared};
use crate::reload::{Ended, Reload};

const PERIOD: Duration = Duration::from_millis(250);

/// The partitions this process owns now, by number.
pub(crate) type Owned = Arc<Mutex<HashMap<i32, Partition>>>;

/// What is to be done about a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Redis serves it: the effects worker may have to catch it up.
    CatchUp(Seen),
    /// Redis does not serve it, or serves an epoch that has ended.
    Load,
    /// It is closed and has no unpaid order: it leaves Redis, once the worker has caught it up.
    Retire(Seen),
}

fn action(sale: &ServedSale, probe: &Probe) -> Action {
    match probe {
        Probe::Open(view) if view.epoch >= sale.epoch => {
            let seen = Seen {
                voucher_id: sale.voucher_id,
                position: view.position,
            };
            if sale.closed && sale.unpaid_units == 0 {
                Action::Retire(seen)
            } else {
                Action::CatchUp(seen)
            }
        }
        // Also a sale that is over: what Redis held when it was lost may still become orders, and
        // a load that is under way would open what was retired.
        Probe::Open(_) | Probe::Closed { .. } => Action::Load,
    }
}

pub(crate) struct Watch {
    shared: Arc<Shared>,
    owned: Owned,
    /// Sales that are being loaded.
    loading: Arc<Mutex<HashSet<VoucherId>>>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, owned: Owned) -> Self {
        Self {
            shared,
            owned,
            loading: Arc::default(),
        }
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let looked = self.look().await;
            self.shared
                .health
                .check("watch", &looked.map_err(|e| format!("{e:#}")));
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let partitions: Vec<i32> = lock(&self.owned).keys().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let sales = shared.orderbook.sales_to_serve(&partitions).await?;
        let vouchers: Vec<VoucherId> = sales.iter().map(|sale| sale.voucher_id).collect();
        let survey = shared.stock.survey(&vouchers).await;
        let not_served = |probe: &Result<Probe, _>| !matches!(probe, Ok(Probe::Open(_)));
        let closed = survey.probes.iter().filter(|p| not_served(p)).count();
        metrics::gauge!("seckill_sales_not_served").set(closed as f64);
        for (sale, probe) in sales.iter().zip(&survey.probes) {
            // Without an answer nothing is done to the sale: the next look comes soon.
            let Ok(probe) = probe else {
                continue;
            };
            match action(sale, probe) {
                Action::CatchUp(seen) => self.tell(sale.partition, seen),
                Action::Load => self.load(sale),
                Action::Retire(seen) => self.retire(sale, seen).await?,
            }
        }
        match survey.failure {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// A full queue drops the news: it comes again with the next look.
    fn tell(&self, partition: i32, seen: Seen) {
        if let Some(partition) = lock(&self.owned).get(&partition) {
            let _full = partition.seen.try_send(seen);
        }
    }

    fn load(&self, sale: &ServedSale) {
        // Its new epoch could not be folded; and another log must not be added to.
        if self.shared.standing.stands_still(sale.partition) {
            return;
        }
        let Some(stop) = lock(&self.owned)
            .get(&sale.partition)
            .map(|p| p.stop.clone())
        else {
            return;
        };
        let voucher_id = sale.voucher_id;
        if !lock(&self.loading).insert(voucher_id) {
            return;
        }
        let reload = Reload::new(Arc::clone(&self.shared), *sale, stop);
        let loading = Arc::clone(&self.loading);
        self.shared.tasks.spawn(async move {
            let ended = reload.run().await;
            lock(&loading).remove(&voucher_id);
            let name = match ended {
                Ok(Ended::Opened) => "opened",
                Ok(Ended::Overtaken) => "overtaken",
                Ok(Ended::Stopped) => "stopped",
                Err(error) => {
                    tracing::warn!(%voucher_id, error = format!("{error:#}"), "load failed");
                    "failed"
                }
            };
            metrics::counter!("seckill_loads_total", "end" => name).increment(1);
        });
    }

    /// Redis first: when this dies in between, the sale is loaded and retired again. Redis keeps
    /// it while anything is granted that the log has not decided, or while it has not learnt that
    /// the sale is closed.
    async fn retire(&self, sale: &ServedSale, seen: Seen) -> anyhow::Result<()> {
        self.tell(sale.partition, seen);
        let voucher_id = seen.voucher_id;
        if !self.shared.stock.retire(voucher_id, seen.position).await? {
            return Ok(());
        }
        fail::fail_point!("projector.retire.after-redis");
        if self.shared.orderbook.mark_retired(voucher_id).await? {
            tracing::info!(%voucher_id, "sale is over and left Redis");
        }
        Ok(())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use seckill_domain::{Epoch, Offset, Timestamp};
    use seckill_stock::SaleView;

    use super::*;

    fn sale(epoch: i64, closed: bool, unpaid_units: i64) -> ServedSale {
        ServedSale {
            voucher_id: VoucherId::new(1).unwrap(),
            partition: 0,
            epoch: Epoch::new(epoch),
            loaded: true,
            closed,
            unpaid_units,
        }
    }

    fn open(epoch: i64) -> Probe {
        Probe::Open(SaleView {
            stock: 1,
            held: 0,
            unsettled: 0,
            epoch: Epoch::new(epoch),
            position: Offset::new(5),
            sale_closed: false,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            max_quantity: 1,
        })
    }

    #[test]
    fn a_sale_is_loaded_when_redis_does_not_serve_its_epoch() {
        let closed = Probe::Closed { epoch: None };
        let seen = Seen {
            voucher_id: VoucherId::new(1).unwrap(),
            position: Offset::new(5),
        };
        assert_eq!(action(&sale(2, false, 0), &open(2)), Action::CatchUp(seen));
        assert_eq!(action(&sale(2, false, 0), &open(3)), Action::CatchUp(seen));
        assert_eq!(action(&sale(2, false, 0), &open(1)), Action::Load);
        assert_eq!(action(&sale(2, false, 0), &closed), Action::Load);
        assert_eq!(
            action(&sale(2, true, 1), &closed),
            Action::Load,
            "its hold can lapse"
        );
        assert_eq!(
            action(&sale(2, true, 0), &closed),
            Action::Load,
            "never retired unseen"
        );
        assert_eq!(action(&sale(2, true, 0), &open(1)), Action::Load);
        assert_eq!(action(&sale(2, true, 0), &open(2)), Action::Retire(seen));
    }
}
