//! Processes are killed by SIGKILL exactly between two stores. After a restart, when everything has come to rest, every
//! invariant holds.

use std::collections::HashMap;

use anyhow::Result;
use seckill_domain::{VoucherId, partition_of};
use seckill_tests::{
    SaleTerms, World, arm, await_death, check_consistency, check_outcomes, outcomes, revive,
};
use serde_json::json;

const TWENTY: SaleTerms = SaleTerms::of(20);

/// The ingress dies at `point` while ten buyers wait for it, of whom it has answered none.
async fn ingress_dies_at(point: &str) -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    let before = world.client.orders(voucher, 1..6).await;
    assert_eq!(before.len(), 5);

    arm(&mut world.ingress, point, "kill")?;
    let cut_off = world.client.orders(voucher, 6..16).await;
    await_death(&mut world.ingress, point)?;
    assert!(cut_off.is_empty(), "nobody was told anything: {cut_off:?}");

    revive(&mut world.ingress)?;
    let after = world.client.orders(voucher, 16..26).await;
    world.quiet(voucher).await?;
    let answers = [before, after].concat();
    let found = check_consistency(&world, voucher, &answers).await?;
    assert!(
        found.unpaid > 15,
        "what the dead had taken became orders: {found:?}"
    );
    assert_eq!(found.rejected, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_become_orders_when_the_ingress_dies_before_produce() -> Result<()> {
    ingress_dies_at("ingress.after-lua").await
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_become_orders_once_when_the_ingress_dies_before_the_ack() -> Result<()> {
    ingress_dies_at("ingress.after-produce").await
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_become_orders_once_when_the_ingress_dies_after_the_ack() -> Result<()> {
    ingress_dies_at("ingress.after-ack").await
}

/// The relay that is to publish the event of a dead ingress dies too.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_becomes_one_order_when_the_relay_dies_before_produce() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    arm(&mut world.ingress, "ingress.after-lua", "kill")?;
    let answers = world.client.orders(voucher, 1..2).await;
    await_death(&mut world.ingress, "ingress.after-lua")?;
    assert!(answers.is_empty());

    arm(&mut world.ingress, "ingress.relay.before-produce", "kill")?;
    await_death(&mut world.ingress, "ingress.relay.before-produce")?;
    revive(&mut world.ingress)?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["unpaid"], 1, "{ledger}");
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}

/// Units that were removed in Redis stay removed for every buyer, and another ingress writes the event into the log.
#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_shrink_stay_removed_when_the_ingress_dies_after_taking_them() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    let points = "ingress.shrink.after-lua=kill";
    let mut dying = world
        .stack
        .start_ingress(&[("SECKILL_FAILPOINTS", points)])?;
    let body = json!({ "delta": -3, "reason": "broken" });
    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let told = world.client_of(&dying).admin_post(&stock, &body).await;
    assert!(told.is_err(), "{told:?}");
    await_death(&mut dying, "ingress.shrink.after-lua")?;

    let answers = world.client.orders(voucher, 1..31).await;
    let reserved = answers.iter().filter(|answer| answer.is_reserved()).count();
    assert_eq!(reserved, 17);
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["adjusted"], -3, "{ledger}");
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.units, found.unpaid, found.available), (17, 17, 0));
    Ok(())
}

/// Two sales of one partition, so that there is something between their effects.
async fn two_sales_of_one_partition(world: &World) -> Result<[VoucherId; 2]> {
    let partitions: i32 = world.stack.setting("EVENT_PARTITIONS").parse()?;
    let mut sales = HashMap::new();
    loop {
        let voucher = world.sale(TWENTY).await?;
        let partition = partition_of(voucher.to_string().as_bytes(), partitions);
        if let Some(first) = sales.insert(partition, voucher) {
            return Ok([first, voucher]);
        }
    }
}

