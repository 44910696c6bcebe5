//! Redis loses everything during a sale: nothing is oversold, no promised order is lost, and the sale opens again
//! without any action.

use anyhow::Result;
use futures_util::future::{join_all, try_join_all};
use seckill_tests::{Answer, SaleTerms, World, check_consistency, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_redis_restarts_empty_goes_on_where_it_was() -> Result<()> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "1000")])?;
    let voucher = world
        .sale(SaleTerms {
            stock: 60,
            ..SaleTerms::default()
        })
        .await?;
    let orders = (1..=30).map(|user| world.client.order(voucher, user, Some("k"), 1));
    let mut answers = try_join_all(orders).await?;
    assert_eq!(answers.iter().filter(|a| a.status == 202).count(), 30);

    world.stack.redis.restart()?;
    let refused = world.client.order(voucher, 31, None, 1).await?;
    assert_eq!(
        (refused.status, refused.problem()),
        (503, "unavailable"),
        "refused, never a guess"
    );
    eventually("the sale is open again", || async {
        let answer = world.client.order(voucher, 31, None, 1).await?;
        Ok(answer.status == 202)
    })
    .await?;

    let repeated = world.client.order(voucher, 1, Some("k"), 1).await?;
    assert_eq!(
        repeated.order_id(),
        answers[0].order_id(),
        "keys survive: {repeated:?}"
    );
    let more = (32..=100).map(|user| world.client.order(voucher, user, None, 1));
    let more: Vec<Answer> = join_all(more)
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    answers.extend(more);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(
        (found.unpaid, found.available, found.rejected),
        (60, 0, 0),
        "{found:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_removed_by_hand_are_loaded_again() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world
        .sale(SaleTerms {
            stock: 10,
            ..SaleTerms::default()
        })
        .await?;
    let orders = (1..=4).map(|user| world.client.order(voucher, user, None, 1));
    let answers = try_join_all(orders).await?;
    world.quiet(voucher).await?;

    let client = redis::Client::open(world.stack.setting("REDIS_URL"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["redis_available"], 6);
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
