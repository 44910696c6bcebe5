//! A panic in any task or thread ends its process, and the restarted process continues the work. Only a panic while a
//! record is decoded is a fault of that record.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::Service;
use seckill_tests::{
    ForeignProducer, PATIENCE, SaleTerms, World, arm, check_consistency, eventually, revive,
};

const SOON: Duration = Duration::from_secs(30);

/// The status of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Waits until `service` has ended by a panic at a failpoint.
fn await_panic(service: &mut Service, point: &str) -> Result<()> {
    let status = service.wait_for_exit(SOON)?;
    let output = service.output()?;
    ensure!(status.code() == Some(PANICKED), "{status}: {output}");
    ensure!(
        output.contains("a panic ends the process") && output.contains(point),
        "{output}"
    );
    Ok(())
}

async fn projector_panics_at(point: &str) -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let before = world.client.orders(voucher, 1..6).await;
    world.quiet(voucher).await?;

    arm(&mut world.projector, point, "panic")?;
    let during = world.client.orders(voucher, 6..11).await;
    await_panic(&mut world.projector, point)?;
    revive(&mut world.projector)?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[before, during].concat()).await?;
    assert_eq!((found.unpaid, found.rejected), (10, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_fold_loses_no_order() -> Result<()> {
    projector_panics_at("projector.before-apply").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_effects_loses_no_order() -> Result<()> {
    projector_panics_at("projector.after-settle").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_thread_that_reads_the_log_loses_no_order() -> Result<()> {
    projector_panics_at("eventlog.deliver").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_an_ingress_has_taken_before_its_panic_becomes_an_order() -> Result<()> {
    const POINT: &str = "ingress.after-lua";
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    arm(&mut world.ingress, POINT, "panic")?;
    let cut_off = world.client.orders(voucher, 1..2).await;
    await_panic(&mut world.ingress, POINT)?;
    assert!(cut_off.is_empty(), "{cut_off:?}");
    revive(&mut world.ingress)?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["unpaid"], 1, "what it had taken became an order");
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_a_timeout_service_has_claimed_before_its_panic_expire() -> Result<()> {
    const POINT: &str = "timeout.after-claim";
    let mut world = World::with(&[("EXPIRY_GRACE_SECONDS", "0")])?;
    let terms = SaleTerms {
        hold_seconds: 1,
        ..SaleTerms::of(20)
    };
    let voucher = world.sale(terms).await?;
    arm(&mut world.timeout, POINT, "panic")?;
    let answers = world.client.orders(voucher, 1..3).await;
    await_panic(&mut world.timeout, POINT)?;
    revive(&mut world.timeout)?;
    world.quiet_with_none_unpaid(voucher, PATIENCE).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_at_which_the_reader_panics_becomes_a_dead_letter() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    world.quiet(voucher).await?;
    arm(
        &mut world.projector,
        "eventlog.decode",
        "panic(a byte too many)",
    )?;
    ForeignProducer::of(&world)?
        .write_as(voucher, b"garbage")
        .await?;

    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let letters = || read_all(&settings, &topics.dead_letters, SOON);
    eventually("it is a dead letter", || async {
        Ok(letters().await?.len() == 1)
    })
    .await?;
    let cause = letters().await?[0]
        .header("__dlq.errors.message")
        .map(<[u8]>::to_vec);
    let cause = String::from_utf8(cause.context("no cause")?)?;
    ensure!(cause.contains("a byte too many"), "{cause}");

    world.projector.stop()?;
    revive(&mut world.projector)?;
    let answers = world.client.orders(voucher, 1..6).await;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.unpaid, 5);
    Ok(())
}
