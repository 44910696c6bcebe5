//! Writes dead letters that can be decoded now into the event topic again.

use anyhow::Context;
use seckill_domain::Offset;
use seckill_eventlog::Redriven;
use seckill_orderbook::SkipFate;
use serde_json::json;

use super::letter::Source;
use super::{Desk, Selection};
use crate::act::{Act, Throttle, Warrant};
use crate::failure::Failure;
use crate::output::{Report, table};

/// The number of letters that are sent, awaited and recorded together.
const CHUNK_LETTERS: usize = 100;

pub(super) async fn run(
    desk: &Desk,
    selection: &Selection,
    per_second: u32,
    act: &Act,
) -> Result<Report, Failure> {
    let letters = desk.selected(selection).await?;
    let (mut rows, mut plan, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for letter in &letters {
        let verdict = match Redriven::of(&letter.record) {
            Ok(redriven) => {
                let verdict = format!("redrive under key {}", redriven.event().voucher_id);
                plan.push((letter.source, redriven));
                verdict
            }
            Err(reason) => {
                let reason = reason.to_string();
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
    let names: Vec<_> = plan.iter().map(|(source, _)| source.to_string()).collect();
    let (count, closing) = (plan.len(), act.closing(executed));
    Ok(Report {
        text: format!("{text}\n{count} {verb}, {} skipped{closing}", skipped.len()),
        json: json!({ "redriven": names, "skipped": skipped, "executed": executed }),
    })
}

/// A letter is recorded as redriven only after its ack. Without an ack it may be redriven twice, which does no harm,
/// because the fold accepts an event only once.
async fn carry_out(
    desk: &Desk,
    plan: &[(Source, Redriven)],
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
        for (source, redriven) in chunk {
            throttle.turn().await;
            match producer.send_again(redriven) {
                Ok(delivery) => sent.push((source, delivery)),
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
