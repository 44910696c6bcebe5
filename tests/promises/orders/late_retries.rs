//! A key is repeated while its first call hangs, or long after its order has ended. It is always answered with the one
//! order that it made. A closed sale stays closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use redis::AsyncCommands;
use seckill_tests::{SaleTerms, SlowWire, World, await_stop, check_consistency, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_repeated_while_its_first_call_hangs() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "1000")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let stop = ("SECKILL_FAILPOINTS", "ingress.after-lua=stop");
    let mut sleeper = world.stack.start_ingress(&[stop])?;
    let of_sleeper = world.client_of(&sleeper);
    let first = tokio::spawn(async move { of_sleeper.order(voucher, 1, Some("k"), 1).await });
    await_stop(&sleeper, "ingress.after-lua").await?;

    let mut answers = Vec::new();
    for _ in 0..10 {
        let repeated = world.client.order(voucher, 1, Some("k"), 1).await?;
        assert_eq!(
            (repeated.status, &repeated.body["status"]),
            (202, &"pending".into()),
            "nobody knows yet: {repeated:?}"
        );
        answers.push(repeated);
    }
    sleeper.resume()?;
    answers.push(first.await??);
    let order_id = answers[0].order_id().context("no order id")?.to_owned();
    for answer in &answers {
        assert_eq!(answer.order_id(), Some(&*order_id));
    }
    world.until_status(1, &order_id, "unpaid").await?;
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        1
    );
    Ok(())
}

/// An ended order prevents only a new order with the same key. The buyer may order again with another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_names_its_order_after_it_has_expired() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let first = world.client.order(voucher, 1, Some("k"), 1).await?;
    let order_id = first.order_id().context("no order id")?.to_owned();
    world.until_status(1, &order_id, "expired").await?;
    world.quiet(voucher).await?;

    let repeated = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(
        (repeated.status, repeated.order_id()),
        (202, Some(&*order_id))
    );
    assert!(!repeated.is_reserved(), "no promise: {repeated:?}");
    let fresh = world.client.order(voucher, 1, Some("another"), 1).await?;
    assert!(fresh.is_reserved(), "{fresh:?}");
    let again = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(
        (again.status, again.order_id()),
        (202, Some(&*order_id)),
        "also beside a later order"
    );
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[first, repeated, fresh]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_sale_is_not_opened_by_a_restock() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(1_000)).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    let (stock, close) = ["stock", "close"]
        .map(|what| format!("/admin/v1/vouchers/{voucher}/{what}"))
        .into();
    for _ in 0..2 {
        let closed = world.client.admin_post(&close, &json!({})).await?;
        assert_eq!(closed.status, 202, "{closed:?}");
    }
    let users = AtomicU64::new(10);
    eventually("the sale has ended", || async {
        let user = users.fetch_add(1, Ordering::Relaxed);
        let answer = world.client.order(voucher, user, None, 1).await?;
        Ok(answer.problem() == "ended")
    })
    .await?;
    let restock = json!({ "delta": 5, "reason": "found more" });
    let restocked = world.client.admin_post(&stock, &restock).await?;
    assert_eq!(restocked.status, 202, "{restocked:?}");
    eventually("the units are there", || async {
        Ok(world.client.ledger(voucher).await?["adjusted"] == 5)
    })
    .await?;
    world.quiet(voucher).await?;
    let refused = world.client.order(voucher, 9, None, 1).await?;
    assert_eq!(refused.problem(), "ended", "{refused:?}");
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(
        (found.units, found.unpaid + found.available),
        (1_005, 1_005)
    );
    assert!(found.available > 5, "{found:?}");
    Ok(())
}

