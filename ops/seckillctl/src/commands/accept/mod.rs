//! `topics accept`: the log from which a partition was folded is lost, and its view continues with the current log.
//! Decisions that were made stay in PostgreSQL.

mod kept;
mod promised;

use anyhow::Context;
use clap::Args;
use seckill_domain::Offset;
use seckill_eventlog::{Log as Look, OffsetRange};
use seckill_orderbook::{AcceptLog, FoldPosition, LostRecords, Orderbook, RebuildLock, View};
use seckill_stock::{Probe, Stock};
use serde_json::{Value, json};

use self::kept::Kept;
use self::promised::Promised;
use crate::act::{Act, Warrant};
use crate::commands::db::connect_with;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, fields};
use crate::settings::{Need, Settings};
use crate::stock::connect_stock;

/// One connection is for the lock of rebuilds.
const CONNECTIONS: u32 = 2;

/// Which partition.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  seckillctl topics accept --partition 3
  seckillctl topics accept --partition 3 --execute --reason 'the topic was deleted, ticket 4711'")]
pub(crate) struct Arguments {
    /// The partition of the event topic.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    #[command(flatten)]
    act: Act,
}

struct Stores {
    log: Log,
    orderbook: Orderbook,
    stock: Stock,
    partition: i32,
}

/// What is to be done.
struct Plan {
    stands: FoldPosition,
    effects: Offset,
    held: OffsetRange,
    /// Why the log is a different one, and which part of it is the same. None if it is the view's log.
    other: Option<(String, Kept)>,
    lost: LostRecords,
    promised: Promised,
}

impl Plan {
    /// The part of the current log that is to be folded.
    fn unread(&self, kept: &Kept) -> OffsetRange {
        OffsetRange {
            from: kept.from,
            ..self.held
        }
    }
}

pub(crate) async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database, Need::Redis])?;
    let log = Log::open(settings)?;
    let stores = Stores {
        orderbook: connect_with(settings, CONNECTIONS)?,
        stock: connect_stock(settings, &log).await?,
        partition: arguments.partition,
        log,
    };
    let mut plan = plan(&stores).await?;
    let wanted = usize::from(plan.other.is_some());
    let phrase = format!("accept partition {}", arguments.partition);
    let warrant = arguments.act.warrant(&phrase, wanted)?;
    if let (Some(warrant), Some((_, kept))) = (&warrant, &plan.other) {
        plan.promised = carry_out(&stores, &plan, kept, warrant).await?;
    }
    Ok(report(&stores, &plan, &arguments.act, warrant.is_some()))
}

async fn plan(stores: &Stores) -> Result<Plan, Failure> {
    let Stores {
        log,
        orderbook,
        partition,
        ..
    } = stores;
    let (topic, partition) = (&log.topics.events, *partition);
    let held = log.event_ranges().await?;
    let held = held.into_iter().find(|held| held.partition == partition);
    let held =
        held.ok_or_else(|| Failure::NotFound(format!("there is no partition {partition}")))?;
    let positions = orderbook.fold_positions(topic, &[partition]).await;
    let positions = positions.context("cannot read the fold's position")?;
    let stands = positions.first().map(|(_, at)| *at).unwrap_or_default();
    let effects = orderbook
        .positions(topic, &[partition], View::Effects)
        .await;
    let effects = effects.context("cannot read the effects' position")?;
    let reader = log.record_reader()?;
    let looked = reader.log_of(partition, stands.next, stands.last);
    let other = match looked.await.with_context(|| log.cannot_read(topic))? {
        Look::Same => None,
        Look::Other(why) => Some((why, kept::find(log, orderbook, held, stands.next).await?)),
    };
    let lost = match &other {
        Some((_, kept)) => orderbook.records_from(topic, partition, kept.from).await,
        None => Ok(LostRecords::default()),
    };
    let mut plan = Plan {
        stands,
        effects: effects.first().map(|(_, at)| *at).unwrap_or_default(),
        held,
        other,
        lost: lost.context("cannot read the tables")?,
        promised: Promised::default(),
    };
    if let Some((_, kept)) = &plan.other {
        plan.promised = promised::find(stores, plan.unread(kept)).await?;
    }
    Ok(plan)
}

async fn carry_out(
    stores: &Stores,
    plan: &Plan,
    kept: &Kept,
    warrant: &Warrant,
) -> Result<Promised, Failure> {
    let (partition, orderbook) = (stores.partition, &stores.orderbook);
    if plan.effects != plan.stands.next {
        return Err(Failure::Refused(format!(
            "the effects of partition {partition} stand at {}, and its fold at {}: what was decided has to be \
             carried out first, which a running projector does also while the fold stands still; nothing was \
             done",
            plan.effects.get(),
            plan.stands.next.get()
        )));
    }
    let _lock = without_rebuilds(stores).await?;
    // The position of each sale in Redis is one of the lost log. Only a load gives it a position of the current one.
    shut_sales(stores, None)
        .await
        .context("nothing was changed in PostgreSQL")?;
    // This has to be done before the fold continues, because the sales are loaded again then.
    let promised = promised::find(stores, plan.unread(kept)).await?;
    promised::write(stores, &promised.events).await?;
    let accept = AcceptLog {
        topic: &stores.log.topics.events,
        partition,
        partitions: stores.log.partitions,
        stands: plan.stands,
        from: kept.from,
        last: kept.last,
    };
    let rows = usize::try_from(plan.lost.count()).unwrap_or(usize::MAX);
    let accepted = orderbook.accept_log(&accept, warrant.entry(rows)).await;
    if !accepted.context("unknown whether the log was accepted: run it again")? {
        return Err(Failure::Refused(
            "the view has moved meanwhile: look at the plan again; nothing was done".to_owned(),
        ));
    }
    // A load that was about to open a sale may have opened it meanwhile.
    let reopened = shut_sales(stores, Some(kept.from)).await;
    reopened
        .context("the log is accepted, and a sale could not be shut: `seckillctl reconcile`")?;
    Ok(promised)
}

