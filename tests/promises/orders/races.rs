//! Concurrent requests: the event that is first in the log wins, and no unit is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use seckill_tests::{
    Answer, Client, PATIENCE, SaleTerms, World, await_death, check_consistency, eventually,
};
use serde_json::json;

/// After `delay`, a buyer cancels the order, pays it, or does both at once.
async fn changes_its_mind(client: Client, user: u64, order: Answer, delay: Duration) -> Result<()> {
    let order_id = order.order_id().context("no order id")?.to_owned();
    tokio::time::sleep(delay).await;
    let pays = async || client.pay(&order_id, &order_id, 1_000).await;
    let cancels = async || client.cancel(user, &order_id).await;
    match user % 3 {
        0 => cancels().await.map(drop),
        1 => pays().await.map(drop),
        _ => tokio::try_join!(cancels(), pays()).map(drop),
    }
}

/// Buyers act from the moment of their order until well after it has expired.
#[tokio::test(flavor = "multi_thread")]
async fn cancellations_payments_and_expiries_of_300_orders() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let terms = SaleTerms {
        stock: 300,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let answers = world.client.orders(voucher, 1..301).await;
    assert_eq!(answers.len(), 300);
    let buyers = (1..).zip(&answers).map(|(user, answer)| {
        let delay = Duration::from_millis(user % 40 * 100);
        tokio::spawn(changes_its_mind(
            world.client.clone(),
            user,
            answer.clone(),
            delay,
        ))
    });
    let buyers: Vec<_> = buyers.collect();
    for buyer in buyers {
        buyer.await??;
    }
    world.quiet_with_none_unpaid(voucher, PATIENCE).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.paid + found.available, 300, "{found:?}");

    let pool = world.database().await?;
    let ends: Vec<String> = sqlx::query_scalar("SELECT DISTINCT status FROM orders ORDER BY 1")
        .fetch_all(&pool)
        .await?;
    assert_eq!(
        ends,
        ["cancelled", "expired", "paid"],
        "each has won somewhere"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_with_fifty_keys_at_two_ingresses() -> Result<()> {
    let world = World::start()?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client.clone(), world.client_of(&second)];
    let voucher = world.sale(SaleTerms::default()).await?;
    let keys: Vec<String> = (0..50).map(|n| format!("key-{n}")).collect();
    let clicks = keys.iter().zip(clients.iter().cycle());
    let clicks = clicks.map(|(key, client)| client.order(voucher, 7, Some(key), 1));
    let answers = try_join_all(clicks).await?;

    let accepted: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .collect();
    assert_eq!(accepted.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!((answer.status, answer.problem()), (409, "already-ordered"));
        assert_eq!(answer.order_id(), accepted[0].order_id());
    }
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restocks_shrinks_and_a_close_while_orders_flow() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        stock: 100,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let client = &world.client;
    let changes = async {
        let mut units = 100;
        for delta in [50, -10, -20, 30, -5, -15, 40, -25, 10, -5] {
            let path = format!("/admin/v1/vouchers/{voucher}/stock");
            let body = json!({ "delta": delta, "reason": "count" });
            let answer = client.admin_post(&path, &body).await?;
            match (answer.status, answer.problem()) {
                (202, _) => units += delta,
                (409, "stock-committed") if delta < 0 => {}
                _ => anyhow::bail!("{delta}: {answer:?}"),
            }
        }
        anyhow::Ok(units)
    };
    let (units, mut answers) = tokio::join!(changes, client.orders(voucher, 1..401));
    let units = units?;
    world.quiet(voucher).await?;
    eventually("every unit is sold", || async {
        let last = client.order(voucher, 1_000, Some("k"), 1).await?;
        Ok(last.status == 202 || last.problem() == "sold-out")
    })
    .await?;
    answers.extend(client.orders(voucher, 1_001..1_301).await);

    let (close, nothing) = (format!("/admin/v1/vouchers/{voucher}/close"), json!({}));
    let (closed, late) = tokio::join!(
        client.admin_post(&close, &nothing),
        client.orders(voucher, 2_001..2_051)
    );
    assert_eq!(closed?.status, 202);
    answers.extend(late);
    eventually("the sale has ended", || async {
        Ok(client.order(voucher, 3_000, None, 1).await?.problem() == "ended")
    })
    .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(
        (found.units, found.unpaid, found.available, found.rejected),
        (units, units, 0, 0)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_repeated_elsewhere_after_its_ingress_died() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let point = ("SECKILL_FAILPOINTS", "ingress.after-lua=kill");
    let mut dying = world.stack.start_ingress(&[point])?;
    let of_dying = world.client_of(&dying);
    let cut_off = of_dying.order(voucher, 1, Some("k"), 1).await;
    assert!(cut_off.is_err(), "{cut_off:?}");
    await_death(&mut dying, "ingress.after-lua")?;

    let repeated = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(
        (repeated.status, &repeated.body["status"]),
        (202, &"pending".into()),
        "{repeated:?}"
    );
    let order_id = repeated.order_id().context("no order id")?;
    eventually("the repeat is reserved", || async {
        let again = world.client.order(voucher, 1, Some("k"), 1).await?;
        assert_eq!(again.order_id(), Some(order_id));
        Ok(again.is_reserved())
    })
    .await?;
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &[repeated])
            .await?
            .unpaid,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_names_its_cancelled_order_after_a_reload() -> Result<()> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let first = world.client.order(voucher, 1, Some("k"), 1).await?;
    let order_id = first.order_id().context("no order id")?.to_owned();
    world.until_status(1, &order_id, "unpaid").await?;
    assert_eq!(world.client.cancel(1, &order_id).await?.status, 202);
    world.until_status(1, &order_id, "cancelled").await?;
    world.stack.redis.restart()?;
    world.until_served(voucher).await?;

    let repeated = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(
        (repeated.status, &repeated.body["status"]),
        (202, &"cancelled".into()),
        "no promise: {repeated:?}"
    );
    assert_eq!(repeated.order_id(), Some(order_id.as_str()));
    let fresh = world.client.order(voucher, 1, Some("another"), 1).await?;
    assert!(fresh.is_reserved(), "{fresh:?}");
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[first, repeated, fresh]).await?;
    assert_eq!((found.unpaid, found.available), (1, 9));
    Ok(())
}
