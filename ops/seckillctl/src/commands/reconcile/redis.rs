//! Compares Redis with the log, and repairs it by a guarded correction or by a load.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use seckill_domain::{Epoch, Offset, VoucherId};
use seckill_orderbook::{Orderbook, OrderbookError, SaleRows};
use seckill_stock::{
    CorrectReply, Correction, DriftReport, ExpectedSale, HoldsField, Probe, Repair, ScanPage,
    Stock, StockError, at_one_moment, compare,
};
use tokio::time::Instant;

use crate::failure::Failure;

/// How often a sale is read again if it changed during the scan, or if Redis did not answer in time.
const WALKS: u32 = 5;
const CORRECTIONS: u32 = 40;
/// How often a correction is tried again at the current position of the fold.
const RENEWALS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(25);
/// How long to wait for a load, which waits for the promise deadline and for the fold.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);

/// What was read of a sale.
pub(super) enum Seen {
    /// Redis does not serve it. Its load will bring the right data.
    NotServed,
    Pages(Vec<ScanPage>),
    /// Its numbers cannot be read.
    Unreadable(String),
}

/// Reads a sale's holds, again if it has changed meanwhile.
pub(super) async fn walk(stock: &Stock, voucher: VoucherId) -> Result<Seen, Failure> {
    let mut pages = Vec::new();
    for attempt in 1..=WALKS {
        pages = match stock.scan(voucher).await {
            Ok(Some(pages)) => pages,
            Ok(None) => return Ok(Seen::NotServed),
            // Redis is busy, so everything is read again.
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

/// The state that the sale should have in Redis. None for a sale that was never scheduled.
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

/// How a sale was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    /// There was nothing left to do.
    Already,
    Corrected,
    /// It is shut, and a projector loads it in this epoch or a later one.
    Shut(Epoch),
}

/// Repairs one sale, whose rows are the fold of the log. `orphans` are the names and texts of fields that are certainly
/// not in the log.
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
    // A correction is not enough, or the sale changes so often that none succeeds.
    let expected = expected_of_tables(orderbook, topic, partition, voucher).await?;
    let epoch = expected.map(|expected| expected.sale().epoch);
    let epoch = epoch.ok_or_else(|| anyhow!("sale {voucher} is not in the log"))?;
    match stock.shut(voucher, epoch).await.context("REDIS_URL")? {
        CorrectReply::Done => Ok(Mended::Shut(epoch.next())),
        // It is being loaded, or was loaded meanwhile.
        CorrectReply::NotServed | CorrectReply::Moved | CorrectReply::Short => {
            Ok(Mended::Shut(epoch))
        }
    }
}

/// Corrects a sale that keeps selling. If a sale has many orders, its rows are no longer current when they have been
/// read and compared. Decisions since then do not matter unless they are about the same buyers.
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
        match stock.probe(voucher).await {
            Ok(Probe::Open(view)) if view.epoch >= epoch => return Ok(()),
            _ => tokio::time::sleep(BETWEEN).await,
        }
    }
    Err(anyhow!("sale {voucher} is shut, and was not loaded: does a projector run?").into())
}
