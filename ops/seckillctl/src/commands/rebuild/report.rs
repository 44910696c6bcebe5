//! The reports of the commands.

use anyhow::{Context, anyhow};
use seckill_eventlog::OffsetRange;
use seckill_orderbook::{RebuildPhase, RebuildRecord};
use seckill_rebuild::{Proof, SaleDifference};
use serde_json::{Value, json};

use super::Site;
use crate::failure::Failure;
use crate::output::{Output, Report, moment, printable, table};

/// The most differing rows that are printed. The JSON contains all of them.
const ROWS_SHOWN: usize = 40;

/// What `start` would do.
pub(super) fn plan(open: Option<&RebuildRecord>, ranges: &[OffsetRange], closing: &str) -> Report {
    let rows: Vec<_> = ranges.iter().map(range_row).collect();
    let events: u64 = ranges.iter().map(OffsetRange::len).sum();
    let what = match open {
        Some(record) => format!("rebuild {} goes on: {events} records to fold", record.id),
        None => format!("a new rebuild: {events} records to fold"),
    };
    let text = table(["PARTITION", "FROM", "TO", "RECORDS"], &rows);
    let ranges: Vec<_> = ranges
        .iter()
        .map(|s| json!({ "partition": s.partition, "from": s.from.get(), "to": s.to.get() }))
        .collect();
    Report {
        text: format!("{text}\n{what}{closing}"),
        json: json!({
            "rebuild": open.map(|record| record.id),
            "stretches": ranges,
            "records": events,
            "executed": false,
        }),
    }
}

fn range_row(range: &OffsetRange) -> [String; 4] {
    [
        range.partition.to_string(),
        range.from.get().to_string(),
        range.to.get().to_string(),
        range.len().to_string(),
    ]
}

/// The result of a comparison. Differences are printed like any other result, and the command fails.
pub(super) fn proof_report(
    record: &RebuildRecord,
    proof: &Proof,
    load: Option<(Value, String)>,
    output: Output,
) -> Result<Report, Failure> {
    let (load_json, load_text) = load.unzip();
    let mut lines: Vec<String> = load_text.into_iter().collect();
    lines.push(proof_text(proof));
    let report = Report {
        text: lines.join("\n"),
        json: json!({
            "rebuild": record.id,
            "load": load_json,
            "executed": true,
            "proof": proof_json(proof),
        }),
    };
    if proof.differing.is_empty() {
        return Ok(report);
    }
    let failure = anyhow!(
        "{} sales differ between the copy and the live tables. The copy is what the log says. Where \
         the live tables are known to be wrong: `rebuild orders promote --accept-differences {0}`",
        proof.differing.len()
    );
    Err(report.print_with(output, failure))
}

fn proof_text(proof: &Proof) -> String {
    let Proof {
        sales,
        orders,
        differing,
        ..
    } = proof;
    if differing.is_empty() {
        return format!("proven: {sales} sales and {orders} orders, alike in both sets of tables");
    }
    let cells = |d: &SaleDifference| {
        let numbers = [d.live.orders, d.copy.orders, d.live.others, d.copy.others];
        let [live, copy, live_others, copy_others] = numbers.map(|n| n.to_string());
        let voucher = d.voucher_id.to_string();
        [voucher, live, copy, live_others, copy_others]
    };
    let rows: Vec<_> = differing.iter().map(cells).collect();
    let headers = [
        "SALE",
        "ORDERS LIVE",
        "IN THE COPY",
        "OTHER ROWS LIVE",
        "IN THE COPY",
    ];
    let mut lines = vec![table(headers, &rows)];
    let found = differing.iter().flat_map(|d| &d.rows);
    let told = found
        .clone()
        .take(ROWS_SHOWN)
        .map(|row| format!("{} {}: {}", row.table, row.key, printable(&row.what)));
    lines.extend(told);
    let more = found.count().saturating_sub(ROWS_SHOWN);
    if more > 0 {
        lines.push(format!("and {more} rows more: --output json names them"));
    }
    lines.join("\n")
}

pub(super) fn proof_json(proof: &Proof) -> Value {
    let rows = |d: &SaleDifference| -> Vec<Value> {
        d.rows
            .iter()
            .map(|row| json!({ "table": row.table, "key": row.key, "what": row.what }))
            .collect()
    };
    let differing: Vec<_> = proof
        .differing
        .iter()
        .map(|d| {
            json!({
                "voucher_id": d.voucher_id.get(),
                "orders_live": d.live.orders,
                "orders_copy": d.copy.orders,
                "rows": rows(d),
            })
        })
        .collect();
    let positions: Vec<_> = proof
        .positions
        .iter()
        .map(|(partition, at)| json!({ "partition": partition, "position": at.get() }))
        .collect();
    json!({
        "sales": proof.sales,
        "orders": proof.orders,
        "positions": positions,
        "differing": differing,
    })
}

/// All rebuilds, and the progress of the open one.
pub(super) async fn status(site: &Site) -> Result<Report, Failure> {
    let all = site.live.rebuilds(site.topic()).await;
    let all = all.context("cannot read the rebuilds: has `seckillctl db migrate` been run?")?;
    let live = site.live_positions().await?;
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for record in &all {
        let behind = behind(site, record, &live).await?;
        let proof = record.proof.map_or_else(String::new, |(at, differing)| {
            format!("{} ({differing} differ)", moment(at))
        });
        let or_empty = |number: Option<i64>| number.map_or_else(String::new, |n| n.to_string());
        rows.push([
            record.id.to_string(),
            record.phase.as_str().to_owned(),
            moment(record.started_at),
            record.schema().unwrap_or_default().to_owned(),
            or_empty(behind),
            proof,
            or_empty(record.pause_ms),
        ]);
        values.push(json!({
            "rebuild": record.id,
            "phase": record.phase.as_str(),
            "started_at": moment(record.started_at),
            "schema": record.schema(),
            "records_behind": behind,
            "proven_at": record.proof.map(|(at, _)| moment(at)),
            "differing": record.proof.map(|(_, differing)| differing),
            "pause_ms": record.pause_ms,
        }));
    }
    let headers = [
        "REBUILD", "PHASE", "STARTED", "SCHEMA", "BEHIND", "PROVEN", "PAUSE MS",
    ];
    Ok(Report {
        text: table(headers, &rows),
        json: json!({ "rebuilds": values }),
    })
}

/// By how many records the copy is behind the live tables.
async fn behind(
    site: &Site,
    record: &RebuildRecord,
    live: &[(i32, seckill_domain::Offset)],
) -> Result<Option<i64>, Failure> {
    let open = [
        RebuildPhase::Loading,
        RebuildPhase::Following,
        RebuildPhase::Promoted,
    ];
    if !open.contains(&record.phase) {
        return Ok(None);
    }
    let positions = site.shadow(record)?.positions(&site.partitions()).await;
    let positions = positions.context("cannot read the copy's positions")?;
    let sum = |all: &[(i32, seckill_domain::Offset)]| all.iter().map(|(_, at)| at.get()).sum();
    let (live, own): (i64, i64) = (sum(live), sum(&positions));
    Ok(Some(live - own))
}
