//! A payment arrives at the same time as the expiry or the cancellation of its order, together with another payment, or
//! before the order itself is in the log. Each order ends in exactly one way, and each payment that does not pay its
//! order becomes exactly one refund.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use redis::AsyncCommands;
use seckill_domain::VoucherId;
use seckill_tests::{Answer, Client, SaleTerms, World, await_stop, check_consistency, eventually};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const GRACE_SECONDS: u32 = 1;
const SETTINGS: [(&str, &str); 1] = [("EXPIRY_GRACE_SECONDS", "1")];
/// The number of buyers who order at the same time, and of those who pay.
const CALLS: usize = 100;
/// Payments come up to this long before or after their order is due.
const SPREAD: Duration = Duration::from_millis(500);

/// Separate limits for orders and payments, because a payment must not wait for orders.
#[derive(Clone)]
struct Calls {
    orders: Arc<Semaphore>,
    payments: Arc<Semaphore>,
}

/// Orders, and pays at about the time when the order's deadline and the grace are over.
async fn buys_late(
    client: Client,
    voucher: VoucherId,
    user: u64,
    cancels: bool,
    calls: Calls,
) -> Result<Answer> {
    let call = calls.orders.acquire().await?;
    let answer = client.order(voucher, user, None, 1).await?;
    drop(call);
    let order_id = answer.order_id().context("no order id")?;
    let pay_by = answer.body["pay_by"].as_str().context("no pay_by")?;
    let due =
        OffsetDateTime::parse(pay_by, &Rfc3339)? + time::Duration::seconds(GRACE_SECONDS.into());
    let early = SPREAD.mul_f64(fastrand::f64() * 2.0);
    let wait = due + SPREAD - early - OffsetDateTime::now_utc();
    tokio::time::sleep(wait.try_into().unwrap_or(Duration::ZERO)).await;

    let _call = calls.payments.acquire().await?;
    let pays = client.pay(order_id, order_id, 1_000);
    if cancels {
        let (paid, _) = tokio::try_join!(pays, client.cancel(user, order_id))?;
        assert_eq!(paid.status, 202, "{paid:?}");
    } else {
        assert_eq!(pays.await?.status, 202);
    }
    Ok(answer)
}

/// The number of orders by status, and the number of refunds under `refund`.
async fn ends(world: &World) -> Result<BTreeMap<String, i64>> {
    let pool = world.database().await?;
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT status, count(*) FROM orders GROUP BY status
         UNION ALL SELECT 'refund', count(*) FROM refunds",
    )
    .fetch_all(&pool)
    .await?;
    pool.close().await;
    Ok(rows.into_iter().collect())
}

/// Pays every order at the moment at which it is due.
async fn meet(case: &str, orders: u64, cancels: bool) -> Result<()> {
    let world = World::with(&SETTINGS)?;
    let units = i64::try_from(orders)?;
    let terms = SaleTerms {
        hold_seconds: 2,
        ..SaleTerms::of(units)
    };
    let voucher = world.sale(terms).await?;
    let calls = Calls {
        orders: Arc::new(Semaphore::new(CALLS)),
        payments: Arc::new(Semaphore::new(CALLS)),
    };
    let mut buyers = JoinSet::new();
    for user in 1..=orders {
        let (client, calls) = (world.client.clone(), calls.clone());
        buyers.spawn(buys_late(client, voucher, user, cancels, calls));
    }
    let mut answers = Vec::new();
    while let Some(answer) = buyers.join_next().await {
        answers.push(answer??);
    }
    eventually(
        "nothing is unpaid, and every payment has its end",
        || async {
            let ends = ends(&world).await?;
            let of = |name: &str| ends.get(name).copied().unwrap_or(0);
            Ok(of("unpaid") == 0 && of("paid") + of("refund") == units)
        },
    )
    .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    let ends = ends(&world).await?;
    println!("case {case}: orders={orders} {ends:?}");
    let of = |name: &str| ends.get(name).copied().unwrap_or(0);
    assert_eq!(of("paid") + of("expired") + of("cancelled"), units);
    assert_eq!(of("refund"), units - of("paid"), "one a payment that lost");
    assert_eq!(
        (found.paid, found.available),
        (of("paid"), units - of("paid"))
    );
    assert!(
        of("paid") > 0 && of("expired") > 0,
        "each has won somewhere"
    );
    assert_eq!(of("cancelled") > 0, cancels);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_payments_meet_the_expiry() -> Result<()> {
    meet("payment-expiry", 1_000, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_payments_and_cancellations_meet_the_expiry() -> Result<()> {
    meet("payment-cancellation-expiry", 1_000, true).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 10,000 orders"]
async fn ten_thousand_payments_meet_the_expiry() -> Result<()> {
    meet("payment-expiry-long", 10_000, false).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 10,000 orders"]
async fn ten_thousand_payments_and_cancellations_meet_the_expiry() -> Result<()> {
    meet("payment-cancellation-expiry-long", 10_000, true).await
}

/// Sends twenty different payments of one order, and one of them twenty times.
#[tokio::test(flavor = "multi_thread")]
async fn many_payments_of_one_order_at_once() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("no order id")?;
    let payments: Vec<String> = (0..20).map(|n| format!("payment-{n}")).collect();
    let each = payments.iter().map(|id| (id.as_str(), 1_000));
    let again = (0..20).map(|_| ("payment-0", 1_000));
    let wrong = [("too-little", 999), ("too-much", 1_001)];
    let all = each.chain(again).chain(wrong);
    let told = all.map(|(id, cents)| world.client.pay(order_id, id, cents));
    for told in try_join_all(told).await? {
        assert_eq!(told.status, 202, "{told:?}");
    }
    eventually("every payment has its end", || async {
        Ok(ends(&world).await?.get("refund") == Some(&21))
    })
    .await?;
    world.quiet(voucher).await?;
    assert_eq!(check_consistency(&world, voucher, &[answer]).await?.paid, 1);
    Ok(())
}

/// Redis has granted the order, but its ingress is stopped before it publishes it. The one that takes the payment does.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_an_order_that_is_not_in_the_log_yet_is_honoured() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let stop = ("SECKILL_FAILPOINTS", "ingress.after-lua=stop");
    let mut sleeper = world.stack.start_ingress(&[stop])?;
    let of_sleeper = world.client_of(&sleeper);
    let order = tokio::spawn(async move { of_sleeper.order(voucher, 1, None, 1).await });
    await_stop(&sleeper, "ingress.after-lua").await?;
    let mut redis = world.redis().await?;
    let hold: String = redis.hget(world.sale_key(voucher, "holds"), 1).await?;
    let order_id = hold.split('|').next().context("no order id")?.to_owned();

    let early = world.client.pay(&order_id, "early", 1_000).await?;
    assert_eq!(early.status, 202, "{early:?}");
    world.until_status(1, &order_id, "paid").await?;

    sleeper.resume()?;
    let answer = order.await??;
    assert_eq!(answer.order_id(), Some(&*order_id), "{answer:?}");
    for payment in ["early", "late"] {
        let told = world.client.pay(&order_id, payment, 1_000).await?;
        assert_eq!(told.status, 202, "{told:?}");
    }
    world.quiet(voucher).await?;
    assert_eq!(check_consistency(&world, voucher, &[answer]).await?.paid, 1);
    eventually("the late payment goes back", || async {
        Ok(ends(&world).await?.get("refund") == Some(&1))
    })
    .await?;
    Ok(())
}
