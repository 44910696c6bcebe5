//! What the log says about an order, a hold, a refund or a shrink that a repair would remove. Nothing is removed
//! without such evidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use anyhow::{Context, anyhow};
use seckill_domain::{Event, Offset, Order, OrderStatus};
use seckill_eventlog::event_json;
use serde_json::{Value, json};

use super::difference::{Difference, Removal};
use super::log_fold::LogFold;
use crate::failure::Failure;
use crate::log::Log;

/// Why something may be removed.
#[derive(Debug, Clone)]
pub(super) enum Evidence {
    /// A record decides it. After that record the order has this status.
    Decided {
        partition: i32,
        offset: Offset,
        event: Event,
        status: OrderStatus,
    },
    /// Every fold skips the record that names it.
    PassedOver {
        partition: i32,
        offset: Offset,
        why: String,
    },
    /// The record that decided it is lost. The order has this status in the tables.
    TakenOver { partition: i32, status: OrderStatus },
    /// No record names it. All `records` of the partition from offset `from` up to, but without, `to` were read, and
    /// they are of the log from which the tables were folded.
    NotInLog {
        named: String,
        partition: i32,
        from: Offset,
        to: Offset,
        records: u64,
    },
    /// Its text names nothing that could be in the log.
    Unreadable,
}

/// Finds the evidence for every difference whose repair removes something. The records that decide are read again.
/// `fold` contains everything that was read.
pub(super) async fn find(
    log: &Log,
    fold: &LogFold<'_>,
    differences: &mut [Difference],
) -> Result<(), Failure> {
    let of_the_log = |d: &Difference| in_the_log(fold, d);
    let mut deciding: BTreeMap<i32, BTreeSet<Offset>> = BTreeMap::new();
    for (order, offset) in differences.iter().filter_map(of_the_log) {
        let partition = log.partition_of(order.order_id.voucher_id());
        if !is_lost(offset) {
            deciding.entry(partition).or_default().insert(offset);
        }
    }
    let events = read_again(log, deciding).await?;
    for difference in differences.iter_mut() {
        let Some(removal) = &difference.removes else {
            continue;
        };
        let partition = log.partition_of(difference.voucher);
        let found = match (removal, of_the_log(difference)) {
            (_, Some(known)) => of_order(&known, log, &events)?,
            (Removal::Order(id), None) => {
                absent(fold, log.partition_of(id.voucher_id()), "order", id)
            }
            (Removal::Refund(payment), None) => absent(fold, partition, "payment", payment),
            (Removal::Shrink(id), None) => absent(fold, partition, "event", id),
            (Removal::Unreadable, None) => Evidence::Unreadable,
        };
        difference.evidence = Some(found);
    }
    Ok(())
}

/// The order in the log that belongs to a removal, and the offset of the record that decides about it.
fn in_the_log(fold: &LogFold<'_>, difference: &Difference) -> Option<(Order, Offset)> {
    match difference.removes.as_ref()? {
        Removal::Order(id) => {
            let order = fold.book.order(*id)?;
            Some((order.clone(), decided(order)))
        }
        // The payment paid its order, so nothing has to be refunded.
        Removal::Refund(payment) => {
            let orders = fold.book.rows(difference.voucher).orders;
            let pays = |order: &Order| {
                order
                    .payment_id
                    .as_ref()
                    .is_some_and(|p| p.as_str() == payment)
            };
            let order = orders.into_iter().find(pays)?;
            let (_, paid_at) = order.closed?;
            Some((order, paid_at))
        }
        Removal::Shrink(_) | Removal::Unreadable => None,
    }
}

/// The offset of the record that decided whether the order holds units.
fn decided(order: &Order) -> Offset {
    match order.closed {
        Some((_, offset)) if !order.status.is_live() => offset,
        _ => order.reserved_offset,
    }
}

/// Whether that record is lost with an earlier log (`topics accept`).
fn is_lost(offset: Offset) -> bool {
    offset < Offset::new(0)
}

