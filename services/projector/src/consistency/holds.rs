//! One sale, hold by hold and row by row.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use seckill_domain::{Offset, VoucherId};
use seckill_eventlog::{OffsetRange, backlog};
use seckill_orderbook::OrderSums;
use seckill_stock::{Drift, DriftKind, ExpectedSale, HoldsField, compare};

use super::observations::{ORDER_SUMS, Observation, PAYMENTS};
use crate::context::ProjectorContext;

/// Holds whose order the log does not seem to have, and the end of the log when that was first seen: once
/// the fold has passed it, the log has them not.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    ends: HashMap<Key, Offset>,
}

/// A field of the holds hash, and its text.
type Key = (VoucherId, String, String);

fn key_of(voucher: VoucherId, drift: &Drift) -> Key {
    let field = drift.field.clone().unwrap_or_default();
    (voucher, field, drift.actual.clone())
}

/// All that is wrong with one sale, except that `orphans` still have to prove themselves. None: it cannot
/// be compared at the moment.
pub(super) async fn check(
    shared: &ProjectorContext,
    voucher: VoucherId,
    partition: i32,
    orphans: &mut Orphans,
) -> anyhow::Result<Option<Vec<Observation>>> {
    let Some(pages) = shared.stock.scan_with_rests(voucher).await? else {
        return Ok(None);
    };
    let topic = &shared.topics.events;
    let mut snapshot = shared.orderbook.book_snapshot(topic).await?;
    let position = snapshot.position(partition);
    let rows = snapshot.rows_with_rests(voucher).await?;
    drop(snapshot);
    let Some(sale) = rows.sale else {
        return Ok(None);
    };
    let in_flight = in_flight(shared);
    // A hundred thousand holds take longer than a thread of the runtime may be kept.
    let report = tokio::task::spawn_blocking(move || {
        let adjustments = rows.adjustments.iter();
        let adjustments = adjustments.map(|a| (a.event_id, a.delta, a.accepted, a.offset));
        let expected = ExpectedSale::new(sale, position, rows.orders, adjustments.collect());
        let now = pages.last().map(|page| page.numbers.now);
        let overdue = |field: &HoldsField| now.is_some_and(|now| field.is_overdue(now, in_flight));
        compare(&pages, &expected, &overdue)
    });
    let Some(report) = report.await? else {
        return Ok(None);
    };
    let mut seen = Vec::new();
    let is_orphan = |drift: &Drift| drift.kind == DriftKind::OrphanHold;
    orphans.keep(
        voucher,
        report.drifts.iter().filter(|drift| is_orphan(drift)),
    );
    for drift in report.drifts {
        let counts = !is_orphan(&drift)
            || orphans
                .proved(shared, voucher, partition, &drift, position)
                .await?;
        if counts {
            seen.push(observation(drift));
        }
    }
    if let Some(sums) = shared.orderbook.order_sums(voucher).await? {
        seen.extend(of_sums(&sums));
    }
    Ok(Some(seen))
}

/// After this long a grant that is not pending is in the log, or never will be.
fn in_flight(shared: &ProjectorContext) -> Duration {
    const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
    const MARGIN: Duration = Duration::from_secs(1);
    let deadline = shared.config.promise_deadline;
    DELIVERY_TIMEOUT.max(deadline) + deadline + MARGIN
}

impl Orphans {
    async fn proved(
        &mut self,
        shared: &ProjectorContext,
        voucher: VoucherId,
        partition: i32,
        drift: &Drift,
        folded: Offset,
    ) -> anyhow::Result<bool> {
        let key = key_of(voucher, drift);
        if let Some(end) = self.ends.get(&key) {
            return Ok(folded >= *end || nothing_between(shared, partition, folded, *end).await?);
        }
        let ranges = seckill_eventlog::offset_ranges(&shared.kafka, &shared.topics.events).await?;
        let held = ranges.iter().find(|held| held.partition == partition);
        if let Some(held) = held {
            self.ends.insert(key, held.to);
        }
        Ok(false)
    }

    /// Forgets what is not seen any more.
    fn keep<'a>(&mut self, voucher: VoucherId, seen: impl Iterator<Item = &'a Drift>) {
        let seen: HashSet<Key> = seen.map(|drift| key_of(voucher, drift)).collect();
        self.ends
            .retain(|key, _| key.0 != voucher || seen.contains(key));
    }

    /// Forgets sales that are not checked any more.
    pub(super) fn retain(&mut self, checked: impl Fn(VoucherId) -> bool) {
        self.ends.retain(|(voucher, ..), _| checked(*voucher));
    }

    /// Whether a proof in this sale is still to come.
    pub(super) fn concern(&self, voucher: VoucherId) -> bool {
        self.ends.keys().any(|(of, ..)| *of == voucher)
    }
}

/// Whether the offsets between belong to no record.
async fn nothing_between(
    shared: &ProjectorContext,
    partition: i32,
    from: Offset,
    to: Offset,
) -> anyhow::Result<bool> {
    let between = OffsetRange {
        partition,
        from,
        to,
    };
    let found = backlog(&shared.kafka, &shared.topics.events, &[between]).await?;
    Ok(found.is_empty())
}

fn observation(drift: Drift) -> Observation {
    let Drift {
        kind,
        field,
        expected,
        actual,
        ..
    } = drift;
    Observation {
        invariant: kind.as_str(),
        // A hold is the same fault only while it stays what it is; numbers go on changing.
        of: field.map_or_else(String::new, |field| format!("{field} {actual}")),
        detail: format!("expected {expected}, found {actual}"),
    }
}

fn of_sums(sums: &OrderSums) -> Vec<Observation> {
    let mut seen = Vec::new();
    let pairs = [
        ("unpaid units", sums.unpaid_units, sums.unpaid_in_orders),
        ("paid units", sums.paid_units, sums.paid_in_orders),
        ("adjusted units", sums.adjusted, sums.adjusted_in_rows),
    ];
    for (what, by_sale, by_orders) in pairs {
        if by_sale != by_orders {
            seen.push(Observation {
                invariant: ORDER_SUMS,
                of: what.to_owned(),
                detail: format!("{by_sale} {what} by the sale, {by_orders} by its orders"),
            });
        }
    }
    if sums.payments_with_two_ends > 0 {
        seen.push(Observation {
            invariant: PAYMENTS,
            of: String::new(),
            detail: format!(
                "{} payments paid an order and are to be refunded",
                sums.payments_with_two_ends
            ),
        });
    }
    seen
}
