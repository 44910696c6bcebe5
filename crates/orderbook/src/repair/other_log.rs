//! Finds out up to which record a log is the one that the tables were folded from. A view keeps the identity of
//! its last record only. The other records are compared with the rows, each of which names its record.

use std::collections::{BTreeMap, HashSet};

use seckill_domain::{Event, LogBatch, Lookup, Offset, decide};

use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::rows::BEGIN_SNAPSHOT;
use crate::fold::working_set;

/// What a range of a log has in common with the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Likeness {
    /// The last record that a row names, before any that differs.
    pub last_match: Option<Offset>,
    /// The first offset at which the log has another record than was folded there, or none.
    pub differs_at: Option<Offset>,
}

/// What a row says of the record at its offset.
struct Trace {
    /// The name of the event that it was, `malformed`, or `decided` by an operator.
    kind: String,
    /// The key of what the event was about. A payment's has its order, too: another log may have the same payment, or
    /// another one for the same order, at the same offset.
    key: String,
}

/// What the log has at an offset.
enum Found<'b> {
    Event(&'b Event),
    Malformed,
    Unknown,
}

impl Orderbook {
    /// Compares a range of a partition, from `from` to the batch's end, with the rows. A record that no row
    /// names is the same if it would change nothing: it was folded, and decided nothing then.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn likeness(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        batch: &LogBatch,
    ) -> Result<Likeness, OrderbookError> {
        let mut snapshot = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let traces = traces(&mut snapshot, topic, partition, (from, batch.to)).await?;
        let unnamed = batch
            .events
            .iter()
            .filter(|(at, _)| !traces.contains_key(at));
        let unnamed: Vec<(Offset, Event)> = unnamed.cloned().collect();
        let new = undecided(&mut snapshot, &unnamed).await?;
        snapshot.commit().await?;
        let events = batch.events.iter().map(|(at, e)| (*at, Found::Event(e)));
        let malformed = batch
            .malformed
            .iter()
            .map(|(at, _)| (*at, Found::Malformed));
        let unknown = batch.unknown.iter().map(|(at, _)| (*at, Found::Unknown));
        let found: BTreeMap<Offset, Found<'_>> = events.chain(malformed).chain(unknown).collect();

        let mut likeness = Likeness::default();
        let offsets = traces.keys().chain(found.keys());
        let offsets: std::collections::BTreeSet<Offset> = offsets.copied().collect();
        for at in offsets {
            match is_same(traces.get(&at), found.get(&at), new.contains(&at)) {
                Some(true) => likeness.last_match = Some(at),
                Some(false) => {
                    likeness.differs_at = Some(at);
                    break;
                }
                None => {}
            }
        }
        Ok(likeness)
    }
}

/// None if it cannot be told.
fn is_same(traces: Option<&Vec<Trace>>, found: Option<&Found<'_>>, is_new: bool) -> Option<bool> {
    match (traces, found) {
        (None, Some(Found::Event(_))) if is_new => Some(false),
        // A fold does not pass it without an operator's decision, and that decision would be in a row.
        (None, Some(Found::Unknown)) => Some(false),
        (None, _) => None,
        (Some(_), None) => Some(false),
        // It was skipped by an operator's decision. Whether it is the same record cannot be told.
        (Some(traces), Some(_)) if traces.iter().any(|trace| trace.kind == "decided") => None,
        (Some(traces), Some(Found::Event(event))) => {
            Some(traces.iter().all(|trace| trace.is_of(event)))
        }
        (Some(traces), Some(Found::Malformed)) => {
            Some(traces.iter().all(|trace| trace.kind == "malformed"))
        }
        (Some(_), Some(Found::Unknown)) => Some(false),
    }
}

impl Trace {
    fn is_of(&self, event: &Event) -> bool {
        let key = match (event.lookup(), event.body.order_id()) {
            (Lookup::Payment(payment_id), Some(order_id)) => format!("{order_id}/{payment_id}"),
            (Lookup::Adjustment(event_id), _) => event_id.as_uuid().to_string(),
            (Lookup::Reload(nonce), _) => nonce.to_string(),
            (_, Some(order_id)) => order_id.to_string(),
            (_, None) => event.voucher_id.to_string(),
        };
        self.kind == event.body.name() && self.key == key
    }
}

/// The offsets of those events that would change something now.
async fn undecided(
    connection: &mut Connection,
    events: &[(Offset, Event)],
) -> Result<HashSet<Offset>, OrderbookError> {
    if events.is_empty() {
        return Ok(HashSet::new());
    }
    let states = working_set::load(connection, events).await?;
    let none = seckill_domain::SaleState::default();
    let changes = |(_, event): &&(Offset, Event)| {
        let state = states.get(&event.voucher_id).unwrap_or(&none);
        decide(state, event).is_some()
    };
    Ok(events.iter().filter(changes).map(|(at, _)| *at).collect())
}

async fn traces(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    (from, to): (Offset, Offset),
) -> Result<BTreeMap<Offset, Vec<Trace>>, OrderbookError> {
    let rows: Vec<(i64, String, String)> = sqlx::query_as(
        r#"SELECT reserved_offset, 'SeckillReserved', order_id::text FROM orders
            WHERE partition = $2 AND reserved_offset >= $3 AND reserved_offset < $4
           UNION ALL
           SELECT closed_offset, CASE status WHEN 'paid' THEN 'OrderPaid' WHEN 'expired' THEN 'OrderExpired'
                                      WHEN 'cancelled' THEN 'OrderCancelled' ELSE status END,
                  concat_ws('/', order_id, payment_id)
             FROM orders
            WHERE partition = $2 AND closed_offset >= $3 AND closed_offset < $4
           UNION ALL
           SELECT "offset", 'OrderPaid', concat_ws('/', order_id, payment_id) FROM refunds
            WHERE partition = $2 AND "offset" >= $3 AND "offset" < $4
           UNION ALL
           SELECT "offset", 'StockAdjusted', event_id::text FROM stock_adjustments
            WHERE partition = $2 AND "offset" >= $3 AND "offset" < $4
           UNION ALL
           SELECT "offset", 'SaleReloaded', nonce::text FROM sale_reloads JOIN vouchers USING (voucher_id)
            WHERE partition = $2 AND "offset" >= $3 AND "offset" < $4
           UNION ALL
           SELECT scheduled_offset, 'SaleScheduled', voucher_id::text FROM vouchers
            WHERE partition = $2 AND scheduled_offset >= $3 AND scheduled_offset < $4
           UNION ALL
           SELECT closed_offset, 'SaleClosed', voucher_id::text FROM vouchers
            WHERE partition = $2 AND closed_offset >= $3 AND closed_offset < $4
           UNION ALL
           SELECT "offset", CASE WHEN decided_by IS NULL THEN 'malformed' ELSE 'decided' END, ''
             FROM skipped_records
            WHERE topic = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4"#,
    )
    .bind(topic)
    .bind(partition)
    .bind(from.get())
    .bind(to.get())
    .fetch_all(connection)
    .await?;
    let mut traces: BTreeMap<Offset, Vec<Trace>> = BTreeMap::new();
    for (at, kind, key) in rows {
        let at = traces.entry(Offset::new(at)).or_default();
        at.push(Trace { kind, key });
    }
    Ok(traces)
}