type Events = HashMap<(i32, Offset), Event>;

async fn read_again(
    log: &Log,
    offsets: BTreeMap<i32, BTreeSet<Offset>>,
) -> Result<Events, Failure> {
    let mut events = Events::new();
    if offsets.is_empty() {
        return Ok(events);
    }
    let reader = log.record_reader()?;
    for (partition, offsets) in offsets {
        let records = reader.at(partition, offsets.into_iter().collect()).await;
        for record in records.with_context(|| log.cannot_read(&log.topics.events))? {
            if let Ok(event) = record.event(log.partitions) {
                events.insert((partition, record.offset), event);
            }
        }
    }
    Ok(events)
}

fn of_order(
    (order, offset): &(Order, Offset),
    log: &Log,
    events: &Events,
) -> Result<Evidence, Failure> {
    let (partition, offset) = (log.partition_of(order.order_id.voucher_id()), *offset);
    if is_lost(offset) {
        let status = order.status;
        return Ok(Evidence::TakenOver { partition, status });
    }
    let event = events.get(&(partition, offset)).ok_or_else(|| {
        anyhow!(
            "the record at {partition}/{}, which decides about order {}, cannot be read again: nothing was done",
            offset.get(),
            order.order_id
        )
    })?;
    Ok(Evidence::Decided {
        partition,
        offset,
        event: event.clone(),
        status: order.status,
    })
}

fn absent(fold: &LogFold<'_>, partition: i32, what: &str, id: impl fmt::Display) -> Evidence {
    let id = id.to_string();
    if let Some((partition, offset, why)) = fold.passed_over(&id) {
        return Evidence::PassedOver {
            partition: *partition,
            offset: *offset,
            why: why.clone(),
        };
    }
    Evidence::NotInLog {
        named: format!("{what} {id}"),
        partition,
        from: fold.begins(partition),
        to: fold.read_to(partition),
        records: fold.records(partition),
    }
}

impl Evidence {
    pub(super) fn json(&self) -> Value {
        let mut json = match self {
            Self::Decided {
                partition,
                offset,
                event,
                status,
            } => json!({
                "partition": partition, "offset": offset.get(), "event": event_json(event),
                "order_is": status.as_str(),
            }),
            Self::PassedOver {
                partition, offset, ..
            } => json!({ "partition": partition, "offset": offset.get() }),
            Self::TakenOver { partition, status } => {
                json!({ "partition": partition, "order_is": status.as_str() })
            }
            Self::NotInLog {
                partition,
                from,
                to,
                records,
                ..
            } => json!({
                "partition": partition, "from": from.get(), "to": to.get(), "records": records,
            }),
            Self::Unreadable => json!({}),
        };
        json["says"] = self.to_string().into();
        json
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided {
                partition,
                offset,
                event,
                status,
            } => write!(
                f,
                "{partition}/{} {}, after which the order is {}: {}",
                offset.get(),
                event.body.name(),
                status.as_str(),
                event_json(event)
            ),
            Self::PassedOver {
                partition,
                offset,
                why,
            } => write!(
                f,
                "{partition}/{} names it, and every fold passes that record over: {why}",
                offset.get()
            ),
            Self::TakenOver { partition, status } => write!(
                f,
                "by the tables the order is {}; partition {partition} lacks the record of that",
                status.as_str()
            ),
            Self::NotInLog {
                named,
                partition,
                from,
                to,
                records,
            } => {
                let (from, to) = (from.get(), to.get());
                write!(
                    f,
                    "no record of partition {partition} names {named}: it was read from offset {from} to its \
                     end, {to}"
                )?;
                let offsets = u64::try_from(to - from).unwrap_or(0);
                match offsets.saturating_sub(*records) {
                    0 => Ok(()),
                    gaps => write!(
                        f,
                        "; {gaps} of these offsets hold no record, as the end of a transaction does, or a \
                         record that was compacted away"
                    ),
                }
            }
            Self::Unreadable => f.write_str("no script writes such a field, and it names no order"),
        }
    }
}
