//! `start` and `verify`: fold the copy, and compare it with the live tables.

use std::time::Instant;

use anyhow::Context;
use seckill_domain::Offset;
use seckill_eventlog::OffsetRange;
use seckill_orderbook::{RebuildPhase, RebuildRecord};
use seckill_rebuild::RebuildError;
use serde_json::json;

use super::progress::Progress;
use super::report::{plan, proof_report};
use super::{Site, failed};
use crate::act::Act;
use crate::failure::Failure;
use crate::output::{Output, Report};

/// Makes a copy, or continues one that was begun.
pub(super) async fn start(site: &Site, act: &Act, output: Output) -> Result<Report, Failure> {
    let open = site.open_rebuild().await?;
    if let Some(record) = open.iter().find(|r| r.phase == RebuildPhase::Promoted) {
        return Err(Failure::Refused(format!(
            "rebuild {} is live, and what it took the place of is kept: `rebuild orders prune` or \
             `rollback` comes first; nothing was done",
            record.id
        )));
    }
    let ranges = ranges(site, open.as_ref()).await?;
    let events: u64 = ranges.iter().map(OffsetRange::len).sum();
    let count = usize::try_from(events).unwrap_or(usize::MAX);
    let warrant = act.warrant(&format!("rebuild {count}"), count.max(1))?;
    let Some(warrant) = warrant else {
        return Ok(plan(open.as_ref(), &ranges, act.closing(false)));
    };
    let _lock = site.lock().await?;
    // While the rebuild is open, `topics accept` is refused. So check here that the log is the right one.
    site.refuse_other_logs().await?;
    let entry = warrant.entry(count);
    let ends: Vec<(i32, Offset)> = ranges.iter().map(|s| (s.partition, s.to)).collect();
    if open.is_some() {
        let noted = site.live.audit(entry).await;
        noted.context("nothing was done: the audit cannot be written")?;
    } else {
        let made = site.live.new_rebuild(site.topic(), &ends, entry).await;
        made.context("cannot begin a rebuild: was another one begun meanwhile?")?;
    }
    let phases = [RebuildPhase::Loading, RebuildPhase::Following];
    let record = site.rebuild_in(&phases).await?;
    let shadow = site.shadow(&record)?;
    let unlike = shadow.prepare().await;
    let unlike = unlike.context("cannot make the copy's tables")?;
    if !unlike.is_empty() {
        return Err(failed(RebuildError::NotAlike(unlike)));
    }
    let mut copy = site.copy(shadow).await?;
    let (began, progress) = (Instant::now(), Progress::begin(events, &copy.progress()));
    let loaded = copy.load(&ends).await;
    progress.end(loaded.is_ok());
    loaded.map_err(failed)?;
    let seconds = began.elapsed().as_secs_f64();
    let proof = copy.prove().await.map_err(failed)?;
    let skipped = copy.shadow().skipped().await;
    let skipped = skipped.context("cannot count the records that were left out")?;
    let load = json!({ "events": events, "seconds": seconds, "skipped": skipped });
    let text = format!(
        "rebuild {}: {events} records folded in {seconds:.1} s ({:.0} a second), {skipped} dead letters \
         left out",
        record.id,
        events as f64 / seconds.max(0.001)
    );
    proof_report(&record, &proof, Some((load, text)), output)
}

/// The offset ranges that are still to be folded.
async fn ranges(site: &Site, open: Option<&RebuildRecord>) -> Result<Vec<OffsetRange>, Failure> {
    let Some(record) = open else {
        return site.ranges(&[], &site.live_positions().await?).await;
    };
    let shadow = site.shadow(record)?;
    let partitions = site.partitions();
    let reached = shadow.positions(&partitions).await;
    let reached = reached.context("cannot read the copy's positions")?;
    site.ranges(&reached, &record.frozen_ends).await
}

/// Folds the copy up to the positions of the live tables, and compares them.
pub(super) async fn verify(site: &Site, output: Output) -> Result<Report, Failure> {
    let record = site.rebuild_in(&[RebuildPhase::Following]).await?;
    let _lock = site.lock().await?;
    let mut copy = site.copy(site.shadow(&record)?).await?;
    let proof = copy.prove().await.map_err(failed)?;
    proof_report(&record, &proof, None, output)
}
