//! Copies a part of the log into another topic, or prints it as JSON lines.

use std::collections::VecDeque;

use anyhow::{Context, anyhow};
use clap::Args;
use seckill_domain::{Offset, OrderId, VoucherId};
use seckill_eventlog::{Delivery, OffsetRange, Record, Topics, record_json};
use seckill_orderbook::Orderbook;
use serde_json::json;
use time::OffsetDateTime;

use crate::act::{Act, Throttle, Warrant};
use crate::commands::db::connect;
use crate::commands::sale::parse_time;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{self, Report, table};
use crate::settings::Settings;

const DEFAULT_PER_SECOND: u32 = 1000;

/// The number of copies whose acks are awaited at the same time.
const IN_FLIGHT_RECORDS: usize = 500;

/// Which records, and where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seckillctl replay --voucher 17 --stdout
  seckillctl replay --since 2030-01-01T00:00:00Z --until 2030-01-01T01:00:00Z --to-topic audit \\
    --per-second 200 --execute --reason 'the audit team lost an hour'")]
pub(crate) struct Arguments {
    /// Only the events of this sale.
    #[arg(long, value_name = "ID")]
    voucher: Option<VoucherId>,
    /// Only the events of this order.
    #[arg(long, value_name = "ID", conflicts_with = "voucher")]
    order: Option<OrderId>,
    /// Only this partition.
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["voucher", "order"])]
    partition: Option<i32>,
    /// From this offset of the partition on.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// Up to this offset of the partition, without it.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// Only records that were written at this time, in RFC 3339, or later.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Only records that were written at this time, in RFC 3339, or before.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<OffsetDateTime>,
    /// The full name of the topic to write to. It has to exist, and must not be one of this pipeline's own.
    #[arg(long, value_name = "NAME", required_unless_present = "stdout")]
    to_topic: Option<String>,
    /// Print the records, one JSON value on each line.
    #[arg(long, conflicts_with_all = ["to_topic", "execute"])]
    stdout: bool,
    /// The most records a second [default: 1000 to a topic, no limit to standard output].
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_second: Option<u32>,
    #[command(flatten)]
    act: Act,
}

/// Returns a report, or none if the records themselves were printed.
pub(crate) async fn run(
    arguments: &Arguments,
    settings: &Settings,
) -> Result<Option<Report>, Failure> {
    let log = Log::open(settings)?;
    if let Some(target) = &arguments.to_topic {
        refuse_own(&log, target).await?;
    }
    let ranges = arguments.ranges(&log).await?;
    let Some(target) = &arguments.to_topic else {
        print(arguments, &log, ranges).await?;
        return Ok(None);
    };
    log.offset_ranges(target).await?;
    let count = count(arguments, &log, &ranges).await?;
    let warrant = arguments.act.warrant(&format!("replay {count}"), count)?;
    if let Some(warrant) = &warrant {
        let orderbook = connect(settings)?;
        let reachable = orderbook.ping().await;
        reachable.context("nothing was copied: the audit cannot be written")?;
        let (copied, result) = copy(arguments, &log, ranges.clone(), target).await;
        note(&orderbook, warrant, copied).await?;
        result.with_context(|| format!("the replay broke off after {copied} records"))?;
    }
    Ok(Some(report(
        arguments,
        &ranges,
        (count, target),
        warrant.is_some(),
    )))
}

/// Refuses the pipeline's own topics: events that are copied into the event topic would be decided again, and in the
/// other topics they would look like decisions or failures. The same names without this deployment's prefix are refused
/// too: they are a typing error or belong to another deployment. Only an empty event topic may be filled with a copy of
/// a log.
async fn refuse_own(log: &Log, target: &str) -> Result<(), Failure> {
    let names = |topics: &Topics| {
        let Topics {
            events,
            outcomes,
            states,
            dead_letters,
        } = topics.clone();
        [events, outcomes, states, dead_letters]
    };
    let (own, unprefixed) = (names(&log.topics), Topics::new(""));
    let is_named = |names: &[String]| names.iter().any(|name| name == target);
    if !is_named(&own) && target == unprefixed.events {
        let ranges = log.offset_ranges(target).await;
        if ranges.is_ok_and(|ranges| ranges.iter().all(|range| range.to == Offset::new(0))) {
            return Ok(());
        }
    }
    if is_named(&own) || is_named(&names(&unprefixed)) {
        return Err(Failure::Refused(format!(
            "{target} is one of the pipeline's own topics: replay into another one, or into an event topic \
             of another TOPIC_PREFIX that holds nothing"
        )));
    }
    Ok(())
}

impl Arguments {
    fn partition(&self, log: &Log) -> Option<i32> {
        let voucher = self.voucher.or(self.order.map(OrderId::voucher_id));
        voucher.map(|v| log.partition_of(v)).or(self.partition)
    }

