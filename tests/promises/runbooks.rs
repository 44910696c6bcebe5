//! The commands of runbooks work, in the order in which they are written.

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_tests::{Crowd, Runbook, SaleTerms, World};

/// A sale with some orders.
async fn world() -> Result<(World, VoucherId)> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(1000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..1000);
    crowd.flows(10).await?;
    crowd.leave().await?;
    world.quiet(voucher).await?;
    Ok((world, voucher))
}

fn run(runbook: &Runbook, world: &World) -> Result<Vec<String>> {
    tokio::task::block_in_place(|| runbook.run(world))
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild() -> Result<()> {
    let (world, _) = world().await?;
    let printed = run(&Runbook::read("rebuild.md")?, &world)?;
    let last = printed.last().context("a block")?;
    assert!(
        last.contains("pruned") && last.contains("aborted"),
        "{last}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lag() -> Result<()> {
    let (world, _) = world().await?;
    let printed = run(&Runbook::read("lag.md")?, &world)?;
    assert!(printed[0].contains("BEHIND"), "{printed:?}");
    Ok(())
}
