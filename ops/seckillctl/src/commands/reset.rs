//! `topics reset`: plans to start a view from another offset. While services run, only one such move is safe: to move
//! the effects back.

use anyhow::Context;
use clap::{Args, ValueEnum};
use seckill_domain::Offset;
use seckill_orderbook::{Orderbook, View};
use serde_json::json;

use crate::act::Act;
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, table};
use crate::settings::{Need, Settings};

/// Which view, and to where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  seckillctl topics reset --view effects --partition 3 --to-offset 1042
  seckillctl topics reset --view effects --to-offset 0 --execute --reason 'outcomes were lost'")]
pub(crate) struct Arguments {
    /// The view to move.
    #[arg(long, value_enum)]
    view: NamedView,
    /// Only this partition of the event topic.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The offset at which the view is to continue.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: i64,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NamedView {
    /// The fold, which decides and stores.
    Orders,
    /// The effects, which are carried out in Redis and published.
    Effects,
}

/// One partition.
struct Move {
    partition: i32,
    from: Offset,
    verdict: Verdict,
}

enum Verdict {
    /// The effects of this many records are carried out again.
    Back(i64),
    Stays,
    Refused(&'static str),
}

const FORWARD: &str =
    "forward: effects in between would never be carried out, and units not come back";
const ORDERS: &str = "rows and position change together: `seckillctl rebuild orders` folds the log anew \
                      beside them, `seckillctl reconcile` repairs single rows";
const RUNS: &str = "a projector runs, and would move its effects forward again: stop all of them, reset, \
                    and start them; orders are taken meanwhile";
const CUT: &str = "the log does not go back so far";

pub(crate) async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database])?;
    let (log, orderbook) = (Log::open(settings)?, connect(settings)?);
    let moves = plan(arguments, &log, &orderbook).await?;
    let back: Vec<i32> = moves
        .iter()
        .filter(|m| matches!(m.verdict, Verdict::Back(_)))
        .map(|m| m.partition)
        .collect();
    let refused = moves
        .iter()
        .any(|m| matches!(m.verdict, Verdict::Refused(_)));
    let wanted = if refused { 0 } else { back.len() };
    let warrant = arguments.act.warrant(&format!("reset {wanted}"), wanted)?;
    if let Some(warrant) = &warrant {
        let runs = orderbook.is_connected("seckill-projector").await;
        if runs.context("cannot ask who is connected")? {
            return Err(Failure::Refused(RUNS.to_owned()));
        }
        let to = Offset::new(arguments.to_offset);
        let (topic, entry) = (&log.topics.events, warrant.entry(wanted));
        let moved = orderbook.reset_effects(topic, &back, to, entry).await;
        moved.context("the effects' position was not moved")?;
    }
    let report = report(arguments, &moves, warrant.is_some());
    if refused && arguments.act.executes() {
        return Err(Failure::Refused(report.text));
    }
    Ok(report)
}

async fn plan(
    arguments: &Arguments,
    log: &Log,
    orderbook: &Orderbook,
) -> Result<Vec<Move>, Failure> {
    let mut ranges = log.event_ranges().await?;
    if let Some(partition) = arguments.partition {
        ranges.retain(|held| held.partition == partition);
        if ranges.is_empty() {
            return Err(Failure::NotFound(format!(
                "there is no partition {partition}"
            )));
        }
    }
    let numbers: Vec<i32> = ranges.iter().map(|held| held.partition).collect();
    let view = match arguments.view {
        NamedView::Orders => View::Orders,
        NamedView::Effects => View::Effects,
    };
    let positions = orderbook
        .positions(&log.topics.events, &numbers, view)
        .await;
    let positions = positions.context("cannot read the views' positions")?;
    let to = arguments.to_offset;
    let one = |((partition, from), start): ((i32, Offset), i64)| Move {
        partition,
        from,
        verdict: match arguments.view {
            _ if to == from.get() => Verdict::Stays,
            NamedView::Orders => Verdict::Refused(ORDERS),
            NamedView::Effects if to > from.get() => Verdict::Refused(FORWARD),
            NamedView::Effects if to < start => Verdict::Refused(CUT),
            NamedView::Effects => Verdict::Back(from.get() - to),
        },
    };
    let starts = ranges.iter().map(|held| held.from.get());
    Ok(positions.into_iter().zip(starts).map(one).collect())
}

fn report(arguments: &Arguments, moves: &[Move], executed: bool) -> Report {
    let to = arguments.to_offset;
    let say = |verdict: &Verdict| match verdict {
        Verdict::Back(records) => {
            format!(
                "the effects of {records} records again: Redis skips them, outcomes are repeated"
            )
        }
        Verdict::Stays => "it stands there".to_owned(),
        Verdict::Refused(why) => format!("refused: {why}"),
    };
    let rows: Vec<_> = moves
        .iter()
        .map(|m| {
            let numbers = [i64::from(m.partition), m.from.get(), to].map(|n| n.to_string());
            let [partition, from, to] = numbers;
            [partition, from, to, say(&m.verdict)]
        })
        .collect();
    let text = table(["PARTITION", "STANDS AT", "TO", "PLAN"], &rows);
    let json = moves.iter().map(|m| {
        json!({
            "partition": m.partition,
            "from": m.from.get(),
            "to": to,
            "plan": say(&m.verdict),
            "refused": matches!(m.verdict, Verdict::Refused(_)),
        })
    });
    Report {
        text: format!("{text}{}", arguments.act.closing(executed)),
        json: json!({ "moves": json.collect::<Vec<_>>(), "executed": executed }),
    }
}
