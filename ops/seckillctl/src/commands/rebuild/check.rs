//! Compares the live tables with the log, which is folded in memory. Nothing is written.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use anyhow::{Context, anyhow};
use seckill_domain::Offset;
use seckill_eventlog::{EventStream, OffsetRange};
use seckill_orderbook::{ExpectedBook, RowDifference, RowDifferenceKind};
use serde_json::json;
use tokio::task::JoinSet;

use super::Site;
use crate::failure::Failure;
use crate::output::{Output, Report, printable};

/// The most differing rows that are printed.
const ROWS_SHOWN: usize = 40;

pub(super) async fn run(site: &Site, output: Output) -> Result<Report, Failure> {
    let live = site.live.book_snapshot(site.topic()).await;
    let mut live = live.context("cannot read the live tables")?;
    let ends: Vec<_> = site
        .partitions()
        .into_iter()
        .map(|partition| (partition, live.position(partition)))
        .collect();
    let ranges = site.ranges(&[], &ends).await?;
    let records: u64 = ranges.iter().map(OffsetRange::len).sum();
    let began = Instant::now();
    let books = fold(site, &ranges).await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut vouchers: BTreeSet<_> = live
        .vouchers()
        .await
        .context("cannot read")?
        .into_iter()
        .collect();
    vouchers.extend(books.iter().flat_map(ExpectedBook::vouchers));
    let mut found: Vec<RowDifference> = Vec::new();
    for voucher in &vouchers {
        let partition = site.log.partition_of(*voucher);
        let book = &books[usize::try_from(partition).unwrap_or_default()];
        match live.rows(*voucher).await {
            Ok(rows) => found.extend(book.rows(*voucher).differences(&rows)),
            Err(error) => found.push(RowDifference {
                kind: RowDifferenceKind::Corrupted,
                table: "vouchers",
                key: voucher.to_string(),
                what: error.to_string(),
            }),
        }
    }
    let orders: usize = books.iter().map(ExpectedBook::order_count).sum();
    let report = report(records, seconds, (vouchers.len(), orders), &found);
    if found.is_empty() {
        return Ok(report);
    }
    let failure = anyhow!("{} rows are not what the log says", found.len());
    Err(report.print_with(output, failure))
}

/// Folds one book for each partition, in the order of the partitions.
async fn fold(site: &Site, ranges: &[OffsetRange]) -> Result<Vec<ExpectedBook>, Failure> {
    let ends: HashMap<i32, Offset> = ranges.iter().map(|s| (s.partition, s.to)).collect();
    let open = ranges.iter().filter(|s| !s.is_empty());
    let streams = site
        .log
        .events(open.map(|s| (s.partition, s.from)).collect());
    let mut running = JoinSet::new();
    for stream in streams.await? {
        let end = ends.get(&stream.partition).copied();
        running.spawn(fold_one(stream, end.unwrap_or(Offset::new(0))));
    }
    let mut books: Vec<ExpectedBook> = Vec::new();
    books.resize_with(ranges.len(), ExpectedBook::default);
    while let Some(ended) = running.join_next().await {
        let ended = ended.map_err(|e| anyhow!(e))?;
        let (partition, book) = ended.context("the log was not read to its end")?;
        books[usize::try_from(partition).unwrap_or_default()] = book;
    }
    Ok(books)
}

async fn fold_one(mut stream: EventStream, end: Offset) -> anyhow::Result<(i32, ExpectedBook)> {
    let (partition, mut book) = (stream.partition, ExpectedBook::default());
    loop {
        let batch = stream.next().await?;
        for (offset, event) in batch.events.iter().take_while(|(at, _)| *at < end) {
            book.fold(partition, *offset, event);
        }
        if batch.to >= end {
            return Ok((partition, book));
        }
    }
}

fn report(
    records: u64,
    seconds: f64,
    (sales, orders): (usize, usize),
    found: &[RowDifference],
) -> Report {
    let rate = records as f64 / seconds.max(0.001);
    let folded = format!("{records} records folded in {seconds:.1} s ({rate:.0} a second)");
    let verdict = if found.is_empty() {
        format!("the live tables are what the log says: {sales} sales, {orders} orders")
    } else {
        let line = |d: &RowDifference| format!("{} {}: {}", d.table, d.key, printable(&d.what));
        let lines: Vec<_> = found.iter().take(ROWS_SHOWN).map(line).collect();
        lines.join("\n")
    };
    let differing: Vec<_> = found
        .iter()
        .map(|d| json!({ "table": d.table, "key": d.key, "what": d.what }))
        .collect();
    Report {
        text: format!("{folded}\n{verdict}"),
        json: json!({
            "records": records,
            "seconds": seconds,
            "sales": sales,
            "orders": orders,
            "differing": differing,
        }),
    }
}
