//! The rules that must hold at any time, and those that must hold when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use seckill_domain::{Effect, EventBody, Offset, OrderStatus};

use crate::book::Book;
use seckill_script_model::Sale;

use crate::redis::Role;
use crate::world::SimulatedWorld;

/// Checked after every commit: nothing is oversold, no promised order is lost, and no paid order is undone.
pub(crate) fn of_book(world: &mut SimulatedWorld) {
    let book = std::rc::Rc::clone(&world.book);
    let Some(sale) = &book.state.sale else {
        return;
    };
    let live: i64 = book
        .orders()
        .filter(|order| order.status.is_live())
        .map(|order| i64::from(order.quantity))
        .sum();
    let total = sale.terms.stock + sale.adjusted;
    if sale.available < 0 || live > total {
        world.fail("oversold");
    }
    if live != sale.unpaid + sale.paid || live + sale.available != total {
        world.fail("units are not conserved in PostgreSQL");
    }
    let mut buyers = BTreeSet::new();
    for order in book.orders() {
        if order.status.is_live() && !buyers.insert(order.user_id) {
            world.fail("a buyer has two live orders");
        }
        if order.status == OrderStatus::Paid {
            world.said.seen_paid.insert(order.order_id);
        }
    }
}

/// Whether nothing is left to be done.
pub(crate) fn at_rest(world: &SimulatedWorld) -> bool {
    let end = i64::try_from(world.log.len()).unwrap_or(i64::MAX);
    let idle = world.wires.is_empty()
        && world.nodes.iter().all(|node| node.inbox.is_empty())
        && !world.tasks.iter().any(|task| task.owner.transient);
    let read = world.book.folded.get() == end && world.book.effects.get() == end;
    if !idle || !read {
        return false;
    }
    if world.book.retired {
        return true;
    }
    served(world).is_some_and(|sale| {
        let behind = world.book.effects_between(sale.position, world.book.folded);
        let settled = !behind.iter().any(|effect| effect.stock.is_some());
        let over = world.book.is_over();
        // A later epoch in Redis than in PostgreSQL would leave orders pending for ever.
        Some(sale.epoch) == world.book.epoch() && sale.outbox.is_empty() && settled && !over
    })
}

/// The sale that buyers can use.
fn served(world: &SimulatedWorld) -> Option<&Sale> {
    let master = world.nodes.iter().find(|node| node.role == Role::Master)?;
    let stored = master.keys.sale.as_ref()?;
    let refused = stored.shut
        || (stored.fence != master.fence && world.guards.fence)
        || (stored.torn && world.guards.parts_agree);
    (!refused).then_some(&stored.contents)
}

/// Checked when everything has come to rest: the stores agree, and every answer that was given is still true.
pub(crate) fn of_rest(world: &mut SimulatedWorld) {
    let wrong = stores_disagree(world)
        .map(str::to_owned)
        .or_else(|| words_broken(world))
        .or_else(|| payments_wrong(world))
        .or_else(|| keys_wrong(world));
    if let Some(wrong) = wrong {
        world.fail(wrong);
    }
}

/// Checked at the end, after there were more buyers than units: all units are sold.
pub(crate) fn of_sell_out(world: &mut SimulatedWorld) {
    of_rest(world);
    let row = world.book.state.sale.as_ref();
    if row.is_some_and(|row| row.closed.is_none() && row.available != 0) {
        world.fail("units were not sold although there was demand");
    }
}

fn stores_disagree(world: &SimulatedWorld) -> Option<&'static str> {
    let mut again = Book::default();
    again.apply(&world.guards, &world.log);
    let book = &world.book;
    if again.state != book.state {
        return Some("PostgreSQL is not the fold of the log");
    }
    let all = book.effects_between(Offset::new(0), book.folded);
    let published = |effect: &Effect| world.said.outcomes.contains(&effect.offset);
    if !all.iter().all(published) {
        return Some("an outcome was never published");
    }
    let served = served(world);
    if book.retired {
        return served.map(|_| "a retired sale is served");
    }
    let (Some(sale), Some(row)) = (served, &book.state.sale) else {
        return Some("the sale is not served");
    };
    let holds: BTreeMap<_, _> = sale
        .holds
        .iter()
        .filter(|(_, hold)| hold.is_live())
        .map(|(user, hold)| (*user, (hold.order_id, hold.units)))
        .collect();
    let live: BTreeMap<_, _> = book
        .orders()
        .filter(|order| order.status.is_live())
        .map(|order| (order.user_id, (order.order_id, order.quantity)))
        .collect();
    if sale.stock > row.available {
        Some("Redis would oversell")
    } else if sale.stock < row.available {
        Some("units leaked in Redis")
    } else if holds != live {
        Some("holds are not the live orders")
    } else if sale.unsettled != 0 {
        Some("units are unsettled at rest")
    } else if sale.closed != row.closed.is_some() {
        Some("the stores disagree on whether the sale is closed")
    } else {
        None
    }
}

fn words_broken(world: &SimulatedWorld) -> Option<String> {
    let status = |id| world.book.state.orders.get(id).map(|order| order.status);
    for id in &world.said.promised {
        match status(id) {
            None => return Some("a promised order is lost".to_owned()),
            Some(OrderStatus::Rejected) => {
                let why = world.book.state.orders[id].rejected;
                let why = why.map_or("", seckill_domain::RejectReason::as_str);
                return Some(format!("a promised order was rejected: {why}"));
            }
            Some(_) => {}
        }
    }
    let stands = |id| status(id).is_some_and(|status| status != OrderStatus::Rejected);
    if world.said.unknown.iter().any(stands) {
        return Some("an order that was called unknown stands".to_owned());
    }
    let paid = |id| status(id) == Some(OrderStatus::Paid);
    if !world.said.seen_paid.iter().all(paid) {
        return Some("a paid order was undone".to_owned());
    }
    None
}

/// A payment that did not pay exactly one order or become exactly one refund.
fn payments_wrong(world: &SimulatedWorld) -> Option<String> {
    for event in &world.log {
        let EventBody::OrderPaid(paid) = &event.body else {
            continue;
        };
        let id = Some(&paid.payment_id);
        let orders = world.book.orders().filter(|o| o.payment_id.as_ref() == id);
        let refunds = &world.book.state.refunds;
        let refunds = refunds
            .iter()
            .filter(|refund| Some(&refund.payment_id) == id);
        if orders.count() + refunds.count() != 1 {
            return Some("a payment has not exactly one end".to_owned());
        }
    }
    None
}

/// An idempotency key of a buyer that has made two orders, whatever the buyer has ordered in between.
fn keys_wrong(world: &SimulatedWorld) -> Option<String> {
    let mut standing = BTreeSet::new();
    for order in world.book.orders() {
        if let Some(key) = order.key_hash
            && order.status != OrderStatus::Rejected
            && !standing.insert((order.user_id, key))
        {
            return Some("one key made two orders".to_owned());
        }
    }
    None
}
