//! Redis has lost everything, and the projector that loads it again dies too, in any step. The restarted projector
//! opens the sale without any action.

use anyhow::Result;
use seckill_tests::{Crowd, SaleTerms, World, arm, await_death, check_consistency, revive};

const LARGE: SaleTerms = SaleTerms::of(20_000);

const SETTINGS: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "500")];

/// `buyers` place orders. Then, under load, Redis is emptied and the projector dies at `point`.
async fn dies_while_reloading(point: &str, buyers: u64) -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let mut answers = world.client.orders(voucher, 1..buyers + 1).await;
    world.until_carried_out().await?;
    arm(&mut world.projector, point, "kill")?;

    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 10_001..20_001);
    crowd.flows(20).await?;
    world.stack.redis.restart()?;
    await_death(&mut world.projector, point)?;
    let refused = world.client.order(voucher, 10_000, None, 1).await?;
    assert_eq!(
        (refused.status, refused.problem()),
        (503, "unavailable"),
        "refused, never a guess"
    );

    revive(&mut world.projector)?;
    crowd.flows(20).await?;
    answers.extend(crowd.leave().await?);
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_after_its_claim_is_made_again() -> Result<()> {
    dies_while_reloading("projector.reload.after-claim", 10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_after_its_drain_is_made_again() -> Result<()> {
    dies_while_reloading("projector.reload.after-drain", 10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_after_its_new_epoch_is_made_again() -> Result<()> {
    dies_while_reloading("projector.reload.after-append", 10).await
}

/// A chunk has 500 holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_between_two_chunks_is_made_again() -> Result<()> {
    dies_while_reloading("projector.reload.between-chunks", 600).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_died_before_opening_is_made_again() -> Result<()> {
    dies_while_reloading("projector.reload.before-open", 10).await
}

/// The first load of a sale: PostgreSQL says that it was loaded, and Redis has nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_that_died_after_its_mark_is_made_again() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let point = "projector.reload.after-mark";
    arm(&mut world.projector, point, "kill")?;
    let voucher = world.schedule(LARGE).await?;
    await_death(&mut world.projector, point)?;
    revive(&mut world.projector)?;
    world.until_served(voucher).await?;
    let answers = world.client.orders(voucher, 1..11).await;
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        10
    );
    Ok(())
}