/// The first attempt was granted, and its answer was lost. The ingress is stopped before the second attempt. Meanwhile
/// the relay publishes the order, its buyer cancels it, orders again, and cancels that order too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the relay waits out the delivery time-out"]
async fn an_ingress_asks_again_for_an_order_that_has_come_and_gone() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let wire = SlowWire::before(([127, 0, 0, 1], world.stack.redis.port()).into()).await?;
    let url = format!("redis://127.0.0.1:{}", wire.port());
    let point = "ingress.before-asking-again";
    let stop = format!("{point}=stop");
    let settings = [("SECKILL_FAILPOINTS", &*stop), ("REDIS_URL", &url)];
    let mut sleeper = world.stack.start_ingress(&settings)?;
    let of_sleeper = world.client_of(&sleeper);
    wire.delay_answers(Duration::from_secs(2));
    let first = tokio::spawn(async move { of_sleeper.order(voucher, 1, None, 1).await });
    await_stop(&sleeper, point).await?;
    wire.delay_answers(Duration::ZERO);

    let mut redis = world.redis().await?;
    let hold: String = redis.hget(world.sale_key(voucher, "holds"), 1).await?;
    let order_id = hold.split('|').next().context("no order id")?.to_owned();
    world.until_status(1, &order_id, "unpaid").await?;
    assert_eq!(world.client.cancel(1, &order_id).await?.status, 202);
    world.until_status(1, &order_id, "cancelled").await?;
    world.quiet(voucher).await?;
    let second = world.client.order(voucher, 1, None, 1).await?;
    let second_id = second.order_id().context("no order id")?;
    world.until_status(1, second_id, "unpaid").await?;
    assert_eq!(world.client.cancel(1, second_id).await?.status, 202);
    world.until_status(1, second_id, "cancelled").await?;
    world.quiet(voucher).await?;

    sleeper.resume()?;
    let late = first.await??;
    assert_eq!((late.status, late.problem()), (503, "unavailable"));
    // When the resumed ingress serves another buyer, it has already sent its second attempt.
    let client = world.client_of(&sleeper);
    let other = client.order(voucher, 2, None, 1).await?;
    assert_eq!(other.status, 202, "{other:?}");
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[second, late, other]).await?;
    assert_eq!((found.unpaid, found.available), (1, 9));
    Ok(())
}

/// A reload waits for the promise deadline of the projector's setting. An ack that comes later makes no promise, also
/// if the ingress' own setting is longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_with_a_longer_promise_deadline_keeps_to_the_projectors() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let point = "ingress.after-lua";
    let longer = [
        ("PROMISE_DEADLINE_MS", "60000"),
        ("SECKILL_FAILPOINTS", &format!("{point}=stop")),
    ];
    let mut patient = world.stack.start_ingress(&longer)?;
    let of_patient = world.client_of(&patient);
    let first = tokio::spawn(async move { of_patient.order(voucher, 1, None, 1).await });
    await_stop(&patient, point).await?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    patient.resume()?;
    let late = first.await??;
    assert_eq!(
        (late.status, &late.body["status"]),
        (202, &"pending".into())
    );
    let said = "PROMISE_DEADLINE_MS is longer here than for the projector";
    assert!(patient.output()?.contains(said));
    let order_id = late.order_id().context("an order id")?;
    world.until_status(1, order_id, "unpaid").await?;

    let soon = world.client_of(&patient).order(voucher, 2, None, 1).await?;
    assert!(soon.is_reserved(), "{soon:?}");
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[late, soon]).await?;
    Ok(())
}

/// The first attempt took the units, and its answer was lost. The ingress is stopped before the second attempt, and
/// Redis is lost and loaded meanwhile. The units are not taken again.
#[tokio::test(flavor = "multi_thread")]
async fn a_shrink_is_not_asked_again_after_a_pause_in_which_the_sale_was_loaded() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "1000")])?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let wire = SlowWire::before(([127, 0, 0, 1], world.stack.redis.port()).into()).await?;
    let url = format!("redis://127.0.0.1:{}", wire.port());
    let point = "ingress.before-asking-again";
    let stop = format!("{point}=stop");
    let mut sleeper = world
        .stack
        .start_ingress(&[("SECKILL_FAILPOINTS", &stop), ("REDIS_URL", &url)])?;
    let of_sleeper = world.client_of(&sleeper);
    let path = format!("/admin/v1/vouchers/{voucher}/stock");
    let body = json!({ "delta": -5, "reason": "broken" });
    wire.delay_answers(Duration::from_millis(800));
    let first = tokio::spawn({
        let (path, body) = (path.clone(), body.clone());
        async move {
            of_sleeper
                .admin_post_with(&path, &body, &[("idempotency-key", "k")])
                .await
        }
    });
    await_stop(&sleeper, point).await?;
    wire.delay_answers(Duration::ZERO);
    let mut redis = world.redis().await?;
    let keys = ["sale", "holds", "outbox"].map(|part| world.sale_key(voucher, part));
    let _: () = redis.del(&keys).await?;
    world.until_served(voucher).await?;

    sleeper.resume()?;
    let late = first.await??;
    assert!(late.is_planned_503(), "{late:?}");
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["available"], &ledger["redis_available"]),
        (&20.into(), &20.into())
    );
    // If the change is requested again with the same key, it is made, and only once.
    for _ in 0..2 {
        let again = world
            .client
            .admin_post_with(&path, &body, &[("idempotency-key", "k")])
            .await?;
        assert_eq!(again.status, 202, "{again:?}");
    }
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["available"], &ledger["redis_available"]),
        (&15.into(), &15.into())
    );
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}
