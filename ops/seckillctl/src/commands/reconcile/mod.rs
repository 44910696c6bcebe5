//! Compares PostgreSQL and Redis with the log, and repairs differences. Without `--execute` only the plan is printed;
//! with it the same plan is carried out.

mod difference;
mod evidence;
mod log_fold;
mod redis;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use seckill_domain::{Timestamp, VoucherId};
use seckill_orderbook::{AcceptedLog, Orderbook};
use seckill_stock::{DriftKind, HoldsField, ScanPage, Stock, compare};
use serde_json::json;

use self::difference::{Difference, REWRITE, differences_table, losses};
use self::log_fold::LogFold;
use self::redis::{Mended, Seen};
use crate::act::{Act, Warrant};
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Output, Report, tell};
use crate::settings::{Need, Settings};
use crate::stock::connect_stock;

/// The producers' delivery timeout, unless the promise deadline is longer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// A margin for two clocks that differ and for an ack that is under way.
const MARGIN: Duration = Duration::from_secs(1);
/// How often a sale is compared again that was being loaded or not served during the comparison.
const ROUNDS: u32 = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(500);

/// Compare the tables with the log's fold, and Redis with the log at the sale's own position.
///
/// Units in flight are no difference. Rows are repaired by writing what the log's fold says, with the
/// fold held where it is; Redis by a correction that is refused if the sale has moved, or, where
/// that cannot be, by closing the sale, which the projector then loads anew (about PROMISE_DEADLINE_MS).
/// Only rows and holds that differ are touched. At the end the same sales are compared once more; what
/// differs still is printed, and the exit code is 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  seckillctl reconcile
  seckillctl reconcile --voucher 17 --output json
  seckillctl reconcile --voucher 17 --execute --reason 'a row was edited by hand, ticket 4711'")]
pub(crate) struct Arguments {
    /// Only this sale. May be given several times.
    #[arg(long = "voucher", value_name = "ID")]
    vouchers: Vec<VoucherId>,
    /// Also remove orders, holds and refunds that are not in the log. The plan names each of them.
    #[arg(long, requires = "execute")]
    allow_removal: bool,
    #[command(flatten)]
    act: Act,
}

struct Stores {
    log: Log,
    orderbook: Orderbook,
    stock: Stock,
    /// After this long a grant that is not pending is in the log, or never will be.
    in_flight: Duration,
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    sales: usize,
    differences: Vec<Difference>,
    /// By sale, the names and texts of holds that are certainly not in the log.
    orphans: HashMap<VoucherId, HashSet<(String, String)>>,
    /// Sales that Redis does not serve, or that were being loaded at every attempt.
    not_in_redis: usize,
    /// Sales that the arguments name and that no store has.
    unknown: Vec<VoucherId>,
    /// Partitions whose log lacks records that were folded earlier.
    accepted: Vec<AcceptedLog>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    settings: &Settings,
    output: Output,
) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database, Need::Redis])?;
    let deadline = settings.promise_deadline()?;
    let log = Log::open(settings)?;
    let stores = Stores {
        orderbook: connect(settings)?,
        stock: connect_stock(settings, &log).await?,
        log,
        in_flight: DELIVERY_TIMEOUT.max(deadline) + deadline + MARGIN,
    };
    stores.log.check_keeps_records().await?;
    let planned = plan(&stores, &arguments.vouchers).await?;
    if let Some(voucher) = planned.unknown.first() {
        return Err(Failure::NotFound(format!("there is no sale {voucher}")));
    }
    if let Some(losses) = losses(&planned.differences).filter(|_| arguments.act.executes()) {
        if !arguments.allow_removal {
            return Err(Failure::Refused(format!(
                "orders, holds or refunds would be taken away, and a buyer may have been promised each: look at \
                 what the log says of them, and repeat with --allow-removal; nothing was done\n{losses}"
            )));
        }
        // Standard output has only one report, about what was done.
        tell(format_args!("{losses}\n"));
    }
    let sales: BTreeSet<_> = planned.differences.iter().map(|d| d.voucher).collect();
    let warrant = arguments
        .act
        .warrant(&format!("reconcile {}", sales.len()), sales.len())?;
    let Some(warrant) = warrant else {
        return Ok(report(&arguments.act, &planned, None));
    };
    let done = carry_out(&stores, &planned, &warrant).await?;
    let again: Vec<_> = sales.into_iter().collect();
    let left = plan(&stores, &again).await?.differences;
    let report = report(&arguments.act, &planned, Some((&done, &left)));
    if left.is_empty() {
        return Ok(report);
    }
    let failure = anyhow!(
        "{} differences are left: look at them with `seckillctl reconcile`, and repeat it",
        left.len()
    );
    Err(report.print_with(output, failure))
}