/// The number of outcomes that were published although the stored position is still before them.
async fn told_past_the_position(world: &World, sales: [VoucherId; 2]) -> Result<usize> {
    let pool = world.database().await?;
    let mut told = 0;
    for voucher in sales {
        for outcome in outcomes(world, voucher).await? {
            let done: Option<i64> = sqlx::query_scalar(
                "SELECT next_offset FROM view_positions WHERE view = 'effects' AND partition = $1",
            )
            .bind(outcome.source.partition)
            .fetch_optional(&pool)
            .await?;
            told += usize::from(outcome.source.offset.get() >= done.unwrap_or(0));
        }
    }
    Ok(told)
}

/// The projector dies at `point` while it handles the decisions on twenty orders. Returns how many of their outcomes it
/// had published by then, and how many were published twice in the end.
async fn projector_dies_at(point: &str) -> Result<(usize, usize)> {
    let mut world = World::start()?;
    let [first, second] = two_sales_of_one_partition(&world).await?;
    world.until_carried_out().await?;
    arm(&mut world.projector, point, "kill")?;
    let [of_first, of_second] = tokio::join!(
        world.client.orders(first, 1..11),
        world.client.orders(second, 1..11),
    )
    .into();
    let reserved = of_first.iter().chain(&of_second);
    assert_eq!(reserved.filter(|answer| answer.is_reserved()).count(), 20);
    await_death(&mut world.projector, point)?;

    let pool = world.database().await?;
    let ahead: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM view_positions f JOIN view_positions e USING (topic, partition)
          WHERE f.view = 'orders' AND e.view = 'effects' AND f.next_offset > e.next_offset)",
    )
    .fetch_one(&pool)
    .await?;
    assert!(ahead, "it died with effects that were not carried out");

    let told = told_past_the_position(&world, [first, second]).await?;

    revive(&mut world.projector)?;
    for (voucher, answers) in [(first, of_first), (second, of_second)] {
        world.quiet(voucher).await?;
        assert_eq!(
            check_consistency(&world, voucher, &answers).await?.unpaid,
            10
        );
    }
    world.until_carried_out().await?;
    let repeated = check_outcomes(&world, first).await? + check_outcomes(&world, second).await?;
    Ok((told, repeated))
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_settled_once_when_the_projector_dies_before_the_effects() -> Result<()> {
    projector_dies_at("projector.after-commit").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sales_are_settled_once_when_the_projector_dies_between_their_effects() -> Result<()> {
    projector_dies_at("projector.between-effects").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_published_when_the_projector_dies_between_settle_and_outcomes() -> Result<()>
{
    let (told, _) = projector_dies_at("projector.before-outcomes").await?;
    assert_eq!(told, 0, "it died before it had published anything");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_published_again_when_the_projector_dies_before_it_stores_its_position()
-> Result<()> {
    let (told, repeated) = projector_dies_at("projector.after-outcomes").await?;
    assert!(told > 0, "it died before it had published anything");
    assert!(
        repeated >= told,
        "{repeated} of {told} were published again"
    );
    Ok(())
}

/// The timeout service dies at `point` while it handles three due orders.
async fn timeout_dies_at(point: &str) -> Result<()> {
    let mut world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    arm(&mut world.timeout, point, "kill")?;
    let terms = SaleTerms {
        stock: 3,
        hold_seconds: 1,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    await_death(&mut world.timeout, point)?;
    let pool = world.database().await?;
    let claims: i64 = sqlx::query_scalar("SELECT count(*) FROM expiry_claims")
        .fetch_one(&pool)
        .await?;
    assert!(claims > 0, "it died before it had anything in hand");

    revive(&mut world.timeout)?;
    for (user, answer) in (1..).zip(&answers) {
        let order_id = answer.order_id().expect("an order id");
        world.until_status(user, order_id, "expired").await?;
    }
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers)
            .await?
            .available,
        3
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_expire_once_when_the_timeout_service_dies_after_its_claim() -> Result<()> {
    timeout_dies_at("timeout.after-claim").await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_expire_once_when_the_timeout_service_dies_after_produce() -> Result<()> {
    timeout_dies_at("timeout.after-produce").await
}
