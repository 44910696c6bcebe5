//! Finds out how much of the current log is the same as the log that was folded.

use anyhow::Context;
use seckill_domain::{LastRecord, Offset};
use seckill_eventlog::{OffsetRange, Record};
use seckill_orderbook::Orderbook;

use crate::failure::Failure;
use crate::log::Log;

/// The number of records that are compared with the tables at once.
const PAGE: usize = 1_000;

/// The part of the log that is the same.
pub(super) struct Kept {
    /// The records below this offset are the same. From here on the log is read again.
    pub(super) from: Offset,
    /// The last record below that offset that is named by a row.
    pub(super) last: Option<LastRecord>,
}

/// Compares the records below `stood_at` with the rows that name them, starting with the first record of the log. The
/// result contains only records that are known to be the same: to fold a record again changes nothing, but a record
/// that is left out would be lost.
pub(super) async fn find(
    log: &Log,
    orderbook: &Orderbook,
    held: OffsetRange,
    stood_at: Offset,
) -> Result<Kept, Failure> {
    let range = OffsetRange {
        to: held.to.min(stood_at).max(held.from),
        ..held
    };
    let mut kept = Kept {
        from: held.from,
        last: None,
    };
    let mut records = log.scan(&log.topics.events, vec![range]).await?;
    let mut begin = range.from;
    while begin < range.to {
        let mut page = Vec::new();
        while page.len() < PAGE
            && let Some(record) = records.next().await?
        {
            page.push(record);
        }
        let whole = page.len() == PAGE;
        let to = page
            .last()
            .filter(|_| whole)
            .map(|record| record.offset.next());
        let to = to.unwrap_or(range.to);
        let batch = Record::batch(&page, log.partitions, to);
        let likeness = orderbook
            .likeness(&log.topics.events, held.partition, begin, &batch)
            .await;
        let likeness = likeness.context("cannot compare the log with the tables")?;
        let is_last = |record: &&Record| Some(record.offset) == likeness.last_match;
        if let Some(last) = page.iter().find(is_last) {
            kept = Kept {
                from: last.offset.next(),
                last: Some(LastRecord {
                    offset: last.offset,
                    identity: last.identity(),
                }),
            };
        }
        if likeness.differs_at.is_some() {
            break;
        }
        begin = to;
    }
    Ok(kept)
}
