//! Decides that a record is skipped. The decision is first recorded in PostgreSQL, where the fold finds it, then
//! appended to the log, and then carried out. If the command dies in between, the fold waits until the command is
//! repeated.

use anyhow::{Context, anyhow};
use seckill_domain::{Event, EventBody, EventId, RecordSkipped, Timestamp, VoucherId};
use seckill_eventlog::ReadError;
use seckill_orderbook::{AuditEntry, SkipBegun, cause_of};
use seckill_service::traces;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Desk;
use super::letter::Source;
use crate::act::{Act, Warrant};
use crate::decoded::hex_dump;
use crate::failure::Failure;
use crate::output::Report;

pub(super) async fn run(desk: &Desk, source: Source, act: &Act) -> Result<Report, Failure> {
    let log = &desk.log;
    log.event_ranges().await?;
    let found = log
        .record_reader()?
        .at(source.partition, vec![source.offset])
        .await;
    let found = match found {
        Err(ReadError::NotInLog { .. }) => Vec::new(),
        found => found.with_context(|| log.cannot_read(&log.topics.events))?,
    };
    let record = found.into_iter().next();
    let record = record
        .ok_or_else(|| Failure::NotFound(format!("the event topic has no record at {source}")))?;
    let unknown = match record.event(log.partitions) {
        Err(error) if error.is_not_known_yet() => error,
        Err(error) => {
            return Err(Failure::Refused(format!(
                "every fold passes {source} over by itself, as it is malformed ({error}); nothing was done"
            )));
        }
        Ok(event) => {
            return Err(Failure::Refused(format!(
                "{source} is a {} that this version can read: roll it out, and the fold goes on; nothing \
                 was done",
                event.body.name()
            )));
        }
    };
    let voucher_id = record
        .voucher()
        .context("a record that is not known yet has a voucher's key")?;
    let warrant = act.warrant(&format!("skip {source}"), 1)?;
    if let Some(warrant) = &warrant {
        let skip = RecordSkipped {
            partition: source.partition,
            offset: source.offset,
            reason: warrant.reason.clone(),
            actor: warrant.actor.clone(),
        };
        carry_out(desk, voucher_id, skip, warrant).await?;
    }
    let executed = warrant.is_some();
    let payload = record.payload.as_deref().unwrap_or_default();
    let verb = if executed { "skipped" } else { "to skip" };
    Ok(Report {
        text: format!(
            "{source}, of sale {voucher_id}, {} bytes: {unknown}\n{}\n1 {verb}{}",
            payload.len(),
            hex_dump(payload),
            act.closing(executed)
        ),
        json: json!({ "record": source.to_string(), "cause": unknown.to_string(), "executed": executed }),
    })
}

async fn carry_out(
    desk: &Desk,
    voucher_id: VoucherId,
    skip: RecordSkipped,
    warrant: &Warrant,
) -> Result<(), Failure> {
    let topic = &desk.log.topics.events;
    let (partition, offset) = (skip.partition, skip.offset);
    let new = EventId::from_uuid(Uuid::now_v7());
    fail::fail_point!("seckillctl.skip.before-noting");
    let begun = desk
        .orderbook
        .begin_skip(topic, partition, offset, new, &cause_of(&skip))
        .await;
    let event_id = match begun.context("nothing was done")? {
        SkipBegun::Noted(event_id) => event_id,
        SkipBegun::Done => return Ok(()),
        SkipBegun::Passed(position) => {
            return Err(Failure::Refused(format!(
                "the fold has passed {partition}/{}, it is at {}: nothing was done",
                offset.get(),
                position.get()
            )));
        }
    };
    fail::fail_point!("seckillctl.skip.after-noting");
    let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    let event = Event {
        event_id,
        voucher_id,
        occurred_at: Timestamp::from_micros(i64::try_from(micros).unwrap_or(0)),
        body: EventBody::RecordSkipped(skip),
    };
    let unfinished =
        "the decision is noted and not in the log, and the fold waits for it: repeat the command";
    // The producer is kept until the ack, because a producer that is dropped discards unsent records.
    let producer = desk.log.event_producer().await?;
    let trace = traces::begin();
    let delivery = producer.send_event(&event, Some(trace));
    let delivery = delivery.map_err(|e| anyhow!(e)).context(unfinished)?;
    fail::fail_point!("seckillctl.skip.after-produce");
    delivery.await.map_err(|e| anyhow!(e)).context(unfinished)?;
    fail::fail_point!("seckillctl.skip.after-ack");
    let entry = AuditEntry {
        voucher_id: Some(voucher_id),
        trace: Some(trace),
        ..warrant.entry(1)
    };
    let finished = desk
        .orderbook
        .finish_skip(topic, partition, offset, entry)
        .await;
    finished.context(unfinished)?;
    fail::fail_point!("seckillctl.skip.after-finish");
    Ok(())
}
