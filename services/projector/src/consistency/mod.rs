//! Compares the stores while orders are taken: the units of every sale each second, less often where there are more
//! than a thousand, and the holds of one sale after the other. It repairs nothing. A metric, a log line and a table
//! that the operators' page shows say what is wrong, and `seckillctl reconcile` repairs it.

mod holds;
mod observations;
mod rotation;
mod units;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{Offset, VoucherId};
use seckill_orderbook::{Finding, SaleUnits, ServedSale, Through, Turns};
use seckill_stock::{Probe, SaleView};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::holds::Orphans;
use self::observations::{INVARIANTS, Observations, Scope};
use self::rotation::Rotation;
use self::units::{Compared, Units};
use crate::context::ProjectorContext;
use crate::metrics;
use crate::watch::{Owned, lock};

const PERIOD: Duration = Duration::from_secs(1);
/// Sales of a kind that are looked at a second, on average.
const SALES_PER_LOOK: usize = 1_000;
/// A sale that nobody can order from is looked at once in so many looks.
const AT_REST: u64 = 10;
/// Sales that are looked at hold by hold a second, unless their orders are more than this.
const SCANNED_SALES: usize = 8;
const SCANNED_UNITS: i64 = 10_000;
/// A sale with more units in live orders is not scanned here: `seckillctl reconcile` does.
const SCANNABLE_UNITS: i64 = 100_000;
/// After sales that nobody suspects were compared hold by hold, they are left alone for so many times as
/// long as that took, half of which are rests: a large sale's holds are read at the cost of its orders.
const REST: u32 = 9;
/// A sale that stands further back than this in its partition is asked for by itself, so that others
/// are not read so far back with it.
const FAR_BACK: i64 = 20_000;
/// Of many sales that are read together, so many records may be read for each: to ask for one by itself costs about
/// as much.
const FAR_BACK_EACH: i64 = 1_000;

pub(crate) struct ConsistencyChecker {
    shared: Arc<ProjectorContext>,
    owned: Owned,
    units: Units,
    observations: Observations,
    orphans: Orphans,
    rotation: Rotation,
    rest_until: Instant,
    turns: Turns,
    /// Where the fold of a partition stood in the last look.
    folded: HashMap<i32, Offset>,
    /// The partitions and the findings that were written last; none before the first time, and after a failure.
    written: Option<(Vec<i32>, Vec<Finding>)>,
}

/// A sale that Redis serves.
type Served = (ServedSale, SaleView);

impl ConsistencyChecker {
    pub(crate) fn new(shared: Arc<ProjectorContext>, owned: Owned) -> Self {
        Self {
            shared,
            owned,
            units: Units::default(),
            observations: Observations::default(),
            orphans: Orphans::default(),
            rotation: Rotation::default(),
            rest_until: Instant::now(),
            turns: Turns::new(SALES_PER_LOOK, AT_REST),
            folded: HashMap::new(),
            written: None,
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looks = async {
            loop {
                ticks.tick().await;
                let looked = self.look().await;
                let result = if looked.is_ok() { "done" } else { "failed" };
                metrics::AUDIT_LOOKS.with([result]).increment(1);
                if let Err(error) = looked {
                    // A store that is away is named by those who need it.
                    tracing::debug!(
                        error = format!("{error:#}"),
                        "the consistency check could not be made"
                    );
                }
            }
        };
        stop.run_until_cancelled(looks).await;
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let mut partitions: Vec<i32> = lock(&self.owned).keys().copied().collect();
        partitions.sort_unstable();
        let mut sales = self.shared.orderbook.sales_to_serve(&partitions).await?;
        // With their partitions.
        let mut known: HashMap<VoucherId, i32> = sales
            .iter()
            .map(|sale| (sale.voucher_id, sale.partition))
            .collect();
        // Together, because what has moved in a partition is then read once for all of them.
        let turn = self.turns.next(&sales);
        sales.retain(|sale| turn.takes_all_like(sale));
        if sales.is_empty() && !known.is_empty() {
            return Ok(());
        }
        let vouchers: Vec<_> = sales.iter().map(|sale| sale.voucher_id).collect();
        let looked_at: HashSet<_> = vouchers.iter().copied().collect();
        // Redis first: PostgreSQL is ahead of it, and says where it was.
        let survey = self.shared.stock.survey(&vouchers).await;
        let served: Vec<Served> = sales
            .into_iter()
            .zip(survey.probes)
            .filter_map(|(sale, probe)| match probe {
                Ok(Probe::Open(view)) => Some((sale, view)),
                Ok(Probe::NotServed { .. }) | Err(_) => None,
            })
            .collect();
        let serves: HashSet<_> = served.iter().map(|(sale, _)| sale.voucher_id).collect();
        known.retain(|voucher, _| serves.contains(voucher) || !looked_at.contains(voucher));
        self.units.retain(|voucher| known.contains_key(&voucher));
        self.observations
            .retain(|voucher| known.contains_key(&voucher));
        self.orphans.retain(|voucher| known.contains_key(&voucher));
        self.rotation.retain(|voucher| known.contains_key(&voucher));

        let compared = self.compare_units(&served).await?;
        let seconds = turn.looks_for_all_busy();
        let scanned = self.scan(&served, &compared, seconds).await;
        self.measure(&compared);
        self.write(partitions, &known).await;
        scanned
    }

    /// Writes what is in alarm for people to read, when it has changed.
    async fn write(&mut self, partitions: Vec<i32>, partition_of: &HashMap<VoucherId, i32>) {
        let findings = self.observations.findings(partition_of);
        if let Some((of, last)) = &self.written
            && (of, last) == (&partitions, &findings)
        {
            return;
        }
        let orderbook = &self.shared.orderbook;
        let replaced = orderbook.replace_findings(&partitions, &findings).await;
        if let Err(error) = &replaced {
            tracing::warn!(%error, "what the consistency check found is not on the operators' page");
        }
        self.written = replaced.is_ok().then_some((partitions, findings));
    }

    async fn compare_units(
        &mut self,
        served: &[Served],
    ) -> anyhow::Result<HashMap<VoucherId, Compared>> {
        let mut by_partition: HashMap<i32, Vec<(VoucherId, Offset)>> = HashMap::new();
        for (sale, view) in served {
            let since = self.units.since(sale.voucher_id, view);
            let asked = by_partition.entry(sale.partition).or_default();
            asked.push((sale.voucher_id, since));
        }
        let views: HashMap<_, _> = served
            .iter()
            .map(|(s, view)| (s.voucher_id, view))
            .collect();
        let mut compared = HashMap::new();
        for (partition, asked) in by_partition {
            let since: HashMap<_, _> = asked.iter().copied().collect();
            for units in self.units_of(partition, asked).await? {
                let voucher = units.voucher_id;
                let (Some(view), Some(since)) = (views.get(&voucher), since.get(&voucher)) else {
                    continue;
                };
                let Some(found) = self.units.compare(view, *since, &units) else {
                    continue;
                };
                let seen = found.observations(view);
                if !seen.is_empty() {
                    self.units.forget(voucher);
                }
                self.observations.note(Scope::Units, voucher, &seen);
                compared.insert(voucher, found);
            }
        }
        Ok(compared)
    }

    async fn units_of(
        &mut self,
        partition: i32,
        asked: Vec<(VoucherId, Offset)>,
    ) -> anyhow::Result<Vec<SaleUnits>> {
        let (orderbook, topic) = (&self.shared.orderbook, &self.shared.topics.events);
        let folded = self.folded.get(&partition).map_or(0, |offset| offset.get());
        let far_back = FAR_BACK.max(FAR_BACK_EACH.saturating_mul(asked.len() as i64));
        let (near, far): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|(_, since)| folded > 0 && folded - since.get() <= far_back);
        let mut units = orderbook
            .units_since(topic, partition, &near, Through::Offsets)
            .await?;
        for sale in far {
            let sale = [sale];
            let read = orderbook.units_since(topic, partition, &sale, Through::OrderIds);
            units.extend(read.await?);
        }
        if let Some(position) = units.iter().map(|units| units.position).max() {
            self.folded.insert(partition, position);
        }
        Ok(units)
    }

