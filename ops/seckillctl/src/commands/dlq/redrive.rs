//! Writes dead letters that can be decoded now into the event topic again.

use anyhow::Context;
use seckill_domain::Offset;
use seckill_eventlog::{Headers, Record};
use seckill_orderbook::SkipFate;
use serde_json::json;

use super::letter::{Letter, REDRIVE_COUNT, Source};
use super::{Desk, Selection};
use crate::act::{Act, Throttle, Warrant};
use crate::failure::Failure;
use crate::output::{Report, table};

/// A record that was redriven and skipped again this often is not redriven any more.
const MAX_REDRIVES: u32 = 3;

/// The number of letters that are sent, awaited and recorded together.
const CHUNK_LETTERS: usize = 100;

/// A letter's record as it is written into the event topic.
struct Redriven {
    source: Source,
    record: Record,
}

pub(super) async fn run(
    desk: &Desk,
    selection: &Selection,
    per_second: u32,
    act: &Act,
) -> Result<Report, Failure> {
    let letters = desk.selected(selection).await?;
    let (mut rows, mut plan, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for letter in &letters {
        let verdict = match redriven(letter) {
            Ok(redriven) => {
                let key = redriven.record.key.as_deref().unwrap_or_default();
                let verdict = format!("redrive under key {}", key.escape_ascii());
                plan.push(redriven);
                verdict
            }
            Err(reason) => {
                skipped.push(json!({ "letter": letter.source.to_string(), "reason": reason }));
                format!("skip: {reason}")
            }
        };
        rows.push([letter.source.to_string(), verdict]);
    }
    let warrant = act.warrant(&format!("redrive {}", plan.len()), plan.len())?;
    if let Some(warrant) = &warrant {
        carry_out(desk, &plan, per_second, warrant).await?;
    }
    let executed = warrant.is_some();
    let verb = if executed { "redriven" } else { "to redrive" };
    let text = table(["LETTER", "PLAN"], &rows);
    let names: Vec<_> = plan.iter().map(|r| r.source.to_string()).collect();
    let (count, closing) = (plan.len(), act.closing(executed));
    Ok(Report {
        text: format!("{text}\n{count} {verb}, {} skipped{closing}", skipped.len()),
        json: json!({ "redriven": names, "skipped": skipped, "executed": executed }),
    })
}

/// The record, or why it must not be written.
fn redriven(letter: &Letter) -> Result<Redriven, String> {
    let event = letter.event().map_err(|e| e.to_string())?;
    if letter.redrives >= MAX_REDRIVES {
        return Err(format!("it came back {MAX_REDRIVES} times"));
    }
    let mut record = letter.record.clone();
    // Headers whose names cannot be read are left out.
    let headers = letter.record.headers.iter().flatten();
    let headers: Headers = headers.filter(|(name, _)| *name != REDRIVE_COUNT).collect();
    let count = (letter.redrives + 1).to_string();
    record.headers = headers.with(REDRIVE_COUNT, Some(count.as_bytes()));
    // The key may have been wrong, so it is set again. It also determines the partition.
    record.key = Some(event.voucher_id.to_string().into_bytes());
    Ok(Redriven {
        source: letter.source,
        record,
    })
}

/// A letter is recorded as redriven only after its ack. Without an ack it may be redriven twice, which does no harm,
/// because the fold accepts an event only once.
async fn carry_out(
    desk: &Desk,
    plan: &[Redriven],
    per_second: u32,
    warrant: &Warrant,
) -> Result<(), Failure> {
    let topic = &desk.log.topics.events;
    // The producer computes a key's partition from the topic's number of partitions, so that number is checked first.
    desk.log.event_ranges().await?;
    let producer = desk.log.producer()?;
    let mut throttle = Throttle::new(per_second);
    for chunk in plan.chunks(CHUNK_LETTERS) {
        let mut sent = Vec::new();
        let mut result = Ok(());
        for redriven in chunk {
            throttle.turn().await;
            match producer.send_copy(topic, &redriven.record) {
                Ok(delivery) => sent.push((redriven.source, delivery)),
                Err(error) => {
                    result = Err(anyhow::Error::new(error));
                    break;
                }
            }
        }
        let mut acked: Vec<(i32, Offset)> = Vec::new();
        for (source, delivery) in sent {
            match delivery.await {
                Ok(_) => acked.push((source.partition, source.offset)),
                Err(error) => result = Err(error.into()),
            }
        }
        if !acked.is_empty() {
            let entry = warrant.entry(acked.len());
            let noted = desk
                .orderbook
                .note_fate(topic, &acked, SkipFate::Redriven, entry);
            noted.await.with_context(|| {
                format!(
                    "{} letters are redriven, but not noted as such",
                    acked.len()
                )
            })?;
        }
        result.context("redriving broke off; what is still listed can be redriven again")?;
    }
    Ok(())
}
