//! A user has at most one live order, and an idempotency key always has the same order id.

use anyhow::Result;
use futures_util::future::try_join_all;
use seckill_tests::{SaleTerms, World, check_consistency};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clicks_with_one_key_are_one_order() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let clicks = (0..64).map(|_| world.client.order(voucher, 7, Some("a-click"), 1));
    let answers = try_join_all(clicks).await?;

    let first = answers[0].order_id().expect("an order id").to_owned();
    for answer in &answers {
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.order_id(), Some(first.as_str()));
    }
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        1
    );

    let again = world.client.order(voucher, 7, Some("a-click"), 1).await?;
    assert!(again.is_reserved(), "settled by now: {again:?}");
    assert_eq!(again.order_id(), Some(first.as_str()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clicks_with_fifty_keys_are_one_order() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let keys: Vec<String> = (0..50).map(|n| format!("key-{n}")).collect();
    let clicks = keys
        .iter()
        .map(|key| world.client.order(voucher, 7, Some(key), 1));
    let answers = try_join_all(clicks).await?;

    let accepted: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .collect();
    assert_eq!(accepted.len(), 1);
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
async fn a_key_with_another_quantity_is_refused() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        max_quantity: 2,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let first = world.client.order(voucher, 7, Some("a-key"), 1).await?;
    assert_eq!(first.status, 202);
    let other = world.client.order(voucher, 7, Some("a-key"), 2).await?;
    assert_eq!(
        (other.status, other.problem()),
        (422, "idempotency-key-reused")
    );
    Ok(())
}

/// The first key answers with the first order, before and after Redis was lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_an_order_before_the_last_answers_with_it_also_after_a_reload() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let order = async |key: &str| -> Result<(String, Value)> {
        let answer = world.client.order(voucher, 7, Some(key), 1).await?;
        assert_eq!(answer.status, 202, "{key}: {answer:?}");
        let id = answer.order_id().expect("an order id").to_owned();
        Ok((id, answer.body["status"].clone()))
    };
    let mut orders = Vec::new();
    for key in ["K1", "K2", "K3"] {
        let (id, _) = order(key).await?;
        assert!(!orders.contains(&id), "{key} is another order");
        if key != "K3" {
            world.until_status(7, &id, "unpaid").await?;
            world.client.cancel(7, &id).await?;
            world.until_status(7, &id, "cancelled").await?;
            world.quiet(voucher).await?;
        }
        orders.push(id);
    }
    for lost in [false, true] {
        world.quiet(voucher).await?;
        if lost {
            let mut redis = world.redis().await?;
            redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
            world.until_served(voucher).await?;
        }
        for (key, id) in ["K1", "K2", "K3", "K1"].iter().zip([0, 1, 2, 0]) {
            let status = if id == 2 { "reserved" } else { "cancelled" };
            let expected = (orders[id].clone(), status.into());
            assert_eq!(order(key).await?, expected, "{key}, lost: {lost}");
        }
    }
    world.quiet(voucher).await?;
    assert_eq!(check_consistency(&world, voucher, &[]).await?.unpaid, 1);
    Ok(())
}