    /// What was suspected first, then whose turn it is; as many as are due in so many seconds.
    async fn scan(
        &mut self,
        served: &[Served],
        compared: &HashMap<VoucherId, Compared>,
        seconds: u64,
    ) -> anyhow::Result<()> {
        let most_sales = SCANNED_SALES.saturating_mul(usize::try_from(seconds)?);
        let most_units = SCANNED_UNITS.saturating_mul(i64::try_from(seconds)?);
        let suspect = |(voucher, _): &(VoucherId, i32)| {
            let held = compared.get(voucher).is_some_and(|found| found.held != 0);
            held || self.observations.suspects(*voucher) || self.orphans.concern(*voucher)
        };
        let live = |voucher: &VoucherId| compared.get(voucher).map_or(0, |found| found.live);
        let sales = served
            .iter()
            .map(|(sale, _)| (sale.voucher_id, sale.partition));
        let scannable = sales.filter(|(voucher, _)| live(voucher) <= SCANNABLE_UNITS);
        let (suspects, others): (Vec<_>, Vec<_>) = scannable.partition(suspect);
        let mut turn = self.rotation.due(suspects, most_sales);
        let begun = Instant::now();
        let rested = begun >= self.rest_until;
        if rested {
            turn.extend(self.rotation.due(others, most_sales));
        }
        let mut units: i64 = 0;
        for (voucher, partition) in turn {
            let live = live(&voucher);
            units += live;
            if units > most_units.max(live) {
                continue;
            }
            self.rotation.note(voucher);
            let seen = holds::check(&self.shared, voucher, partition, &mut self.orphans).await;
            // One master that is away keeps nobody from looking at the sales of the others.
            if let Err(error) = &seen {
                tracing::debug!(%voucher, error = format!("{error:#}"), "the sale could not be checked");
            }
            if let Ok(Some(seen)) = seen {
                self.observations.note(Scope::Holds, voucher, &seen);
                metrics::AUDIT_SCANNED_SALES.only().increment(1);
            }
        }
        if rested {
            self.rest_until = Instant::now() + begun.elapsed() * REST;
        }
        Ok(())
    }

    fn measure(&self, compared: &HashMap<VoucherId, Compared>) {
        let alarms = self.observations.alarms();
        for invariant in INVARIANTS {
            let sales = alarms.get(invariant).copied().unwrap_or(0);
            metrics::AUDIT_VIOLATIONS
                .with([invariant])
                .set(sales as f64);
        }
        let drift: i64 = compared.values().map(|found| found.stock.abs()).sum();
        metrics::AUDIT_DRIFT_UNITS.only().set(drift as f64);
        metrics::AUDIT_SALES.only().set(compared.len() as f64);
    }
}
