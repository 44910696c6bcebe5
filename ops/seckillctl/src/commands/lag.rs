//! How far the views are behind the log.

use std::collections::HashMap;

use anyhow::{Context, anyhow};
use seckill_domain::Offset;
use seckill_eventlog::{Backlog, OffsetRange, backlog};
use seckill_orderbook::{Orderbook, View};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::db::connect;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, table};
use crate::settings::{Need, Settings};

/// How far one view is behind in one partition, or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Lag {
    events: u64,
    /// The time since the oldest event was written that the view has not reached. 0 if there is none.
    seconds: f64,
}

#[derive(Debug)]
struct Row {
    partition: i32,
    end: i64,
    fold: i64,
    effects: i64,
    fold_lag: Lag,
    effects_lag: Lag,
}

/// Uses the positions of the views in PostgreSQL, which are more exact than the offsets that the consumer group has
/// committed.
pub(crate) async fn run(settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database])?;
    let (log, orderbook) = (Log::open(settings)?, connect(settings)?);
    let numbers: Vec<_> = (0..log.partitions).collect();
    // The positions are read before the log's ends, so that no view can seem to be ahead of the log.
    let effects = positions(&orderbook, &log, &numbers, View::Effects).await?;
    let fold = positions(&orderbook, &log, &numbers, View::Orders).await?;
    let ranges = log.event_ranges().await?;
    let fold_lag = lag(&log, &ranges, &fold).await?;
    let effects_lag = lag(&log, &ranges, &effects).await?;
    let row = |held: &OffsetRange| {
        let place = |view: &HashMap<i32, Offset>| position(view, held.partition);
        let of = |lag: &HashMap<i32, Lag>| lag.get(&held.partition).copied().unwrap_or_default();
        Row {
            partition: held.partition,
            end: held.to.get(),
            fold: place(&fold).get(),
            effects: place(&effects).get(),
            fold_lag: of(&fold_lag),
            effects_lag: of(&effects_lag),
        }
    };
    let rows: Vec<_> = ranges.iter().map(row).collect();
    check(&rows)?;
    Ok(report(&rows))
}

async fn positions(
    orderbook: &Orderbook,
    log: &Log,
    partitions: &[i32],
    view: View,
) -> Result<HashMap<i32, Offset>, Failure> {
    let topic = &log.topics.events;
    let found = orderbook.positions(topic, partitions, view).await;
    let found = found.context("cannot read the views' positions")?;
    Ok(found.into_iter().collect())
}

fn position(view: &HashMap<i32, Offset>, partition: i32) -> Offset {
    view.get(&partition).copied().unwrap_or(Offset::new(0))
}

fn unread(held: &OffsetRange, position: Offset) -> OffsetRange {
    OffsetRange {
        from: position.max(held.from),
        ..*held
    }
}

/// How far the view is behind the log in each partition.
async fn lag(
    log: &Log,
    ranges: &[OffsetRange],
    view: &HashMap<i32, Offset>,
) -> Result<HashMap<i32, Lag>, Failure> {
    let unread: Vec<_> = ranges
        .iter()
        .map(|s| unread(s, position(view, s.partition)))
        .collect();
    let topic = &log.topics.events;
    let found = backlog(&log.client, topic, &unread).await;
    let found = found.with_context(|| log.cannot_read(topic))?;
    let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let seconds = |ms: i64| (now_ms - i128::from(ms)).max(0) as f64 / 1000.0;
    let lag = |(partition, backlog): (i32, Backlog)| {
        let lag = Lag {
            events: backlog.events,
            seconds: backlog.oldest_ms.map_or(0.0, seconds),
        };
        (partition, lag)
    };
    Ok(found.into_iter().map(lag).collect())
}

/// Refuses a view that is ahead of the log: the log was cut or replaced.
fn check(rows: &[Row]) -> Result<(), Failure> {
    let Some(row) = rows.iter().find(|r| r.fold.max(r.effects) > r.end) else {
        return Ok(());
    };
    Err(anyhow!(
        "partition {} ends at {}, and the views stand at {} and {}: the log was cut or replaced, or \
         DATABASE_URL belongs to another log",
        row.partition,
        row.end,
        row.fold,
        row.effects
    )
    .into())
}

fn report(rows: &[Row]) -> Report {
    let all = |lag: fn(&Row) -> Lag| {
        rows.iter().map(lag).fold(Lag::default(), |sum, lag| Lag {
            events: sum.events + lag.events,
            seconds: sum.seconds.max(lag.seconds),
        })
    };
    let (fold, effects) = (all(|r| r.fold_lag), all(|r| r.effects_lag));
    let cells = |head: [String; 4], fold: Lag, effects: Lag| {
        let [partition, end, folded, carried_out] = head;
        let seconds = |lag: Lag| format!("{:.1}", lag.seconds);
        [
            partition,
            end,
            folded,
            fold.events.to_string(),
            seconds(fold),
            carried_out,
            effects.events.to_string(),
            seconds(effects),
        ]
    };
    let mut lines: Vec<_> = rows
        .iter()
        .map(|r| {
            let head = [i64::from(r.partition), r.end, r.fold, r.effects];
            cells(head.map(|n| n.to_string()), r.fold_lag, r.effects_lag)
        })
        .collect();
    lines.push(cells(["all", "", "", ""].map(String::from), fold, effects));
    let headers = [
        "PARTITION",
        "LOG END",
        "FOLD",
        "BEHIND",
        "SECONDS",
        "EFFECTS",
        "BEHIND",
        "SECONDS",
    ];
    let partitions: Vec<_> = rows.iter().map(row_json).collect();
    Report {
        text: table(headers, &lines),
        json: json!({
            "partitions": partitions,
            "all": { "fold_lag": lag_json(fold), "effects_lag": lag_json(effects) },
        }),
    }
}

fn row_json(row: &Row) -> Value {
    json!({
        "partition": row.partition,
        "log_end": row.end,
        "fold": row.fold,
        "fold_lag": lag_json(row.fold_lag),
        "effects": row.effects,
        "effects_lag": lag_json(row.effects_lag),
    })
}

fn lag_json(lag: Lag) -> Value {
    json!({ "events": lag.events, "seconds": lag.seconds })
}
