//! Finds orders that were promised and not folded, and whose events are lost with the log. Redis still has their holds
//! until the sale is loaded again. Their events are written again from these holds.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use seckill_domain::{
    Event, EventBody, EventId, Money, OrderId, SeckillReserved, UserId, VoucherId,
};
use seckill_eventlog::OffsetRange;
use seckill_stock::{FieldContent, Hold, HoldState, ScanPage};
use uuid::Uuid;

use super::Stores;
use crate::failure::Failure;

/// The orders that were found.
#[derive(Default)]
pub(super) struct Promised {
    /// The reservations of lost orders.
    pub(super) events: Vec<Event>,
    /// Sales whose data Redis has lost. It is not known which orders of them were promised.
    pub(super) unknown: Vec<VoucherId>,
}

/// Looks for holds whose orders are neither in the tables, nor in the log from `from` on, nor in a pending event. The
/// log is folded from `from` on.
pub(super) async fn find(stores: &Stores, from: OffsetRange) -> Result<Promised, Failure> {
    let mut found = Promised::default();
    let mut lost: BTreeMap<OrderId, Event> = BTreeMap::new();
    let sales = stores.orderbook.sales_to_serve(&[stores.partition]).await;
    for sale in sales.context("cannot read the tables")? {
        let voucher = sale.voucher_id;
        let pages = stores.stock.scan_shut(voucher).await;
        let pages = pages.with_context(|| format!("sale {voucher} cannot be read in Redis"))?;
        let Some(pages) = pages else {
            found.unknown.extend(sale.loaded.then_some(voucher));
            continue;
        };
        for page in &pages {
            // Orders of an epoch that has ended are not promised.
            if page.numbers.epoch == sale.epoch {
                for (order_id, event) in held(page, voucher)? {
                    lost.insert(order_id, event);
                }
            }
        }
    }
    for order_id in lost.keys().copied().collect::<Vec<_>>() {
        let known = stores.orderbook.order(order_id).await;
        if known.context("cannot read an order")?.is_some() {
            lost.remove(&order_id);
        }
    }
    if !lost.is_empty() {
        leave_out_logged(stores, from, &mut lost).await?;
    }
    found.events = lost.into_values().collect();
    Ok(found)
}

/// The reservations whose decisions Redis does not know, and whose events were acknowledged.
fn held(page: &ScanPage, voucher: VoucherId) -> Result<Vec<(OrderId, Event)>, Failure> {
    let terms = &page.numbers.terms;
    let price = Money::new(terms.price_cents, terms.currency);
    let price = price.with_context(|| format!("the price of sale {voucher} in Redis"))?;
    let fields = page.fields.iter().filter(|field| !field.pending);
    let event = |user_id: UserId, hold: &Hold| Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: voucher,
        occurred_at: hold.reserved_at,
        body: EventBody::SeckillReserved(SeckillReserved {
            order_id: hold.order_id,
            user_id,
            quantity: hold.quantity,
            price,
            pay_by: hold.pay_by,
            epoch: page.numbers.epoch,
            key_hash: hold.key_hash,
        }),
    };
    let held = fields.filter_map(|field| match &field.content {
        FieldContent::Hold(user, hold) if hold.state == HoldState::Held => {
            Some((hold.order_id, event(*user, hold)))
        }
        _ => None,
    });
    Ok(held.collect())
}

/// Removes orders that are in the log. It is called after the holds were read, so the events that were acknowledged
/// by then are below the current end of the log.
async fn leave_out_logged(
    stores: &Stores,
    from: OffsetRange,
    lost: &mut BTreeMap<OrderId, Event>,
) -> Result<(), Failure> {
    let log = &stores.log;
    let ranges = log.event_ranges().await?;
    let held = ranges
        .into_iter()
        .find(|held| held.partition == stores.partition);
    let to = held.map_or(from.to, |held| held.to);
    let range = OffsetRange { to, ..from };
    let mut records = log.scan(&log.topics.events, vec![range]).await?;
    while let Some(record) = records.next().await? {
        if let Ok(event) = record.event(log.partitions)
            && let EventBody::SeckillReserved(reserved) = &event.body
        {
            lost.remove(&reserved.order_id);
        }
    }
    Ok(())
}

/// Appends the events and waits for the acks. If the command is repeated, it finds them in the log.
pub(super) async fn write(stores: &Stores, events: &[Event]) -> Result<(), Failure> {
    let unfinished =
        "promised orders are not all written; nothing was changed in PostgreSQL: run it again";
    if events.is_empty() {
        return Ok(());
    }
    // The producer is kept until the last ack, because a producer that is dropped discards unsent records.
    let producer = stores.log.event_producer().await?;
    for event in events {
        let delivery = producer.send_event(event, None);
        let delivery = delivery.map_err(|e| anyhow!(e)).context(unfinished)?;
        delivery.await.map_err(|e| anyhow!(e)).context(unfinished)?;
    }
    Ok(())
}
