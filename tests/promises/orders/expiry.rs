//! Units that are not paid for return to the sale exactly once, and can be bought again.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use seckill_domain::{EventBody, OrderId};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_tests::{Answer, SaleTerms, World, check_consistency, eventually, eventually_within};

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_expires_and_its_unit_is_sold_again() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        stock: 1,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    // An operator may run a second timeout service. Units must not return twice.
    let _second = world
        .stack
        .start_timeout(&[("EXPIRY_GRACE_SECONDS", "1")])?;

    let first = world.client.order(voucher, 1, Some("a"), 1).await?;
    assert_eq!(first.status, 202, "{first:?}");
    let refused = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!((refused.status, refused.problem()), (409, "sold-out"));

    let order_id = first.order_id().expect("an order id");
    let order = world.until_status(1, order_id, "expired").await?;
    assert!(order["closed_at"].is_string(), "{order}");
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["available"], &ledger["redis_available"]),
        (&1.into(), &1.into())
    );

    let same_key = world.client.order(voucher, 1, Some("a"), 1).await?;
    assert_eq!(same_key.status, 202);
    assert_eq!(
        same_key.order_id(),
        Some(order_id),
        "a key names its order for good"
    );
    let second = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!(second.status, 202, "{second:?}");
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[first, second]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_frees_its_unit_and_its_buyer() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 1,
            ..SaleTerms::default()
        })
        .await?;
    let first = world.client.order(voucher, 1, None, 1).await?;
    let order_id = first.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;

    let others = world.client.cancel(2, order_id).await?;
    assert_eq!((others.status, others.problem()), (404, "not-found"));
    assert_eq!(world.client.cancel(1, order_id).await?.status, 202);
    world.until_status(1, order_id, "cancelled").await?;
    let again = world.client.cancel(1, order_id).await?;
    assert_eq!((again.status, again.problem()), (409, "not-cancellable"));

    world.quiet(voucher).await?;
    let second = world.client.order(voucher, 1, None, 1).await?;
    assert_eq!(second.status, 202, "{second:?}");
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[first, second]).await?;
    Ok(())
}

/// The number of expiries of each order in the log.
async fn expiries(world: &World) -> Result<HashMap<OrderId, usize>> {
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "expiries");
    let mut times = HashMap::new();
    for record in read_all(&settings, &topics.events, Duration::from_secs(60)).await? {
        let event = record.event(setting("EVENT_PARTITIONS").parse()?)?;
        if let EventBody::OrderExpired(expired) = event.body {
            *times.entry(expired.order_id).or_default() += 1;
        }
    }
    Ok(times)
}

/// Without a projector the expiries are not decided, so the orders stay due. The log must not fill with repetitions.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the projector is away for three minutes"]
async fn two_thousand_due_orders_get_four_expiries_each_while_no_projector_runs() -> Result<()> {
    const ORDERS: u64 = 2_000;
    const AWAY: Duration = Duration::from_secs(180);
    let mut world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        hold_seconds: 45,
        ..SaleTerms::of(ORDERS.cast_signed())
    };
    let voucher = world.sale(terms).await?;
    let mut answers: Vec<Answer> = Vec::new();
    for first in (1..=ORDERS).step_by(100) {
        answers.extend(world.client.orders(voucher, first..first + 100).await);
    }
    assert!(answers.iter().all(|answer| answer.status == 202));
    world.quiet(voucher).await?;
    world.projector.stop()?;

    eventually_within(2 * AWAY, "all orders are due", || async {
        Ok(expiries(&world).await?.len() == answers.len())
    })
    .await?;
    tokio::time::sleep(AWAY).await;
    let times = expiries(&world).await?;
    let (fewest, most) = (times.values().min(), times.values().max());
    println!(
        "case no projector for {} s: expiries an order {fewest:?} to {most:?}",
        AWAY.as_secs()
    );
    assert!(
        most <= Some(&4) && fewest >= Some(&2),
        "{fewest:?} {most:?}"
    );

    world.projector.restart(&[])?;
    eventually("every order has expired", || async {
        Ok(world.client.ledger(voucher).await?["available"] == ORDERS)
    })
    .await?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