async fn plan(stores: &Stores, wanted: &[VoucherId]) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let named: Option<HashSet<_>> = (!wanted.is_empty()).then(|| wanted.iter().copied().collect());
    let partitions = partitions(stores, named.as_ref());
    let mut seen = walks(stores, &partitions, named.as_ref()).await?;

    // Read after Redis, so that the tables are not behind it, and before the log's end.
    let mut snapshot = stores
        .orderbook
        .book_snapshot(&stores.log.topics.events)
        .await
        .context("cannot read the tables")?;
    let mut fold = LogFold::new(
        &stores.log,
        &mut snapshot,
        named.clone(),
        partitions.clone(),
    )
    .await?;
    fold.read_for(&snapshot).await?;
    let vouchers = match &named {
        Some(named) => named.iter().copied().collect(),
        None => {
            let in_tables = snapshot
                .vouchers()
                .await
                .context("cannot read the tables")?;
            let in_log = fold.book.vouchers();
            in_tables.into_iter().chain(in_log).collect::<BTreeSet<_>>()
        }
    };
    for voucher in &vouchers {
        let found = tables::compare(&stores.log, &fold, &mut snapshot, *voucher).await?;
        plan.differences.extend(found);
    }
    drop(snapshot);
    let known = |voucher: &&VoucherId| {
        !fold.book.rows(**voucher).is_empty()
            || plan.differences.iter().any(|d| d.voucher == **voucher)
    };
    let asked_for = named.iter().flatten();
    plan.unknown = asked_for.filter(|v| !known(v)).copied().collect();

    for round in 1..=ROUNDS {
        fold.fold_rest();
        seen = compare_redis(stores, &fold, seen, &mut plan);
        if seen.is_empty() || round == ROUNDS {
            break;
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
        let again: Vec<_> = seen.into_keys().collect();
        seen = walk_all(stores, &again).await?;
        fold.read(&HashMap::new()).await?;
    }
    evidence::find(&stores.log, &fold, &mut plan.differences).await?;
    plan.accepted = fold.accepted.values().copied().collect();
    plan.sales = vouchers.len();
    plan.not_in_redis = seen.len();
    plan.differences.sort_by_key(|d| d.voucher);
    Ok(plan)
}

/// The partitions of these sales. None: all partitions.
fn partitions(stores: &Stores, named: Option<&HashSet<VoucherId>>) -> Vec<i32> {
    let Some(named) = named else {
        return (0..stores.log.partitions).collect();
    };
    let of = |voucher: &VoucherId| stores.log.partition_of(*voucher);
    let numbers: BTreeSet<i32> = named.iter().map(of).collect();
    numbers.into_iter().collect()
}

/// Reads every sale that Redis has to serve.
async fn walks(
    stores: &Stores,
    partitions: &[i32],
    named: Option<&HashSet<VoucherId>>,
) -> Result<BTreeMap<VoucherId, Seen>, Failure> {
    let served = stores.orderbook.sales_to_serve(partitions).await;
    let served = served.context("cannot read the tables")?;
    let vouchers: Vec<_> = served
        .iter()
        .map(|sale| sale.voucher_id)
        .filter(|voucher| named.is_none_or(|named| named.contains(voucher)))
        .collect();
    walk_all(stores, &vouchers).await
}

async fn walk_all(
    stores: &Stores,
    vouchers: &[VoucherId],
) -> Result<BTreeMap<VoucherId, Seen>, Failure> {
    let mut seen = BTreeMap::new();
    for voucher in vouchers {
        seen.insert(*voucher, redis::walk(&stores.stock, *voucher).await?);
    }
    Ok(seen)
}

/// Adds the differences to the plan. Returns the sales that could not be compared yet.
fn compare_redis(
    stores: &Stores,
    fold: &LogFold<'_>,
    seen: BTreeMap<VoucherId, Seen>,
    plan: &mut Plan,
) -> BTreeMap<VoucherId, Seen> {
    let mut left = BTreeMap::new();
    for (voucher, seen) in seen {
        let pages = match &seen {
            Seen::Pages(pages) => pages,
            Seen::NotServed => {
                left.insert(voucher, seen);
                continue;
            }
            Seen::Unreadable(what) => {
                let difference = Difference::unreadable_sale(voucher, what.clone());
                plan.differences.push(difference);
                continue;
            }
        };
        let position = fold.read_to(stores.log.partition_of(voucher));
        let expected = redis::expected(fold.book.rows(voucher), position);
        let now = now_of(pages);
        let is_orphan = |field: &HoldsField| field.is_overdue(now, stores.in_flight);
        match expected.and_then(|expected| compare(pages, &expected, &is_orphan)) {
            Some(found) => {
                let orphans = found.drifts.iter();
                let orphans = orphans.filter(|d| d.kind == DriftKind::OrphanHold);
                let orphans = orphans.filter_map(|d| Some((d.field.clone()?, d.actual.clone())));
                plan.orphans.entry(voucher).or_default().extend(orphans);
                let of = |d| Difference::of_drift(voucher, d, &found.repair);
                plan.differences.extend(found.drifts.iter().map(of));
            }
            None => {
                left.insert(voucher, seen);
            }
        }
    }
    left
}

