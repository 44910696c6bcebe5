//! Redis against the log, and repaired under guard, or by a load.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use seckill_domain::{Epoch, Offset, Timestamp, VoucherId};
use seckill_orderbook::{Orderbook, OrderbookError, SaleRows};
use seckill_stock::{
    CorrectReply, Correction, DriftReport, ExpectedSale, FieldContent, HoldsCursor, HoldsField,
    Repair, ScanPage, Stock, StockError, at_one_moment, compare,
};
use tokio::time::Instant;

use crate::failure::Failure;

/// How often a sale is walked through on which much is going on, or whose Redis did not answer in time.
const WALKS: u32 = 5;
const CORRECTIONS: u32 = 40;
/// How often a correction is tried at the position that the fold has come to.
const RENEWALS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(25);
/// A load drains for the promise deadline and waits for the fold.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);

/// What was seen of a sale.
pub(super) enum Seen {
    /// Redis does not serve it: its load will bring what is right.
    NotServed,
    Pages(Vec<ScanPage>),
    /// Its numbers are none.
    Unreadable(String),
}

/// Walks through a sale's holds.
pub(super) async fn walk(stock: &Stock, voucher: VoucherId) -> Result<Seen, Failure> {
    let mut pages = Vec::new();
    for attempt in 1..=WALKS {
        pages = match walk_once(stock, voucher).await {
            Ok(Some(pages)) => pages,
            Ok(None) => return Ok(Seen::NotServed),
            // A busy moment; whatever was read is read again.
            Err(StockError::Timeout) if attempt < WALKS => {
                tokio::time::sleep(BETWEEN).await;
                continue;
            }
            Err(StockError::Protocol(what)) => return Ok(Seen::Unreadable(what)),
            Err(error) => return Err(anyhow::Error::new(error).context("REDIS_URL").into()),
        };
        if at_one_moment(&pages) || attempt == WALKS {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(Seen::Pages(pages))
}

async fn walk_once(stock: &Stock, voucher: VoucherId) -> Result<Option<Vec<ScanPage>>, StockError> {
    let mut pages = Vec::new();
    let mut cursor = Some(HoldsCursor::START);
    while let Some(at) = cursor {
        let Some(page) = stock.scan(voucher, at).await? else {
            return Ok(None);
        };
        cursor = page.next;
        pages.push(page);
    }
    Ok(Some(pages))
}

/// What the log means for Redis. None for a sale that was never scheduled.
pub(super) fn expected(rows: SaleRows, position: Offset) -> Option<ExpectedSale> {
    let adjustments = rows.adjustments.iter();
    let adjustments = adjustments.map(|a| (a.event_id, a.delta, a.accepted, a.offset));
    let adjustments = adjustments.collect();
    Some(ExpectedSale::new(
        rows.sale?,
        position,
        rows.orders,
        adjustments,
    ))
}

/// A field that is no longer in flight, if the log does not know it: it is not pending, and its producer
/// has given it up.
pub(super) fn is_overdue(field: &HoldsField, now: Timestamp, in_flight: Duration) -> bool {
    let at = match &field.content {
        FieldContent::Hold(_, hold) => hold.reserved_at,
        FieldContent::Shrink { at, .. } => *at,
        FieldContent::Unreadable => return false,
    };
    let age_us = now.as_micros().saturating_sub(at.as_micros());
    !field.pending && u128::try_from(age_us).is_ok_and(|age| age > in_flight.as_micros())
}

/// How a sale was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    /// There was nothing left to do.
    Already,
    Corrected,
    /// It is shut: a projector loads it, in this epoch or a later one.
    Shut(Epoch),
}

/// Repairs one sale, whose rows are the log's fold. `orphans`: name and text of fields of which the
/// log has shown that it does not have them.
pub(super) async fn repair(
    stock: &Stock,
    orderbook: &Orderbook,
    (topic, partition): (&str, i32),
    voucher: VoucherId,
    orphans: &HashSet<(String, String)>,
) -> Result<Mended, Failure> {
    let is_orphan = |field: &HoldsField| {
        !field.pending && orphans.contains(&(field.name.clone(), field.text.clone()))
    };
    let mut mended = Mended::Already;
    for _ in 0..CORRECTIONS {
        let pages = match walk(stock, voucher).await? {
            Seen::Pages(pages) => pages,
            Seen::NotServed | Seen::Unreadable(_) => break,
        };
        let expected = expected_of_tables(orderbook, topic, partition, voucher).await?;
        let report = expected.and_then(|expected| compare(&pages, &expected, &is_orphan));
        let repair = report.map_or(Repair::Again, |report: DriftReport| report.repair);
        match repair {
            Repair::None => return Ok(mended),
            Repair::Again => tokio::time::sleep(BETWEEN).await,
            Repair::Correct(correction) => {
                match correct(stock, orderbook, (topic, partition), voucher, correction).await? {
                    CorrectReply::Done => mended = Mended::Corrected,
                    CorrectReply::Moved => {}
                    CorrectReply::NotServed | CorrectReply::Short => break,
                }
            }
            Repair::Reload => break,
        }
    }
    // A correction would not do, or so much is going on that none finds the sale where it was seen.
    let expected = expected_of_tables(orderbook, topic, partition, voucher).await?;
    let epoch = expected.map(|expected| expected.sale().epoch);
    let epoch = epoch.ok_or_else(|| anyhow!("sale {voucher} is not in the log"))?;
    match stock.shut(voucher, epoch).await.context("REDIS_URL")? {
        CorrectReply::Done => Ok(Mended::Shut(epoch.next())),
        // It is being loaded, or was.
        CorrectReply::NotServed | CorrectReply::Moved | CorrectReply::Short => {
            Ok(Mended::Shut(epoch))
        }
    }
}

/// Corrects a sale that goes on selling. The rows of a sale with many orders are old when they have
/// been read and compared; what was decided since does not matter unless it was of the same buyers.
async fn correct(
    stock: &Stock,
    orderbook: &Orderbook,
    (topic, partition): (&str, i32),
    voucher: VoucherId,
    mut correction: Correction,
) -> Result<CorrectReply, Failure> {
    let (compared_at, buyers) = (correction.to, correction.buyers());
    for _ in 0..RENEWALS {
        if !correction.holds.is_empty() {
            let sale = (topic, partition, voucher);
            let quiet = orderbook.quiet_until(sale, &buyers, compared_at).await;
            match quiet.context("cannot read the rows")? {
                Some(position) => correction.to = position,
                None => return Ok(CorrectReply::Moved),
            }
        }
        match stock.correct(voucher, &correction).await {
            Ok(CorrectReply::Moved) => tokio::time::sleep(BETWEEN).await,
            Ok(reply) => return Ok(reply),
            Err(StockError::Timeout) => return Ok(CorrectReply::Moved),
            Err(error) => return Err(anyhow::Error::new(error).context("REDIS_URL").into()),
        }
    }
    Ok(CorrectReply::Moved)
}

async fn expected_of_tables(
    orderbook: &Orderbook,
    topic: &str,
    partition: i32,
    voucher: VoucherId,
) -> Result<Option<ExpectedSale>, Failure> {
    let rows = async {
        let mut snapshot = orderbook.book_snapshot(topic).await?;
        let position = snapshot.position(partition);
        let rows = snapshot.rows(voucher).await?;
        Ok::<_, OrderbookError>(expected(rows, position))
    };
    Ok(rows.await.context("cannot read the rows")?)
}

/// Waits until a projector has loaded a sale in this epoch or a later one.
pub(super) async fn reopened(
    stock: &Stock,
    voucher: VoucherId,
    epoch: Epoch,
) -> Result<(), Failure> {
    let deadline = Instant::now() + RELOAD_DEADLINE;
    while Instant::now() < deadline {
        let page = stock.scan(voucher, HoldsCursor::START).await;
        if page.is_ok_and(|page| page.is_some_and(|p| p.numbers.epoch >= epoch)) {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(anyhow!("sale {voucher} is shut, and was not loaded: does a projector run?").into())
}
