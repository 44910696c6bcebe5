//! The disk of a store is full for a while. Meanwhile the services report a clear state, and afterwards they recover
//! without any action. A server that ends is started again, as its supervisor would do.

use std::time::Instant;

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_testkit::postgres::{Postgres, PostgresOptions};
use seckill_testkit::{Kafka, Redis, SmallDisk, TestStack};
use seckill_tests::{
    Crowd, SaleTerms, World, check_consistency, eventually, readiness, until_ready, until_unready,
};

/// A user who is not in the crowd.
const SINGLE: u64 = 30_000;

const PROMISE: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "1000")];

async fn sale_with_crowd(world: &World) -> Result<(VoucherId, Crowd)> {
    let voucher = world.sale(SaleTerms::of(20_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(50).await?;
    Ok((voucher, crowd))
}

async fn order_is_refused(world: &World, voucher: VoucherId) -> Result<()> {
    let refused = world.client.order(voucher, SINGLE, None, 1).await?;
    assert!(refused.is_planned_503(), "{refused:?}");
    Ok(())
}

/// Waits until orders are accepted and all services are ready, and checks consistency. Returns how long it took, and
/// how many services ended meanwhile and were started again.
async fn recovers(world: &mut World, voucher: VoucherId, crowd: Crowd) -> Result<(u128, usize)> {
    let since = Instant::now();
    crowd.flows(50).await?;
    for service in [&world.ingress, &world.projector, &world.timeout] {
        until_ready(service).await?;
    }
    let recovered_ms = since.elapsed().as_millis();
    crowd.flows(100).await?;
    let answers = crowd.leave().await?;
    let ended = world.quiet_under_supervision(voucher).await?;
    assert_eq!(
        check_consistency(world, voucher, &answers).await?.rejected,
        0
    );
    Ok((recovered_ms, ended))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a disk fills"]
async fn orders_are_refused_and_then_taken_again_when_redis_cannot_write_its_append_only_file()
-> Result<()> {
    let disk = SmallDisk::mount(16)?;
    let redis = Redis::append_only_on(disk.path())?;
    let mut world = World::over(TestStack::builder().redis(redis), &PROMISE)?;
    let (voucher, crowd) = sale_with_crowd(&world).await?;

    disk.fill()?;
    until_unready(&world.ingress, "MISCONF").await?;
    order_is_refused(&world, voucher).await?;
    let refused = crowd.refused();
    eventually("the crowd is refused", || async {
        Ok(crowd.refused() > refused)
    })
    .await?;

    disk.make_room()?;
    let (recovered_ms, ended) = recovers(&mut world, voucher, crowd).await?;
    println!(
        "case disk of Redis full: state=\"503, /readyz names redis: MISCONF\" services_restarted={ended} recovered_ms={recovered_ms}"
    );
    Ok(())
}

/// First the tables cannot grow. Then the write-ahead log cannot grow either, and the server panics.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a disk fills"]
async fn orders_are_taken_while_postgresql_cannot_write() -> Result<()> {
    let disk = SmallDisk::mount(256)?;
    let settings = [("max_wal_size", "48MB"), ("min_wal_size", "32MB")];
    let server = Postgres::with(PostgresOptions {
        disk: Some(disk.path().to_owned()),
        settings: settings
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
    })?;
    let mut world = World::over(TestStack::builder().postgres(server), &PROMISE)?;
    let (voucher, crowd) = sale_with_crowd(&world).await?;

    disk.fill()?;
    until_unready(&world.projector, "No space left on device").await?;
    assert_eq!(readiness(&world.ingress)?.0, 200, "orders go on");
    crowd.flows(200).await?;

    let pool = world.database().await?;
    eventually("the server has panicked", || async {
        let _cut_off = sqlx::query("SELECT pg_switch_wal()").execute(&pool).await;
        let server = world.stack.postgres.as_ref().context("its own server")?;
        Ok(server.output()?.contains("PANIC:"))
    })
    .await?;
    crowd.flows(200).await?;
    pool.close().await;

    disk.make_room()?;
    let server = world.stack.postgres.as_mut().context("its own server")?;
    let restarted = server.has_ended()?;
    if restarted {
        server.restart()?;
    }
    let (recovered_ms, ended) = recovers(&mut world, voucher, crowd).await?;
    println!(
        "case disk of PostgreSQL full: state=\"orders go on, the projector's /readyz names the disk\" \
         server_restarted={restarted} services_restarted={ended} recovered_ms={recovered_ms}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a disk fills"]
async fn orders_are_refused_and_then_taken_again_when_kafka_cannot_write_its_log() -> Result<()> {
    let disk = SmallDisk::mount(128)?;
    let broker = Kafka::on_disk(disk.path())?;
    let mut world = World::over(TestStack::builder().kafka(broker), &PROMISE)?;
    let (voucher, crowd) = sale_with_crowd(&world).await?;

    disk.fill()?;
    until_unready(&world.ingress, "kafka").await?;
    order_is_refused(&world, voucher).await?;

    disk.make_room()?;
    let broker = world.stack.kafka.as_mut().context("its own broker")?;
    let restarted = broker.has_ended()?;
    if restarted {
        broker.restart()?;
    }
    let (recovered_ms, ended) = recovers(&mut world, voucher, crowd).await?;
    println!(
        "case disk of Kafka full: state=\"503, /readyz names kafka\" \
         server_restarted={restarted} services_restarted={ended} recovered_ms={recovered_ms}"
    );
    Ok(())
}