    async fn ranges(&self, log: &Log) -> Result<Vec<OffsetRange>, Failure> {
        let mut ranges = log.event_ranges().await?;
        match self.partition(log) {
            Some(partition) if partition >= log.partitions => {
                let last = log.partitions - 1;
                let message = format!("--partition {partition}: the last one is {last}");
                return Err(Failure::Usage(message));
            }
            Some(partition) => ranges.retain(|s| s.partition == partition),
            None if self.from_offset.or(self.to_offset).is_some() => {
                let message = "offsets need --partition, --voucher or --order: each partition has \
                               its own";
                return Err(Failure::Usage(message.to_owned()));
            }
            None => {}
        }
        for range in &mut ranges {
            let bound = |offset: Option<i64>, default| offset.map_or(default, Offset::new);
            range.from = range.from.max(bound(self.from_offset, range.from));
            range.to = range.to.min(bound(self.to_offset, range.to));
        }
        log.between(&log.topics.events, ranges, self.since, self.until)
            .await
    }

    fn wants(&self, record: &Record, log: &Log) -> bool {
        if let Some(voucher) = self.voucher {
            return record.key.as_deref() == Some(voucher.to_string().as_bytes());
        }
        self.order.is_none_or(|order| {
            let event = record.event(log.partitions);
            event.is_ok_and(|event| event.body.order_id() == Some(order))
        })
    }
}

async fn count(arguments: &Arguments, log: &Log, ranges: &[OffsetRange]) -> Result<usize, Failure> {
    let mut records = log.scan(&log.topics.events, ranges.to_vec()).await?;
    let mut count = 0;
    while let Some(record) = records.next().await? {
        count += usize::from(arguments.wants(&record, log));
    }
    Ok(count)
}

async fn print(arguments: &Arguments, log: &Log, ranges: Vec<OffsetRange>) -> Result<(), Failure> {
    let mut throttle = arguments.per_second.map(Throttle::new);
    let mut records = log.scan(&log.topics.events, ranges).await?;
    while let Some(record) = records.next().await? {
        if !arguments.wants(&record, log) {
            continue;
        }
        if let Some(throttle) = &mut throttle {
            throttle.turn().await;
        }
        output::print(record_json(&record, usize::MAX))?;
    }
    Ok(())
}

/// Returns how many copies were acknowledged, and the error, if there was one.
async fn copy(
    arguments: &Arguments,
    log: &Log,
    ranges: Vec<OffsetRange>,
    target: &str,
) -> (usize, Result<(), Failure>) {
    let mut copied = 0;
    let result = copy_into(arguments, log, ranges, target, &mut copied).await;
    (copied, result)
}

async fn copy_into(
    arguments: &Arguments,
    log: &Log,
    ranges: Vec<OffsetRange>,
    target: &str,
    copied: &mut usize,
) -> Result<(), Failure> {
    let producer = log.producer()?;
    let mut throttle = Throttle::new(arguments.per_second.unwrap_or(DEFAULT_PER_SECOND));
    let mut records = log.scan(&log.topics.events, ranges).await?;
    let mut in_flight = VecDeque::new();
    while let Some(record) = records.next().await? {
        if !arguments.wants(&record, log) {
            continue;
        }
        if in_flight.len() >= IN_FLIGHT_RECORDS
            && let Some(oldest) = in_flight.pop_front()
        {
            acked(oldest, copied).await?;
        }
        throttle.turn().await;
        let sent = producer.send_copy(target, &record);
        in_flight.push_back(sent.context("a copy was not taken")?);
    }
    for delivery in in_flight {
        acked(delivery, copied).await?;
    }
    Ok(())
}

async fn acked(delivery: Delivery, copied: &mut usize) -> Result<(), Failure> {
    delivery.await.context("a copy was not acknowledged")?;
    *copied += 1;
    Ok(())
}

async fn note(orderbook: &Orderbook, warrant: &Warrant, copied: usize) -> Result<(), Failure> {
    let noted = orderbook.audit(warrant.entry(copied)).await;
    noted
        .map_err(|e| anyhow!("{copied} records were copied, but the audit was not written: {e}"))?;
    Ok(())
}

fn report(
    arguments: &Arguments,
    ranges: &[OffsetRange],
    (count, target): (usize, &str),
    executed: bool,
) -> Report {
    let read: Vec<_> = ranges.iter().filter(|s| !s.is_empty()).collect();
    let rows: Vec<_> = read
        .iter()
        .map(|s| {
            let cells = [i64::from(s.partition), s.from.get(), s.to.get()];
            cells.map(|number| number.to_string())
        })
        .collect();
    let text = table(["PARTITION", "FROM", "TO"], &rows);
    let verb = if executed { "copied" } else { "to copy" };
    let closing = arguments.act.closing(executed);
    let ranges: Vec<_> = read
        .iter()
        .map(|s| json!({ "partition": s.partition, "from": s.from.get(), "to": s.to.get() }))
        .collect();
    Report {
        text: format!("{text}\n{count} records {verb} to {target}{closing}"),
        json: json!({
            "stretches": ranges,
            "records": count,
            "to_topic": target,
            "executed": executed,
        }),
    }
}