/// Refuses while a rebuild is open, because its tables are folded from the lost log.
async fn without_rebuilds(stores: &Stores) -> Result<RebuildLock, Failure> {
    let (topic, orderbook) = (&stores.log.topics.events, &stores.orderbook);
    let lock = orderbook.lock_rebuilds().await;
    let lock = lock.context("cannot take the lock of rebuilds")?;
    let lock = lock.ok_or_else(|| {
        Failure::Refused("a rebuild command runs: wait for its end; nothing was done".to_owned())
    })?;
    let rebuilds = orderbook.rebuilds(topic).await;
    let rebuilds = rebuilds.context("cannot read the rebuilds")?;
    match rebuilds.iter().find(|rebuild| rebuild.phase.is_open()) {
        None => Ok(lock),
        Some(open) => Err(Failure::Refused(format!(
            "rebuild {} has tables of the log that is gone: abort or prune it first; nothing was done",
            open.id
        ))),
    }
}

/// Shuts the partition's sales in Redis, so that the projector loads them again. With an offset, only the sales whose
/// position is higher.
async fn shut_sales(stores: &Stores, behind: Option<Offset>) -> anyhow::Result<()> {
    let sales = stores.orderbook.sales_to_serve(&[stores.partition]).await?;
    for sale in sales {
        let voucher = sale.voucher_id;
        let context = || format!("sale {voucher} cannot be shut in Redis");
        let probe = stores.stock.probe(voucher).await.with_context(context)?;
        let Probe::Open(view) = probe else { continue };
        if behind.is_none_or(|offset| view.position > offset) {
            let shut = stores.stock.shut(voucher, view.epoch).await;
            shut.with_context(context)?;
        }
    }
    Ok(())
}

fn report(stores: &Stores, plan: &Plan, act: &Act, executed: bool) -> Report {
    let (partition, next) = (stores.partition, plan.stands.next.get());
    let Some((why, kept)) = &plan.other else {
        return Report {
            text: format!(
                "partition {partition} of the log has what was folded last, up to {next}{}",
                act.closing(false)
            ),
            json: json!({ "partition": partition, "same": true, "executed": false }),
        };
    };
    let (from, lost) = (kept.from.get(), &plan.lost);
    let unread = plan.held.to.get().saturating_sub(from);
    let promised = promised_text(&plan.promised);
    let rows = [
        ("partition", partition.to_string()),
        ("the log", why.clone()),
        ("is the same below", from.to_string()),
        ("sales put up or closed", lost.sales.to_string()),
        ("orders reserved", lost.reserved.to_string()),
        ("orders paid", lost.paid.to_string()),
        ("orders released", lost.released.to_string()),
        ("refunds due", lost.refunds.to_string()),
        ("changes of stock", lost.adjustments.to_string()),
        ("records passed over", lost.skipped.to_string()),
        ("promised, not folded", promised.clone()),
        (
            "to be folded then",
            format!("{unread} offsets from {from} on"),
        ),
    ];
    let verb = if executed { "goes on" } else { "would go on" };
    let text = format!(
        "{}\nWhat the log lacks of that stays as PostgreSQL has it, but for records passed over. The fold {verb} at \
         {from}.{}",
        fields(&rows),
        act.closing(executed)
    );
    Report {
        text,
        json: json!({
            "partition": partition,
            "same": false,
            "why": why,
            "stood_at": next,
            "from": from,
            "log_end": plan.held.to.get(),
            "lost": lost_json(lost),
            "promised": plan.promised.events.len(),
            "promised_unknown": plan.promised.unknown.iter().map(|v| v.get()).collect::<Vec<_>>(),
            "executed": executed,
        }),
    }
}

fn promised_text(promised: &Promised) -> String {
    let found = format!(
        "{} orders, written once more from Redis",
        promised.events.len()
    );
    let unknown: Vec<_> = promised.unknown.iter().map(ToString::to_string).collect();
    if unknown.is_empty() {
        return found;
    }
    format!(
        "{found}; not known of sales {}, which Redis has lost",
        unknown.join(", ")
    )
}

fn lost_json(lost: &LostRecords) -> Value {
    json!({
        "sales": lost.sales,
        "reserved": lost.reserved,
        "paid": lost.paid,
        "released": lost.released,
        "refunds": lost.refunds,
        "adjustments": lost.adjustments,
        "skipped": lost.skipped,
    })
}
