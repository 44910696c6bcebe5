//! Four times a second every sale of this process' partitions that sells is looked at, in PostgreSQL and
//! in Redis, and the others every two seconds: one that Redis does not serve is loaded, one that is over
//! leaves Redis. Where there are many sales, they are looked at by turns, until one is found that Redis has
//! lost: then all are looked at.

mod attention;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_domain::VoucherId;
use seckill_orderbook::{Leaving, ServedSale};
use seckill_stock::{Probe, SaleView};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::attention::Attention;
use crate::context::ProjectorContext;
use crate::effects::Seen;
use crate::metrics;
use crate::partition::Partition;
use crate::reload::{Ended, Reload};

const PERIOD: Duration = Duration::from_millis(250);
/// After which it is looked again whether a sale is still another deployment's.
const OTHER_LOG_PAUSE: Duration = Duration::from_secs(5);

/// The partitions this process owns now, by number.
pub(crate) type Owned = Arc<Mutex<HashMap<i32, Partition>>>;

/// What is to be done about a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// Redis serves it: the effects worker may have to catch it up.
    CatchUp(Seen),
    /// Redis does not serve it, or serves an epoch that has ended.
    Load,
    /// It is over and has no unpaid order: it leaves Redis, once the worker has caught it up.
    Retire(Seen, Leaving),
}

fn action(sale: &ServedSale, probe: &Probe) -> Action {
    match probe {
        Probe::Open(view) if view.epoch >= sale.epoch => {
            let seen = Seen {
                voucher_id: sale.voucher_id,
                position: view.position,
            };
            if sale.can_retire() {
                Action::Retire(seen, leaving(sale, view))
            } else {
                Action::CatchUp(seen)
            }
        }
        // Also a sale that is over: what Redis held when it was lost may still become orders, until
        // another epoch begins.
        Probe::Open(_) | Probe::NotServed { .. } => Action::Load,
    }
}

fn leaving(sale: &ServedSale, view: &SaleView) -> Leaving {
    Leaving {
        voucher_id: sale.voucher_id,
        epoch: view.epoch,
        position: view.position,
    }
}

pub(crate) struct Watch {
    shared: Arc<ProjectorContext>,
    owned: Owned,
    loading: Arc<Mutex<Loading>>,
    attention: Attention,
}

