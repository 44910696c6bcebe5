//! `promote`, `rollback`, `abort` and `prune` choose which tables are live and which are kept.

use anyhow::Context;
use seckill_orderbook::{Exchange, RebuildPhase, RebuildRecord, Shadow};
use seckill_rebuild::{Exchanged, Proof};
use serde_json::json;

use super::report::{proof_json, proof_report};
use super::{Promote, Site, failed};
use crate::act::{Act, Warrant};
use crate::failure::Failure;
use crate::output::{Output, Report};

pub(super) async fn promote(
    site: &Site,
    promote: &Promote,
    output: Output,
) -> Result<Report, Failure> {
    let record = site.rebuild_in(&[RebuildPhase::Following]).await?;
    let _lock = site.lock().await?;
    let mut copy = site.copy(site.shadow(&record)?).await?;
    let proof = copy.prove().await.map_err(failed)?;
    if proof.differing.len() != promote.accept_differences {
        if proof.differing.is_empty() {
            return Err(Failure::Refused(format!(
                "no sale differs, and {} were expected: leave --accept-differences out; nothing was done",
                promote.accept_differences
            )));
        }
        return proof_report(&record, &proof, None, output);
    }
    let orders = usize::try_from(proof.orders).unwrap_or(usize::MAX);
    let phrase = format!("promote {} {}", record.id, promote.accept_differences);
    let Some(warrant) = promote.act.warrant(&phrase, orders.max(1))? else {
        let closing = promote.act.closing(false);
        return Ok(promotion(&record, &proof, None, closing));
    };
    let made = copy.exchange(Exchange::Promote, warrant.entry(orders));
    let made = made.await.map_err(failed)?;
    Ok(promotion(&record, &proof, Some(made), ""))
}

fn promotion(
    record: &RebuildRecord,
    proof: &Proof,
    made: Option<Exchanged>,
    closing: &str,
) -> Report {
    let proven = format!(
        "{} sales and {} orders compared, {} sales differ",
        proof.sales,
        proof.orders,
        proof.differing.len()
    );
    let what = match made {
        Some(made) => format!(
            "rebuild {} is live; the fold stood still for {} ms; the tables it took the place of are \
             kept in schema {}",
            record.id,
            made.pause.as_millis(),
            record.schemas.retired
        ),
        None => format!("rebuild {} would become live", record.id),
    };
    Report {
        text: format!("{proven}\n{what}{closing}"),
        json: json!({
            "rebuild": record.id,
            "executed": made.is_some(),
            "pause_ms": made.map(|m| u64::try_from(m.pause.as_millis()).unwrap_or(u64::MAX)),
            "attempts": made.map(|m| m.attempts),
            "proof": proof_json(proof),
        }),
    }
}

pub(super) async fn rollback(site: &Site, act: &Act) -> Result<Report, Failure> {
    let record = site.rebuild_in(&[RebuildPhase::Promoted]).await?;
    let phrase = format!("rollback {}", record.id);
    let Some(warrant) = act.warrant(&phrase, 1)? else {
        let text = format!(
            "the tables in schema {} would be brought up to date and become live{}",
            record.schemas.retired,
            act.closing(false)
        );
        return Ok(Report {
            text,
            json: json!({ "rebuild": record.id, "executed": false }),
        });
    };
    let _lock = site.lock().await?;
    let copy = site.copy(site.shadow(&record)?).await?;
    let made = copy.exchange(Exchange::Rollback, warrant.entry(1)).await;
    let made = made.map_err(failed)?;
    let pause_ms = u64::try_from(made.pause.as_millis()).unwrap_or(u64::MAX);
    Ok(Report {
        text: format!(
            "the former tables are live again; the fold stood still for {pause_ms} ms; the copy is kept \
             in schema {}, to be promoted again or aborted",
            record.schemas.copy
        ),
        json: json!({
            "rebuild": record.id,
            "executed": true,
            "pause_ms": pause_ms,
            "attempts": made.attempts,
        }),
    })
}

pub(super) async fn abort(site: &Site, act: &Act) -> Result<Report, Failure> {
    let phases = [RebuildPhase::Loading, RebuildPhase::Following];
    let record = site.rebuild_in(&phases).await?;
    drop_tables(site, &record, act, RebuildPhase::Aborted).await
}

pub(super) async fn prune(site: &Site, act: &Act) -> Result<Report, Failure> {
    let record = site.rebuild_in(&[RebuildPhase::Promoted]).await?;
    drop_tables(site, &record, act, RebuildPhase::Pruned).await
}

async fn drop_tables(
    site: &Site,
    record: &RebuildRecord,
    act: &Act,
    phase: RebuildPhase,
) -> Result<Report, Failure> {
    let shadow: Shadow = site.shadow(record)?;
    let schema = shadow.schema().to_owned();
    let verb = match phase {
        RebuildPhase::Pruned => "prune",
        _ => "abort",
    };
    let warrant: Option<Warrant> = act.warrant(&format!("{verb} {}", record.id), 1)?;
    let executed = warrant.is_some();
    if let Some(warrant) = warrant {
        let _lock = site.lock().await?;
        let dropped = shadow.drop_tables(phase, warrant.entry(1)).await;
        dropped.with_context(|| format!("schema {schema} was not dropped"))?;
    }
    let done = if executed { "is" } else { "would be" };
    Ok(Report {
        text: format!(
            "schema {schema} {done} dropped; the live tables stay as they are{}",
            act.closing(executed)
        ),
        json: json!({ "rebuild": record.id, "schema": schema, "executed": executed }),
    })
}
