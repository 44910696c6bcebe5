//! Every payment pays one order or becomes one refund.

use anyhow::Result;
use futures_util::future::try_join_all;
use seckill_tests::{Answer, PATIENCE, SaleTerms, World, check_consistency, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_right_payment_counts_and_every_other_is_a_refund() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");

    for (payment, cents) in [
        ("wrong", 999),
        ("right", 1_000),
        ("right", 1_000),
        ("second", 1_000),
    ] {
        let told = world.client.pay(order_id, payment, cents).await?;
        assert_eq!(told.status, 202, "{payment}: {told:?}");
    }
    let order = world.until_status(1, order_id, "paid").await?;
    assert_eq!(order["amount_cents"], 1_000);
    assert_eq!(
        world.client.cancel(1, order_id).await?.problem(),
        "not-cancellable"
    );
    eventually("both refunds are seen", || async {
        let path = format!("/api/v1/orders/{order_id}");
        Ok(world.client.get(1, &path).await?.body["refund_due"] == true)
    })
    .await?;
    world.quiet(voucher).await?;
    assert_eq!(check_consistency(&world, voucher, &[answer]).await?.paid, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_for_an_order_that_nobody_knows_is_a_refund() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let unknown = seckill_domain::OrderId::from_parts(voucher, 1, 1).to_string();
    assert_eq!(world.client.pay(&unknown, "lost", 1_000).await?.status, 202);
    let malformed = world.client.pay("no-order", "lost", 1_000).await?;
    assert_eq!(
        (malformed.status, malformed.problem()),
        (400, "invalid-request")
    );

    let pool = sqlx::PgPool::connect(world.stack.setting("DATABASE_URL")).await?;
    eventually("the refund is there", || async {
        let reasons: Vec<String> =
            sqlx::query_scalar("SELECT reason FROM refunds WHERE payment_id = 'lost'")
                .fetch_all(&pool)
                .await?;
        Ok(reasons == ["unknown-order"])
    })
    .await?;
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}

/// A payment id belongs to one order. Used for another order it is refused, and that order can still be paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_id_that_counts_for_one_order_is_refused_for_another() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    let ids: Vec<&str> = answers.iter().filter_map(Answer::order_id).collect();

    assert_eq!(
        world.client.pay(ids[0], "honoured", 1_000).await?.status,
        202
    );
    assert_eq!(world.client.pay(ids[1], "refund", 999).await?.status, 202);
    world.until_status(1, ids[0], "paid").await?;
    eventually("the refund is seen", || async {
        let path = format!("/api/v1/orders/{}", ids[1]);
        Ok(world.client.get(2, &path).await?.body["refund_due"] == true)
    })
    .await?;
    for (payment, first) in [("honoured", ids[0]), ("refund", ids[1])] {
        let other = world.client.pay(ids[2], payment, 1_000).await?;
        assert_eq!((other.status, other.problem()), (422, "payment-id-reused"));
        assert_eq!(other.body["order_id"], first, "{other:?}");
        let again = world.client.pay(first, payment, 1_000).await?;
        assert_eq!(again.status, 202, "the same again has no effect: {again:?}");
    }
    assert_eq!(
        world.client.pay(ids[2], "its-own", 1_000).await?.status,
        202
    );
    world.until_status(3, ids[2], "paid").await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.paid, found.unpaid), (2, 1));
    Ok(())
}

/// The orders expire while the payments arrive. For each order, the event that is first in the log wins.
#[tokio::test(flavor = "multi_thread")]
async fn payment_and_expiry_at_the_same_moment_have_one_winner() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        stock: 100,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let orders = (1..=100).map(|user| world.client.order(voucher, user, None, 1));
    let answers = try_join_all(orders).await?;
    let ids: Vec<&str> = answers
        .iter()
        .filter_map(|answer| answer.order_id())
        .collect();
    assert_eq!(ids.len(), 100);

    let pool = sqlx::PgPool::connect(world.stack.setting("DATABASE_URL")).await?;
    eventually("the first order expires", || async {
        let expired: i64 =
            sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = 'expired'")
                .fetch_one(&pool)
                .await?;
        let payments = ids.iter().take(usize::try_from(expired)? * 2 + 1);
        try_join_all(payments.map(|id| world.client.pay(id, id, 1_000))).await?;
        Ok(expired > 0)
    })
    .await?;
    try_join_all(ids.iter().map(|id| world.client.pay(id, id, 1_000))).await?;
    let ledger = world.quiet_with_none_unpaid(voucher, PATIENCE).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.paid + found.available, 100, "{ledger}");
    Ok(())
}
