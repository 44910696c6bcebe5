//! The promises of a sale, each checked against what buyers were told and what the stores hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use seckill_domain::{OrderId, OrderStatus};

use super::evidence::{Evidence, OrderRow, PaymentRecord, RefundRow, SaleRow};
use crate::answer::Answer;

/// One promise and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its number in the design.
    pub number: u8,
    /// What is promised.
    pub promise: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The numbers that say so.
    pub measured: String,
    /// Where they come from.
    pub source: &'static str,
}

/// Checks all promises.
#[must_use]
pub fn check(evidence: &Evidence) -> [Verdict; 8] {
    [
        conserved_at_rest(evidence),
        never_oversold(evidence),
        one_live_order(evidence),
        promises_kept(evidence),
        restored_once(evidence),
        payments_accounted(evidence),
        log_is_the_truth(evidence),
        all_sold(evidence),
    ]
}

fn conserved_at_rest(e: &Evidence) -> Verdict {
    let stock = e.stock();
    let (unpaid, paid) = (e.units(OrderStatus::Unpaid), e.units(OrderStatus::Paid));
    let conserved = |free: i64| free + unpaid + paid == stock;
    let row_agrees = (e.sale.unpaid, e.sale.paid) == (unpaid, paid);
    let granted = e.redis.unsettled + e.redis.pending_events;
    let unfolded = (e.log.end_offset - e.log.folded_to).max(0);
    Verdict {
        number: 1,
        promise: "At rest: S = redis stock + O + D = db stock + O + D, nothing in flight",
        holds: conserved(e.redis.stock)
            && conserved(e.sale.stock_left)
            && row_agrees
            && granted == 0
            && unfolded == 0,
        measured: format!(
            "S {stock}; redis {} + {unpaid} + {paid}; db {} + {unpaid} + {paid}; \
             {granted} granted and not logged, {unfolded} logged and not folded",
            e.redis.stock, e.sale.stock_left
        ),
        source: "HGET sale stock, HLEN outbox - 1; SELECT stock_left FROM vouchers; \
                 SELECT status, sum(quantity) FROM orders; view_positions and the topic's end",
    }
}

fn never_oversold(e: &Evidence) -> Verdict {
    let stock = e.stock();
    let least = [
        e.log.least_available,
        e.watched.least_redis,
        e.watched.least_stock_left,
    ];
    Verdict {
        number: 2,
        promise: "Always: O + D <= S, no stock below zero",
        holds: e.log.most_committed <= stock
            && e.watched.samples > 0
            && least.iter().all(|units| *units >= 0),
        measured: format!(
            "most ever committed {} of {stock}; smallest stock {} in the log, {} in Redis, {} in the db",
            e.log.most_committed, least[0], least[1], least[2]
        ),
        source: "the fold after every event; both stocks sampled all along",
    }
}

/// Offsets from which and before which an order barred its buyer from another.
fn live_span(order: &OrderRow) -> (i64, i64) {
    let end = match order.status {
        OrderStatus::Unpaid | OrderStatus::Paid => i64::MAX,
        OrderStatus::Rejected => order.reserved_offset,
        OrderStatus::Expired | OrderStatus::Cancelled => order.closed_offset.unwrap_or(i64::MAX),
    };
    (order.reserved_offset, end)
}

fn one_live_order(e: &Evidence) -> Verdict {
    let mut spans: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for order in &e.orders {
        spans
            .entry(order.user_id)
            .or_default()
            .push(live_span(order));
    }
    let mut overlaps = 0;
    for user in spans.values_mut() {
        user.sort_unstable();
        overlaps += user.windows(2).filter(|pair| pair[1].0 < pair[0].1).count();
    }
    Verdict {
        number: 3,
        promise: "At most one live order a user, at every moment",
        holds: overlaps == 0,
        measured: format!(
            "{} orders of {} users, {overlaps} overlaps",
            e.orders.len(),
            spans.len()
        ),
        source: "SELECT user_id, reserved_offset, closed_offset FROM orders",
    }
}

fn promises_kept(e: &Evidence) -> Verdict {
    let rows: HashMap<OrderId, &OrderRow> = e.orders.iter().map(|o| (o.order_id, o)).collect();
    let (mut reserved, mut pending) = (BTreeSet::new(), BTreeSet::new());
    let mut of_key: BTreeMap<(u32, u32), BTreeSet<OrderId>> = BTreeMap::new();
    let mut broken = 0;
    for click in &e.clicks {
        let Some(order_id) = click.answer.order_id() else {
            continue;
        };
        let row = rows.get(&order_id);
        let stands = row.is_some_and(|row| {
            row.status != OrderStatus::Rejected && row.user_id == i64::from(click.user)
        });
        let promised = matches!(click.answer, Answer::Reserved(_));
        let ended = row.is_none_or(|row| row.status.is_final());
        broken += usize::from(promised && !stands) + usize::from(!promised && !ended);
        if promised {
            reserved.insert(order_id);
        } else {
            pending.insert(order_id);
        }
        of_key
            .entry((click.wave, click.user))
            .or_default()
            .insert(order_id);
    }
    let split_keys = of_key.values().filter(|orders| orders.len() > 1).count();
    let unique = rows.len() == e.orders.len();
    Verdict {
        number: 4,
        promise: "Every 202 reserved has exactly one order that stands; a repeated click gets the same",
        holds: broken == 0 && split_keys == 0 && unique && !reserved.is_empty(),
        measured: format!(
            "{} orders were promised, {} more were pending; {broken} broken, \
             {split_keys} keys with two orders",
            reserved.len(),
            pending.difference(&reserved).count()
        ),
        source: "every answer against SELECT order_id, user_id, status FROM orders",
    }
}