#[derive(Default)]
struct Loading {
    /// Sales that are being loaded.
    running: HashSet<VoucherId>,
    /// Sales whose load has ended since the look began: what it saw of them is of before.
    ended: HashSet<VoucherId>,
    /// Sales that another deployment has loaded here, and when that was seen.
    other_log: HashMap<VoucherId, Instant>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<ProjectorContext>, owned: Owned) -> Self {
        Self {
            shared,
            owned,
            loading: Arc::default(),
            attention: Attention::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let looked = self.look().await;
            let health = &self.shared.health;
            health.check("watch", &looked.map_err(|e| format!("{e:#}")));
            health.check("deployment", &self.other_deployment());
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let partitions: Vec<i32> = lock(&self.owned).keys().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        lock(&self.loading).ended.clear();
        let shared = Arc::clone(&self.shared);
        let mut sales = shared.orderbook.sales_to_serve(&partitions).await?;
        let known: HashSet<VoucherId> = sales.iter().map(|sale| sale.voucher_id).collect();
        lock(&self.loading)
            .other_log
            .retain(|voucher, _| known.contains(voucher));
        self.attention.next(&mut sales, &known);

        let vouchers: Vec<VoucherId> = sales.iter().map(|sale| sale.voucher_id).collect();
        let survey = shared.stock.survey(&vouchers).await;
        let mut failure = survey.failure.map(anyhow::Error::new);
        for (sale, probe) in sales.iter().zip(&survey.probes) {
            self.attention
                .saw(sale, matches!(probe, Ok(Probe::Open(_))));
            // Without an answer nothing is done to the sale: the next look comes soon.
            let Ok(probe) = probe else {
                continue;
            };
            match action(sale, probe) {
                Action::CatchUp(seen) => self.tell(sale.partition, seen),
                Action::Load => self.load(sale),
                Action::Retire(seen, leaving) => {
                    self.tell(sale.partition, seen);
                    // One sale's trouble is not the others'.
                    if let Err(error) = self.retire(&leaving).await {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        let loading = lock(&self.loading).running.len();
        metrics::LOADS_UNDER_WAY.only().set(loading as f64);
        metrics::SALES_NOT_SERVED
            .only()
            .set(self.attention.not_served() as f64);
        failure.map_or(Ok(()), Err)
    }

    /// Names a sale of this deployment's that another one has loaded.
    fn other_deployment(&self) -> Result<(), String> {
        let loading = lock(&self.loading);
        match loading.other_log.keys().next() {
            None => Ok(()),
            Some(voucher_id) => Err(format!(
                "sale {voucher_id} in this Redis was loaded by another deployment, whose Kafka cluster is \
                 not ours: give each deployment a TOPIC_PREFIX of its own, or, if the other is gone, delete \
                 its keys"
            )),
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
        if !lock(&self.loading).begin(voucher_id) {
            return;
        }
        let reload = Reload::new(Arc::clone(&self.shared), *sale, stop);
        let loading = Arc::clone(&self.loading);
        self.shared.tasks.spawn(async move {
            let ended = reload.run().await;
            lock(&loading).end(voucher_id, ended.as_ref().ok());
            let name = match ended {
                Ok(Ended::Opened) => "opened",
                Ok(Ended::Retired) => "retired",
                Ok(Ended::OtherLog) => "other_log",
                Ok(Ended::Overtaken) => "overtaken",
                Ok(Ended::Stopped) => "stopped",
                Err(error) => {
                    tracing::warn!(%voucher_id, error = format!("{error:#}"), "load failed");
                    "failed"
                }
            };
            metrics::LOADS.with([name]).increment(1);
        });
    }

    /// A sale leaves Redis only while PostgreSQL has all that Redis knows of it, and only if Redis has
    /// nothing on its way. Redis first: when this dies in between, the sale is not served and over, and
    /// its load retires it. The mark asks PostgreSQL again: it may have been restored in between.
    async fn retire(&self, leaving: &Leaving) -> anyhow::Result<()> {
        let (orderbook, topic) = (&self.shared.orderbook, &self.shared.topics.events);
        let voucher_id = leaving.voucher_id;
        if !orderbook.may_leave(topic, leaving).await? {
            return Ok(());
        }
        fail::fail_point!("projector.retire.before-redis");
        let stock = &self.shared.stock;
        let Some(position) = stock.retire(voucher_id, leaving.position).await? else {
            return Ok(());
        };
        fail::fail_point!("projector.retire.after-redis");
        let left = Leaving {
            position,
            ..*leaving
        };
        if orderbook.mark_retired(topic, &left).await? {
            tracing::info!(%voucher_id, "sale is over and left Redis");
        }
        Ok(())
    }
}

impl Loading {
    /// Whether a load of this sale is to begin now.
    fn begin(&mut self, voucher_id: VoucherId) -> bool {
        let seen = self.other_log.get(&voucher_id);
        if seen.is_some_and(|seen| seen.elapsed() < OTHER_LOG_PAUSE) {
            return false;
        }
        !self.ended.contains(&voucher_id) && self.running.insert(voucher_id)
    }

    fn end(&mut self, voucher_id: VoucherId, ended: Option<&Ended>) {
        self.running.remove(&voucher_id);
        self.ended.insert(voucher_id);
        if ended == Some(&Ended::OtherLog) {
            self.other_log.insert(voucher_id, Instant::now());
        } else {
            self.other_log.remove(&voucher_id);
        }
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

    fn sale(epoch: i64, over: bool, unpaid_units: i64) -> ServedSale {
        ServedSale {
            voucher_id: VoucherId::new(1).unwrap(),
            partition: 0,
            epoch: Epoch::new(epoch),
            loaded: true,
            over,
            busy: !over,
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
    fn a_load_that_ended_during_a_look_is_not_begun_again_by_it() {
        let mut loading = Loading::default();
        let voucher = VoucherId::new(1).unwrap();
        assert!(loading.begin(voucher));
        assert!(!loading.begin(voucher), "it runs");
        loading.end(voucher, Some(&Ended::Opened));
        assert!(!loading.begin(voucher), "the look saw it before it opened");
        loading.ended.clear();
        assert!(loading.begin(voucher), "the next look saw what came after");
    }

    #[test]
    fn a_sale_is_loaded_when_redis_does_not_serve_its_epoch() {
        let not_served = Probe::NotServed { epoch: None };
        let seen = Seen {
            voucher_id: VoucherId::new(1).unwrap(),
            position: Offset::new(5),
        };
        assert_eq!(action(&sale(2, false, 0), &open(2)), Action::CatchUp(seen));
        assert_eq!(action(&sale(2, false, 0), &open(3)), Action::CatchUp(seen));
        assert_eq!(action(&sale(2, false, 0), &open(1)), Action::Load);
        assert_eq!(action(&sale(2, false, 0), &not_served), Action::Load);
        assert_eq!(
            action(&sale(2, true, 1), &not_served),
            Action::Load,
            "its hold can lapse"
        );
        assert_eq!(
            action(&sale(2, true, 0), &not_served),
            Action::Load,
            "what Redis held may still become orders"
        );
        assert_eq!(action(&sale(2, true, 0), &open(1)), Action::Load);
        let leaving = Leaving {
            voucher_id: seen.voucher_id,
            epoch: Epoch::new(3),
            position: seen.position,
        };
        assert_eq!(
            action(&sale(2, true, 0), &open(3)),
            Action::Retire(seen, leaving)
        );
    }
}
