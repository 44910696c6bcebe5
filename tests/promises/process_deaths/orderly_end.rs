//! SIGTERM ends every service with exit status 0, and nothing that was accepted is lost.

use anyhow::Result;
use futures_util::future::join_all;
use seckill_tests::{Answer, SaleTerms, World, check_consistency};

#[tokio::test(flavor = "multi_thread")]
async fn services_end_with_status_0_under_load() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 1_000,
            ..SaleTerms::default()
        })
        .await?;
    let client = world.client.clone();
    let load = tokio::spawn(async move {
        let orders = (1..=1_000).map(|user| client.order(voucher, user, None, 1));
        let answers = join_all(orders).await.into_iter();
        answers.filter_map(Result::ok).collect::<Vec<Answer>>()
    });
    let status = world.ingress.stop()?;
    assert!(status.success(), "the ingress: {status}");
    let answers = load.await?;
    assert!(world.projector.stop()?.success());
    assert!(world.timeout.stop()?.success());

    world.projector.restart(&[])?;
    world.ingress.restart(&[])?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
