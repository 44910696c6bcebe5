//! Reads, voucher ids, and the walls of last resort.

use std::collections::HashSet;

use crate::harness::{
    PARTITION, PRICE_CENTS, Stand, TOPIC, adjusted, at, expired, key, log_from, options, order_id,
    paid, reserved, scheduled, user, voucher,
};
use seckill_domain::{Epoch, EventBody, Offset, TraceParent, VoucherId};
use seckill_orderbook::{
    AuditEntry, LedgerRow, Orderbook, OrderbookError, RequestKey, SaleRequest,
};

const ENTRY: AuditEntry<'static> = AuditEntry {
    origin: None,
    actor: "ann",
    command: "dlq replay",
    reason: "schema mended",
    affected: 3,
    voucher_id: None,
    trace: None,
};

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Audited {
    actor: String,
    command: String,
    reason: String,
    affected: i64,
    voucher_id: Option<i64>,
    trace_id: Option<String>,
}

async fn audited(stand: &Stand) -> Vec<Audited> {
    sqlx::query_as("SELECT * FROM ops_audit WHERE at <= now() ORDER BY id")
        .fetch_all(&stand.sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_and_a_migrated_database_can_be_migrated_again() {
    let stand = Stand::new().await;
    let mut wrong = options(&stand.database);
    wrong.database_url = "no database".to_owned();
    assert!(matches!(
        Orderbook::connect(&wrong),
        Err(OrderbookError::Database(_))
    ));

    stand.book.migrate().await.unwrap();
    stand.book.ping().await.unwrap();
}

#[tokio::test]
async fn a_password_is_not_printed() {
    let stand = Stand::new().await;
    let mut options = options(&stand.database);
    options.database_url = "postgres://shop:hunter2@127.0.0.1:1/shop".to_owned();
    let book = Orderbook::connect(&options).unwrap();
    let printed = format!("{book:?}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn sales_and_orders_are_paged_the_newest_first() {
    let stand = Stand::new().await;
    let sales = (1..=5).map(|n| (voucher(n), scheduled(10)));
    let orders = (1..=5).map(|n| (voucher(n), reserved(order_id(voucher(n), 1), user(7), 1)));
    stand
        .apply(0, &log_from(0, sales.chain(orders)))
        .await
        .unwrap();

    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = stand.book.sales(2, before).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.sale.voucher_id);
        seen.extend(page.iter().map(|row| row.sale.voucher_id.get()));
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);

    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = stand.book.orders_of(user(7), 2, before).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.reserved_at, last.order_id));
        seen.extend(page.iter().map(|order| order.order_id.voucher_id().get()));
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    assert!(
        stand
            .book
            .orders_of(user(8), 2, None)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(stand.book.sale(voucher(6)).await.unwrap().is_none());
    assert!(
        stand
            .book
            .order(order_id(voucher(6), 1))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_ledger_is_conserved_and_names_the_position_it_stands_for() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let id = |n| order_id(v, n);
    let log = log_from(
        0,
        [
            (v, scheduled(10)),
            (v, reserved(id(1), user(1), 3)),
            (v, reserved(id(2), user(2), 2)),
            (v, paid(id(1), "p1", 3 * PRICE_CENTS)),
            (v, adjusted(4, None)),
            (v, adjusted(-1, Some(1))),
            (v, adjusted(-99, Some(1))),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    let ledger = stand.book.ledger(TOPIC, v).await.unwrap().unwrap();
    let expected = LedgerRow {
        initial: 10,
        adjusted: 3,
        available: 8,
        unpaid: 2,
        paid: 3,
        retired: false,
        epoch: Epoch::FIRST,
        position: Offset::new(7),
    };
    assert_eq!(ledger, expected);
    assert_eq!(stand.book.ledger(TOPIC, voucher(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_refund_is_due_where_a_payment_could_not_be_honoured() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let (first, second, unknown) = (order_id(v, 1), order_id(v, 2), order_id(v, 3));
    let log = log_from(
        0,
        [
            (v, scheduled(10)),
            (v, reserved(first, user(1), 1)),
            (v, reserved(second, user(2), 1)),
            (v, expired(first)),
            (v, paid(first, "p1", PRICE_CENTS)),
            (v, paid(first, "p2", PRICE_CENTS)),
            (v, paid(second, "p3", PRICE_CENTS)),
            (v, paid(unknown, "p4", PRICE_CENTS)),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    let due = stand
        .book
        .refund_due(&[first, second, unknown])
        .await
        .unwrap();
    assert_eq!(due, HashSet::from([first, unknown]));
}

#[tokio::test]
async fn voucher_ids_are_never_given_out_twice_and_never_one_that_the_log_has() {
    let stand = Stand::new().await;
    let book = &stand.book;
    let take = async || match book.request_sale(None, ENTRY).await {
        Ok(SaleRequest::New(id)) => Ok(id),
        Ok(other) => panic!("without a key: {other:?}"),
        Err(error) => Err(error),
    };
    let (a, b, c) = tokio::join!(take(), take(), take());
    let taken: HashSet<VoucherId> = [a, b, c].into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.len(), 3);

    let log = log_from(
        0,
        [(voucher(70), scheduled(1)), (voucher(60), scheduled(1))],
    );
    stand.apply(0, &log).await.unwrap();
    assert_eq!(take().await.unwrap(), voucher(71));
    // A sale with a low id doesn't bring the count back.
    stand
        .apply(2, &log_from(2, [(voucher(5), scheduled(1))]))
        .await
        .unwrap();
    assert_eq!(take().await.unwrap(), voucher(72));

    let highest = voucher(VoucherId::MAX.cast_signed());
    stand
        .apply(3, &log_from(3, [(highest, scheduled(1))]))
        .await
        .unwrap();
    let none = take().await;
    assert!(
        matches!(none, Err(OrderbookError::NoVoucherIdLeft)),
        "{none:?}"
    );
}

#[tokio::test]
async fn equal_requests_get_one_voucher_id_and_a_reused_key_none() {
    let stand = Stand::new().await;
    let ask = |key_byte, body_byte| {
        let (key, request) = (key(key_byte), key(body_byte));
        stand
            .book
            .request_sale(Some(RequestKey { key, request }), ENTRY)
    };
    let (a, b, c) = tokio::join!(ask(1, 1), ask(1, 1), ask(1, 1));
    let answers = [a.unwrap(), b.unwrap(), c.unwrap()];
    let new: Vec<VoucherId> = answers
        .iter()
        .filter_map(|answer| match answer {
            SaleRequest::New(id) => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    let same = |answer: &&SaleRequest| **answer == SaleRequest::Same(new[0]);
    assert_eq!(answers.iter().filter(same).count(), 2, "{answers:?}");

    assert_eq!(ask(1, 2).await.unwrap(), SaleRequest::Reused);
    let other = ask(2, 1).await.unwrap();
    assert!(
        matches!(other, SaleRequest::New(id) if id != new[0]),
        "{other:?}"
    );
}

#[tokio::test]
async fn equal_changes_are_one_and_a_reused_key_changes_nothing() {
    let stand = Stand::new().await;
    let v = voucher(7);
    let ask = |key_byte, body_byte| {
        let (key, request) = (key(key_byte), key(body_byte));
        stand
            .book
            .request_change(v, Some(RequestKey { key, request }), ENTRY)
    };
    let (a, b, c) = tokio::join!(ask(1, 1), ask(1, 1), ask(1, 1));
    let answers = [a.unwrap(), b.unwrap(), c.unwrap()];
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!(
        (count(SaleRequest::New(v)), count(SaleRequest::Same(v))),
        (1, 2),
        "{answers:?}"
    );
    assert_eq!(ask(1, 2).await.unwrap(), SaleRequest::Reused);
    assert_eq!(ask(2, 2).await.unwrap(), SaleRequest::New(v));
    assert_eq!(audited(&stand).await.len(), 2, "a repetition is no action");
}

#[tokio::test]
async fn what_an_operator_does_is_on_record() {
    let stand = Stand::new().await;
    let trace = TraceParent::generate(0xfeed, 1);
    let entry = AuditEntry {
        voucher_id: Some(voucher(7)),
        trace: Some(trace),
        ..ENTRY
    };
    stand.book.audit(entry).await.unwrap();
    stand.book.request_sale(None, entry).await.unwrap();
    let row = |voucher| Audited {
        actor: "ann".to_owned(),
        command: "dlq replay".to_owned(),
        reason: "schema mended".to_owned(),
        affected: 3,
        voucher_id: Some(voucher),
        trace_id: Some(format!("{:032x}", 0xfeed)),
    };
    assert_eq!(audited(&stand).await, [row(7), row(1)]);
}

#[tokio::test]
async fn what_was_done_to_a_sale_is_read_the_newest_first_and_no_more_than_asked_for() {
    let stand = Stand::new().await;
    for (sale, reason) in [(7, "first"), (8, "another's"), (7, "second"), (7, "third")] {
        let voucher_id = Some(voucher(sale));
        let entry = AuditEntry {
            voucher_id,
            reason,
            ..ENTRY
        };
        stand.book.audit(entry).await.unwrap();
    }
    stand.book.audit(ENTRY).await.unwrap();
    let read = async |sale, limit| {
        let deeds = stand.book.audit_of(voucher(sale), limit).await.unwrap();
        let deeds = deeds.into_iter().map(|deed| (deed.actor, deed.reason));
        deeds.collect::<Vec<_>>()
    };
    let ann = |reason: &str| ("ann".to_owned(), reason.to_owned());
    let all = [ann("third"), ann("second"), ann("first")];
    assert_eq!(read(7, 50).await, all);
    assert_eq!(read(7, 2).await, all[..2]);
    assert_eq!(read(9, 50).await, []);
}

#[tokio::test]
async fn the_database_itself_refuses_what_must_never_be() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let log = log_from(
        0,
        [
            (v, scheduled(10)),
            (v, reserved(order_id(v, 1), user(1), 2)),
            (v, reserved(order_id(v, 2), user(2), 1)),
            (v, EventBody::SaleClosed),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    let first = order_id(v, 1);
    for (change, constraint) in [
        (
            "UPDATE vouchers SET stock_left = -1, unpaid_units = 11".to_owned(),
            "vouchers_stock_left_check",
        ),
        (
            "UPDATE vouchers SET unpaid_units = -1, stock_left = 11".to_owned(),
            "vouchers_unpaid_units_check",
        ),
        (
            "UPDATE vouchers SET paid_units = -1, stock_left = 8".to_owned(),
            "vouchers_paid_units_check",
        ),
        (
            "UPDATE vouchers SET stock_left = stock_left + 1".to_owned(),
            "vouchers_units_are_conserved",
        ),
        (
            "UPDATE vouchers SET closed_at = NULL".to_owned(),
            "vouchers_closed_when_and_where",
        ),
        (
            "UPDATE vouchers SET epoch = 0".to_owned(),
            "vouchers_epoch_check",
        ),
        (
            "UPDATE orders SET user_id = 1".to_owned(),
            "orders_one_live_order",
        ),
        (
            format!(
                "UPDATE orders SET status = 'paid', closed_at = now(), closed_offset = 9
                  WHERE order_id = '{first}'"
            ),
            "orders_paid_by_a_payment",
        ),
        (
            format!("UPDATE orders SET status = 'expired' WHERE order_id = '{first}'"),
            "orders_closed_when_decided",
        ),
        (
            format!("UPDATE orders SET status = 'rejected' WHERE order_id = '{first}'"),
            "orders_rejected_for_a_reason",
        ),
        (
            "UPDATE orders SET reserved_offset = 9".to_owned(),
            "orders_reserved_offset",
        ),
    ] {
        let error = stand.execute(&change).await.unwrap_err();
        let constraints = error.as_database_error().and_then(|e| e.constraint());
        assert_eq!(constraints, Some(constraint), "{change}: {error}");
    }
}

#[tokio::test]
async fn an_order_read_back_is_the_order_to_the_microsecond() {
    let stand = Stand::new().await;
    let v = voucher(VoucherId::MAX.cast_signed());
    let id = order_id(v, 1);
    let body = crate::harness::with_key(reserved(id, user(i64::MAX), u32::MAX), key(0xfe));
    let log = log_from(0, [(v, scheduled(i64::MAX)), (v, body)]);
    stand.apply(0, &log).await.unwrap();
    let folded = crate::harness::expected::fold(&log);
    let order = stand.book.order(id).await.unwrap().unwrap();
    assert_eq!(order, folded.states[&v].orders[&id]);
    assert_eq!(order.reserved_at, at(1));
    let row = stand.book.sale(v).await.unwrap().unwrap();
    assert_eq!(Some(row.sale), folded.states[&v].sale);
    assert_eq!(row.partition, PARTITION);
}
