//! `order timeline` and `order show --at`

use seckill_domain::{
    EventBody, OrderCancelled, OrderExpired, OrderId, OrderPaid, PaymentId, Timestamp, TraceParent,
    UserId,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::harness::{CliWorld, euros, event, order, reserved, scheduled, user, voucher};

fn paid(order_id: OrderId, payment: &str, cents: i64) -> EventBody {
    EventBody::OrderPaid(OrderPaid {
        order_id,
        payment_id: PaymentId::new(payment).unwrap(),
        amount: euros(cents),
        paid_at: Timestamp::from_micros(1),
    })
}

fn cancelled(order_id: OrderId, user_id: UserId) -> EventBody {
    EventBody::OrderCancelled(OrderCancelled { order_id, user_id })
}

fn expired(order_id: OrderId) -> EventBody {
    EventBody::OrderExpired(OrderExpired {
        order_id,
        pay_by: Timestamp::from_micros(1),
    })
}

/// A moment after everything that is written and before everything that will be: Kafka's clock
/// counts milliseconds.
async fn moment_between() -> String {
    let millis = || OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let now = millis();
    while millis() == now {
        tokio::task::yield_now().await;
    }
    let between = OffsetDateTime::from_unix_timestamp_nanos(now * 1_000_000).unwrap();
    between.format(&Rfc3339).unwrap()
}

/// Two orders of user 7: the first is paid, with much ado, and the second is rejected. Returns a
/// moment before the payments.
async fn write(world: &CliWorld, first: OrderId, second: OrderId, trace: TraceParent) -> String {
    let (sale, other) = (first.voucher_id(), voucher(18));
    let start = reserved(first, user(7));
    world.write(&scheduled(sale), None).await;
    world.write(&scheduled(other), None).await;
    world.write(&event(sale, expired(first)), None).await;
    world.write(&start, Some(trace)).await;
    world.write(&start, None).await;
    world.write(&reserved(order(other, 1), user(7)), None).await;
    world.write(&reserved(second, user(7)), None).await;
    world
        .write(&event(sale, cancelled(first, user(8))), None)
        .await;
    let unpaid = moment_between().await;
    for body in [
        paid(first, "short", 99),
        paid(first, "good", 100),
        paid(first, "good", 100),
        paid(first, "short", 99),
        expired(first),
        cancelled(first, user(7)),
    ] {
        world.write(&event(sale, body), None).await;
    }
    unpaid
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_told_with_what_was_decided_and_why() {
    // One partition, so that another sale's events stand between.
    let world = CliWorld::new(1).await;
    let (first, second) = (order(voucher(17), 1), order(voucher(17), 2));
    let trace = TraceParent::generate(0xfeed, 1);
    write(&world, first, second, trace).await;

    let timeline = world.json(&["order", "timeline", &first.to_string()]).await;
    let records = timeline["records"].as_array().unwrap();
    let decided: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r["offset"].as_i64().unwrap(),
                r["decided"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        decided,
        [
            (2, "no effect: no such order stands before it in the log"),
            (3, "reserved: 1 free units taken"),
            (
                4,
                "no effect: this order id was decided before: a repetition"
            ),
            (7, "no effect: user 8 is not its buyer"),
            (8, "refund due: the amount is not the order's"),
            (9, "paid by good"),
            (
                10,
                "no effect: this payment was honoured before: a repetition"
            ),
            (11, "no effect: this payment is due for a refund already"),
            (12, "no effect: the order is paid already"),
            (13, "no effect: the order is paid already"),
        ]
    );
    assert_eq!(timeline["status"], "paid");
    assert_eq!(records[1]["trace_id"], format!("{:032x}", 0xfeed));
    assert_eq!(records[1]["event"]["user_id"], 7);

    let table = world.run(&["order", "timeline", &second.to_string()]).await;
    assert_eq!(table.stdout.lines().count(), 2, "{}", table.stdout);
    let reason = "rejected: the user has a live order of this sale";
    assert!(table.stdout.contains(reason), "{}", table.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_as_it_was() {
    let world = CliWorld::new(1).await;
    let (first, second) = (order(voucher(17), 1), order(voucher(17), 2));
    let unpaid = write(&world, first, second, TraceParent::generate(1, 1)).await;
    let (id, now) = (first.to_string(), "2100-01-01T00:00:00Z");

    let before = world
        .json(&["order", "timeline", &id, "--at", &unpaid])
        .await;
    assert_eq!(before["records"].as_array().unwrap().len(), 4);
    let shown = world.json(&["order", "show", &id, "--at", &unpaid]).await;
    assert_eq!(
        (&shown["status"], &shown["reserved_offset"]),
        (&"unpaid".into(), &3.into())
    );
    let shown = world.json(&["order", "show", &id, "--at", now]).await;
    assert_eq!(
        (&shown["status"], &shown["refund_due"]),
        (&"paid".into(), &true.into())
    );

    let missing = order(voucher(17), 3).to_string();
    for command in ["show", "timeline"] {
        let ran = world.run(&["order", command, &missing, "--at", now]).await;
        assert_eq!(ran.code, Some(3), "{command}: {}", ran.stderr);
    }
}