fn now_of(pages: &[ScanPage]) -> Timestamp {
    let last = pages.last();
    last.map_or(Timestamp::from_micros(0), |page| page.numbers.now)
}

/// What was done.
#[derive(Default)]
struct Done {
    rows: usize,
    corrected: Vec<VoucherId>,
    reloaded: Vec<VoucherId>,
}

/// Repairs the rows first, because Redis is repaired from them.
async fn carry_out(stores: &Stores, plan: &Plan, warrant: &Warrant) -> Result<Done, Failure> {
    let mut done = Done::default();
    if plan.differences.iter().any(|d| d.repair == REWRITE) {
        let (log, orderbook) = (&stores.log, &stores.orderbook);
        done.rows = tables::repair(log, orderbook, &plan.differences, warrant).await?;
    }
    let redis = plan.differences.iter().filter(|d| d.repair != REWRITE);
    let redis: BTreeSet<_> = redis.map(|d| d.voucher).collect();
    if redis.is_empty() {
        return Ok(done);
    }
    // Write the audit before the correction: a correction without a row in the audit would be worse than a row without
    // a correction.
    let noted = stores.orderbook.audit(warrant.entry(redis.len())).await;
    noted.context("Redis was not changed: the audit cannot be written")?;
    let (none, mut shut) = (HashSet::new(), Vec::new());
    for voucher in redis {
        let orphans = plan.orphans.get(&voucher).unwrap_or(&none);
        let place = (&*stores.log.topics.events, stores.log.partition_of(voucher));
        let (stock, orderbook) = (&stores.stock, &stores.orderbook);
        match redis::repair(stock, orderbook, place, voucher, orphans).await? {
            Mended::Already => {}
            Mended::Corrected => done.corrected.push(voucher),
            Mended::Shut(epoch) => shut.push((voucher, epoch)),
        }
    }
    // Shut all of them first, so that they drain at the same time.
    for (voucher, epoch) in shut {
        redis::reopened(&stores.stock, voucher, epoch).await?;
        done.reloaded.push(voucher);
    }
    Ok(done)
}

/// `done` is what was carried out, and the differences that are left.
fn report(act: &Act, plan: &Plan, done: Option<(&Done, &[Difference])>) -> Report {
    let ids = |vouchers: &[VoucherId]| vouchers.iter().map(|v| v.get()).collect::<Vec<_>>();
    let list = |found: &[Difference]| found.iter().map(Difference::json).collect::<Vec<_>>();
    let nothing = Done::default();
    let of = done.map_or(&nothing, |(done, _)| done);
    let json = json!({
        "sales": plan.sales,
        "not_in_redis": plan.not_in_redis,
        "differences": list(&plan.differences),
        "executed": done.is_some(),
        "rows_written": of.rows,
        "corrected": ids(&of.corrected),
        "reloaded": ids(&of.reloaded),
        "left": done.map(|(_, left)| list(left)),
        "taken_as_they_are": plan.accepted.iter().map(difference::lost_json).collect::<Vec<_>>(),
    });
    let count = plan.differences.len();
    let mut text = format!("{count} differences in {} sales", plan.sales);
    if plan.not_in_redis > 0 {
        text = format!(
            "{text}, {} of which Redis does not serve",
            plan.not_in_redis
        );
    }
    for log in &plan.accepted {
        text = format!("{text}\n{}", difference::lost_text(log));
    }
    if count > 0 {
        let differences = differences_table(&plan.differences);
        let losses = losses(&plan.differences);
        let losses = losses.map_or_else(String::new, |losses| format!("{losses}\n"));
        let closing = act.closing(done.is_some());
        text = format!("{differences}\n{losses}{text}{closing}");
    }
    if let Some((done, left)) = done {
        text = format!(
            "{text}\n{} rows written, {} sales corrected in Redis, {} loaded anew\n\
             compared once more: {} differences are left",
            done.rows,
            done.corrected.len(),
            done.reloaded.len(),
            left.len()
        );
        if !left.is_empty() {
            text = format!("{text}\n{}", differences_table(left));
        }
    }
    Report { json, text }
}
