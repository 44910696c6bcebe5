//! Processes that die, by SIGKILL, exactly between two stores. After a restart and quiet, every
//! invariant holds.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use seckill_domain::VoucherId;
use seckill_tests::{Answer, Client, SaleTerms, World, audit, eventually};

const DEATH_DEADLINE: Duration = Duration::from_secs(30);

/// Orders of many users; those whose connection broke have no answer.
async fn orders_of(
    client: &Client,
    voucher: VoucherId,
    users: std::ops::Range<u64>,
) -> Vec<Answer> {
    let orders = users.map(|user| client.order(voucher, user, None, 1));
    join_all(orders)
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_after_lua_and_before_produce() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 20,
            ..SaleTerms::default()
        })
        .await?;
    let before = orders_of(&world.client, voucher, 1..6).await;
    assert_eq!(before.len(), 5);

    world
        .ingress
        .restart(&[("SECKILL_FAILPOINTS", Some("ingress.after-lua=kill"))])?;
    let cut_off = orders_of(&world.client, voucher, 6..16).await;
    world.ingress.wait_for_exit(DEATH_DEADLINE)?;
    assert!(cut_off.is_empty(), "nobody was told anything: {cut_off:?}");

    world.ingress.restart(&[("SECKILL_FAILPOINTS", None)])?;
    let after = orders_of(&world.client, voucher, 16..26).await;
    world.quiet(voucher).await?;
    let answers = [before, after].concat();
    let found = audit(&world, voucher, &answers).await?;
    // Units that were taken and whose event was not in the log were published by the relay.
    assert!(
        found.unpaid > 15,
        "the holds of the dead became orders: {found:?}"
    );
    assert_eq!(found.rejected, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn projector_after_commit_and_before_the_effects() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 20,
            ..SaleTerms::default()
        })
        .await?;
    world
        .projector
        .restart(&[("SECKILL_FAILPOINTS", Some("projector.after-commit=kill"))])?;
    let answers = orders_of(&world.client, voucher, 1..11).await;
    assert_eq!(
        answers.iter().filter(|a| a.is_reserved()).count(),
        10,
        "{answers:?}"
    );
    world.projector.wait_for_exit(DEATH_DEADLINE)?;

    let pool = sqlx::PgPool::connect(world.stack.setting("DATABASE_URL")).await?;
    let ahead: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM view_positions f WHERE f.view = 'orders' AND f.next_offset >
           coalesce((SELECT e.next_offset FROM view_positions e WHERE e.view = 'effects'
                        AND e.topic = f.topic AND e.partition = f.partition), 0))",
    )
    .fetch_one(&pool)
    .await?;
    assert!(ahead, "it died with rows that Redis had not learnt of");

    world.projector.restart(&[("SECKILL_FAILPOINTS", None)])?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["unpaid"], 10);
    audit(&world, voucher, &answers).await?;
    eventually("the effects have reached the fold", || async {
        Ok(sqlx::query_scalar(
            "SELECT count(DISTINCT next_offset) = 1 FROM view_positions GROUP BY partition
              ORDER BY max(next_offset) DESC LIMIT 1",
        )
        .fetch_one(&pool)
        .await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn projector_between_settle_and_outcomes() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 20,
            ..SaleTerms::default()
        })
        .await?;
    world
        .projector
        .restart(&[("SECKILL_FAILPOINTS", Some("projector.after-settle=kill"))])?;
    let answers = orders_of(&world.client, voucher, 1..11).await;
    world.projector.wait_for_exit(DEATH_DEADLINE)?;
    world.projector.restart(&[("SECKILL_FAILPOINTS", None)])?;
    world.quiet(voucher).await?;
    assert_eq!(audit(&world, voucher, &answers).await?.unpaid, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn timeout_service_after_its_claim() -> Result<()> {
    let grace = ("EXPIRY_GRACE_SECONDS", "1");
    let mut world = World::with(&[grace])?;
    world
        .timeout
        .restart(&[("SECKILL_FAILPOINTS", Some("timeout.after-claim=kill"))])?;
    let terms = SaleTerms {
        stock: 3,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let answers = orders_of(&world.client, voucher, 1..4).await;
    world.timeout.wait_for_exit(DEATH_DEADLINE)?;
    world.timeout.restart(&[("SECKILL_FAILPOINTS", None)])?;
    for (user, answer) in (1..).zip(&answers) {
        let order_id = answer.order_id().expect("an order id");
        world.until_status(user, order_id, "expired").await?;
    }
    world.quiet(voucher).await?;
    assert_eq!(audit(&world, voucher, &answers).await?.available, 3);
    Ok(())
}
