//! A process is stopped at the worst point while all others go on. Long after that it is resumed and finishes what it
//! was about to do.

use anyhow::Result;
use seckill_domain::VoucherId;
use seckill_testkit::Service;
use seckill_tests::{
    Answer, SaleTerms, World, arm, await_stop, check_consistency, check_outcomes, eventually,
};
use tokio::task::JoinHandle;

const TEN: SaleTerms = SaleTerms::of(10);

const SETTINGS: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "500")];

/// A second ingress that stops at `point` while it handles the order of user 1.
async fn ingress_asleep(
    world: &World,
    voucher: VoucherId,
    point: &str,
) -> Result<(Service, JoinHandle<Result<Answer>>)> {
    let stop = format!("{point}=stop");
    let sleeper = world
        .stack
        .start_ingress(&[("SECKILL_FAILPOINTS", &stop)])?;
    let client = world.client_of(&sleeper);
    let order = tokio::spawn(async move { client.order(voucher, 1, Some("k"), 1).await });
    await_stop(&sleeper, point).await?;
    Ok((sleeper, order))
}

/// The grant of the stopped ingress was lost with Redis, and its unit was sold to another buyer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_redis_lost_is_rejected_when_its_ingress_publishes_it_late() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(TEN).await?;
    let (mut sleeper, order) = ingress_asleep(&world, voucher, "ingress.after-lua").await?;

    world.stack.redis.restart()?;
    world.until_served(voucher).await?;
    let mut answers = world.client.orders(voucher, 2..20).await;
    let reserved = answers.iter().filter(|answer| answer.is_reserved()).count();
    assert_eq!(reserved, 10, "all units, the sleeper's too: {answers:?}");

    sleeper.resume()?;
    let late = order.await??;
    assert_eq!(
        (late.status, &late.body["status"]),
        (202, &"pending".into()),
        "no promise"
    );
    let order_id = late.order_id().expect("an order id");
    world.until_status(1, order_id, "rejected").await?;
    answers.push(late);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.rejected), (10, 1));
    Ok(())
}

/// The grant of the stopped ingress is in the snapshot of Redis and was granted again under a new epoch. The record of
/// either epoch may be the first, and the order is decided once.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_a_reload_took_over_is_decided_when_its_ingress_publishes_it_late()
-> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(TEN).await?;
    let (mut sleeper, order) = ingress_asleep(&world, voucher, "ingress.after-lua").await?;

    world.stack.redis.snapshot()?;
    world.stack.redis.restart_from_snapshot()?;
    world.until_served(voucher).await?;
    let mut answers = world.client.orders(voucher, 2..20).await;
    let reserved = answers.iter().filter(|answer| answer.is_reserved()).count();
    assert_eq!(reserved, 9, "the sleeper's unit is held: {answers:?}");

    sleeper.resume()?;
    let late = order.await??;
    assert_eq!(
        (late.status, &late.body["status"]),
        (202, &"pending".into()),
        "no promise"
    );
    let path = format!("/api/v1/orders/{}", late.order_id().expect("an order id"));
    eventually("the order is decided", || async {
        Ok(world.client.get(1, &path).await?.body["status"] != "pending")
    })
    .await?;
    answers.push(late);
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}

/// The event was in the log in time, but its ingress does not know that.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_answered_as_pending_when_its_ingress_learns_of_the_ack_too_late() -> Result<()>
{
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(TEN).await?;
    let (mut sleeper, order) = ingress_asleep(&world, voucher, "ingress.after-ack").await?;
    eventually("the order is in the tables", || async {
        Ok(world.client.ledger(voucher).await?["unpaid"] == 1)
    })
    .await?;
    world.stack.redis.restart()?;
    world.until_served(voucher).await?;

    sleeper.resume()?;
    let late = order.await??;
    assert_eq!(
        (late.status, &late.body["status"]),
        (202, &"pending".into()),
        "no promise"
    );
    let order_id = late.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;
    world.quiet(voucher).await?;
    assert_eq!(check_consistency(&world, voucher, &[late]).await?.unpaid, 1);
    Ok(())
}

/// The only projector stops at `point` while ten orders come in. A second one takes over. Then the first one is resumed
/// and continues.
async fn projector_asleep_at(point: &str) -> Result<(World, VoucherId)> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    world.until_carried_out().await?;
    arm(&mut world.projector, point, "stop")?;
    let mut answers = world.client.orders(voucher, 1..11).await;
    assert!(answers.iter().all(Answer::is_reserved), "{answers:?}");
    await_stop(&world.projector, point).await?;

    let _second = world.stack.start_projector(&[])?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    check_outcomes(&world, voucher).await?;
    world.projector.resume()?;
    answers.extend(world.client.orders(voucher, 11..21).await);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.rejected), (20, 0));
    world.until_carried_out().await?;
    Ok((world, voucher))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_another_projector_has_folded_does_not_commit_again() -> Result<()> {
    let (world, _) = projector_asleep_at("projector.before-apply").await?;
    eventually("its commit has failed", || async {
        Ok(world.projector.output()?.contains("a batch did not commit"))
    })
    .await
}

/// The first projector was about to publish when it was stopped. The second one has published meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_stay_consistent_when_a_projector_wakes_up_before_it_publishes_them() -> Result<()>
{
    let (world, voucher) = projector_asleep_at("projector.before-outcomes").await?;
    check_outcomes(&world, voucher).await?;
    Ok(())
}

/// The first projector had published, but had not stored its position. The second one publishes again, and then the
/// first one is resumed.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_published_again_when_a_projector_sleeps_before_it_stores_its_position()
-> Result<()> {
    let (world, voucher) = projector_asleep_at("projector.after-outcomes").await?;
    let repeated = check_outcomes(&world, voucher).await?;
    assert!(repeated > 0, "the position was moved before it was true");
    Ok(())
}

/// The first projector stops at `point` of a reload, and the second one loads the sale from the beginning.
async fn reload_asleep_at(point: &str) -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    arm(&mut world.projector, point, "stop")?;
    let mut answers = world.client.orders(voucher, 1..11).await;
    world.quiet(voucher).await?;
    world.stack.redis.restart()?;
    await_stop(&world.projector, point).await?;

    let _second = world.stack.start_projector(&[])?;
    world.until_served(voucher).await?;
    answers.extend(world.client.orders(voucher, 11..16).await);
    world.projector.resume()?;
    answers.extend(world.client.orders(voucher, 16..21).await);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.rejected), (20, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_rejected_when_a_projector_wakes_up_after_another_took_its_claim() -> Result<()>
{
    reload_asleep_at("projector.reload.after-drain").await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_rejected_when_a_projector_opens_a_sale_that_another_has_opened() -> Result<()>
{
    reload_asleep_at("projector.reload.before-open").await
}