fn restored_once(e: &Evidence) -> Verdict {
    let expected = e.stock() - e.restored.paid;
    let at_half_time = e.restored.stock_left == expected && e.restored.redis_stock == expected;
    let live_orders: HashSet<_> = e
        .orders
        .iter()
        .filter(|o| o.status.is_live())
        .map(|o| (o.order_id, o.user_id, o.quantity))
        .collect();
    let live_holds: HashSet<_> = e
        .redis
        .holds
        .iter()
        .filter(|h| h.live)
        .map(|h| (h.order_id, h.user_id, h.quantity))
        .collect();
    let released = e.units(OrderStatus::Expired) + e.units(OrderStatus::Cancelled);
    Verdict {
        number: 5,
        promise: "Units come back once for an expired or cancelled order, never for another",
        holds: at_half_time && live_orders == live_holds,
        measured: format!(
            "{released} units were given up; after the expiry {} free in the db and {} in Redis, \
             {expected} expected; {} live holds, {} live orders",
            e.restored.stock_left,
            e.restored.redis_stock,
            live_holds.len(),
            live_orders.len()
        ),
        source: "SELECT stock_left, HGET sale stock; HSCAN holds against SELECT .. FROM orders",
    }
}

/// Whether the order could not take this payment: it is not there, not the amount, was closed in
/// another way, or was paid by another payment.
fn refund_is_due(orders: &[OrderRow], payment: &PaymentRecord) -> bool {
    let order = orders.iter().find(|o| o.order_id == payment.order_id);
    order.is_none_or(|order| {
        order.status != OrderStatus::Unpaid || order.amount_cents != payment.amount_cents
    })
}

fn payments_accounted(e: &Evidence) -> Verdict {
    let mut fates: HashMap<&str, (usize, usize)> = HashMap::new();
    for order in &e.orders {
        if let Some(payment_id) = &order.payment_id {
            fates.entry(payment_id).or_default().0 += 1;
        }
    }
    for refund in &e.refunds {
        fates.entry(&refund.payment_id).or_default().1 += 1;
    }
    let sent: HashMap<&str, &PaymentRecord> = e
        .payments
        .iter()
        .map(|p| (p.payment_id.as_str(), p))
        .collect();
    let unexplained = fates.keys().filter(|id| !sent.contains_key(*id)).count();
    let wrong = sent
        .iter()
        .filter(|(id, payment)| match fates.get(*id) {
            None => payment.acknowledged > 0,
            Some((1, 0)) => payment.refund_expected,
            Some((0, 1)) => !refund_is_due(&e.orders, payment),
            Some(_) => true,
        })
        .count();
    let closed_twice = e
        .orders
        .iter()
        .filter(|o| (o.status == OrderStatus::Paid) != o.payment_id.is_some())
        .count();
    Verdict {
        number: 6,
        promise: "Never paid and expired both; a payment pays one order or is one refund due",
        holds: unexplained == 0 && wrong == 0 && closed_twice == 0 && !sent.is_empty(),
        measured: format!(
            "{} payments: {} paid an order, {} are refunds due; {} with another fate",
            sent.len(),
            fates.values().filter(|f| f.0 > 0).count(),
            e.refunds.len(),
            wrong + unexplained + closed_twice
        ),
        source: "every webhook against SELECT payment_id FROM orders, refunds",
    }
}

fn log_is_the_truth(e: &Evidence) -> Verdict {
    let state = &e.log.state;
    let sale = state.sale.as_ref().map(|sale| SaleRow {
        initial: sale.terms.stock,
        adjusted: sale.adjusted,
        stock_left: sale.available,
        unpaid: sale.unpaid,
        paid: sale.paid,
    });
    let folded_orders = sorted(state.orders.values().map(OrderRow::from), |o| o.order_id);
    let folded_refunds = sorted(state.refunds.iter().map(RefundRow::from), |r| r.offset);
    let orders = sorted(e.orders.iter().cloned(), |o| o.order_id);
    let refunds = sorted(e.refunds.iter().cloned(), |r| r.offset);
    let tables_agree = sale == Some(e.sale) && folded_orders == orders && folded_refunds == refunds;
    let says = |same: bool| if same { "the same" } else { "SOMETHING ELSE" };
    Verdict {
        number: 7,
        promise: "fold(log) = fold(log with duplicates) = the tables",
        holds: tables_agree && e.log.duplicates_change_nothing,
        measured: format!(
            "{} events fold to {} orders; the tables say {}, the log with duplicates says {}",
            e.log.events,
            folded_orders.len(),
            says(tables_agree),
            says(e.log.duplicates_change_nothing)
        ),
        source: "the event topic from its beginning, against vouchers, orders, refunds",
    }
}

fn sorted<T, K: Ord>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_by_key(key);
    rows
}

fn all_sold(e: &Evidence) -> Verdict {
    let paid = e.units(OrderStatus::Paid);
    Verdict {
        number: 8,
        promise: "With enough demand, all S are sold",
        holds: paid == e.stock(),
        measured: format!("{paid} of {} paid", e.stock()),
        source: "SELECT sum(quantity) FROM orders WHERE status = 'paid'",
    }
}
