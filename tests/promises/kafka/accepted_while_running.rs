//! Another log is accepted while services run that were started with the previous one. With a supervisor they recover
//! without any further action, as the runbook says.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_eventlog::Topics;
use seckill_testkit::TestStack;
use seckill_tests::{World, check_consistency_without_log, readiness};

use crate::kafka::accepted_log::Scene;
use crate::kafka::another_log::made_anew;

const LOOK: Duration = Duration::from_millis(100);
/// The most time until the services notice the other log, and until they recover.
const SOON: Duration = Duration::from_secs(60);

/// Waits for a condition, and starts services again that end meanwhile.
async fn supervised(
    world: &mut World,
    what: &str,
    is_so: impl AsyncFn(&World) -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut ended = 0;
    while !is_so(world).await {
        ended += world.supervise()?;
        ensure!(
            began.elapsed() < SOON,
            "{what}: not in {SOON:?}: {}",
            world.log_tails()
        );
        tokio::time::sleep(LOOK).await;
    }
    println!(
        "case accepted while running: {what} after {:?}, ended={ended}",
        began.elapsed()
    );
    Ok(())
}

async fn goes_on(mut scene: Scene) -> Result<()> {
    let world = &mut scene.world;
    let other = "the projector says that the log is another one";
    supervised(world, other, async |world| {
        readiness(&world.projector).is_ok_and(|(_, says)| says.contains("fold-stands-still.md"))
    })
    .await?;
    scene.accept()?;
    let (world, voucher) = (&mut scene.world, scene.voucher);
    let later = RefCell::new(None);
    supervised(world, "an order is taken", async |world| {
        let placed = world.client.order(voucher, 90, Some("k"), 1).await.ok();
        *later.borrow_mut() = placed.filter(|placed| placed.order_id().is_some());
        later.borrow().is_some()
    })
    .await?;
    let later = later.into_inner().context("an order")?;
    let path = format!(
        "/api/v1/orders/{}",
        later.order_id().context("an order id")?
    );
    supervised(world, "it is decided", async |world| {
        let found = world.client.get(90, &path).await;
        found.is_ok_and(|found| found.body["status"] == "unpaid")
    })
    .await?;
    supervised(world, "all are ready", async |world| {
        let services = [&world.ingress, &world.projector, &world.timeout];
        services
            .iter()
            .all(|service| readiness(service).is_ok_and(|(status, _)| status == 200))
    })
    .await?;
    scene.answers.push(later);
    let world = &scene.world;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let found = check_consistency_without_log(world, voucher, &scene.answers).await?;
    ensure!((found.unpaid, found.rejected) == (5, 0), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_ran_all_the_while_go_on_with_a_log_that_was_made_anew() -> Result<()> {
    let scene = Scene::opens(TestStack::builder()).await?;
    made_anew(&scene.world).await?;
    goes_on(scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_ran_all_the_while_go_on_with_a_log_that_was_cut() -> Result<()> {
    let mut scene = Scene::opens(TestStack::builder().private_kafka()).await?;
    let partition = scene.partition()?;
    let topic = Topics::new(scene.world.stack.setting("TOPIC_PREFIX")).events;
    let broker = scene.world.stack.kafka.as_mut().context("its broker")?;
    broker.restart_without_last(&topic, partition, 2)?;
    goes_on(scene).await
}
