//! The wall clock of one process is five minutes fast or slow. No order expires early. If the two clocks on which the
//! time to pay depends differ too much, no order expires at all, and a metric and `/readyz` show it.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::{Redis, Service, TestStack, clock};
use seckill_tests::{
    Answer, PATIENCE, SaleTerms, World, check_consistency, eventually, series, until_ready,
    until_unready,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const OFF_SECONDS: i64 = 300;
const HOLD: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(1);

const SETTINGS: [(&str, &str); 1] = [("EXPIRY_GRACE_SECONDS", "1")];

fn terms() -> SaleTerms {
    SaleTerms {
        stock: 3,
        hold_seconds: 3,
        ..SaleTerms::default()
    }
}

/// Stops a service and starts it again with a clock that is wrong by this much. None: with a correct clock.
fn set_clock(service: &mut Service, seconds: Option<i64>) -> Result<()> {
    let variables = clock::off_by(seconds.unwrap_or_default())?;
    let changes = variables.each_ref().map(|(name, value)| {
        let value = seconds.is_some().then_some(value.as_str());
        (*name, value)
    });
    service.stop()?;
    service.restart(&changes)
}

fn pay_by(answer: &Answer) -> Result<OffsetDateTime> {
    let text = answer.body["pay_by"].as_str().context("no pay_by")?;
    Ok(OffsetDateTime::parse(text, &Rfc3339)?)
}

/// Makes three orders that nobody pays, while one service's clock is wrong.
async fn nothing_expires_early(world: &World, who: &str, off_seconds: i64) -> Result<()> {
    let voucher = world.sale(terms()).await?;
    let ordered = Instant::now();
    let answers = world.client.orders(voucher, 1..4).await;
    assert!(answers.iter().all(Answer::is_reserved), "{answers:?}");
    for (user, answer) in (1..).zip(&answers) {
        let off = (pay_by(answer)? - OffsetDateTime::now_utc()).as_seconds_f64();
        assert!(off < 4.0 && off > -60.0, "Redis' clock wrote it: {off} s");
        let order_id = answer.order_id().context("no order id")?;
        world.until_status(user, order_id, "expired").await?;
    }
    let took = ordered.elapsed();
    assert!(took >= HOLD + GRACE, "expired after {took:?}");
    let pool = world.database().await?;
    let early: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM orders WHERE voucher_id = $1 AND closed_at < pay_by + interval '1 s'",
    )
    .bind(voucher.get())
    .fetch_one(&pool)
    .await?;
    assert_eq!(early, 0, "expired before the grace was over");
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(world, voucher, &answers).await?.available,
        3
    );
    println!(
        "case clock of {who} {off_seconds:+} s: expired_after_ms={} (of {} at least) recovered_ms=0",
        took.as_millis(),
        (HOLD + GRACE).as_millis()
    );
    Ok(())
}

async fn clock_of(who: &str, service: impl Fn(&mut World) -> &mut Service) -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    for off_seconds in [OFF_SECONDS, -OFF_SECONDS] {
        set_clock(service(&mut world), Some(off_seconds))?;
        nothing_expires_early(&world, who, off_seconds).await?;
    }
    set_clock(service(&mut world), None)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders expire"]
async fn of_the_ingress() -> Result<()> {
    clock_of("the ingress", |world| &mut world.ingress).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders expire"]
async fn of_the_projector() -> Result<()> {
    clock_of("the projector", |world| &mut world.projector).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders expire"]
async fn of_the_timeout_service() -> Result<()> {
    clock_of("the timeout service", |world| &mut world.timeout).await
}

/// The gauge that the alert `ClocksApart` uses.
fn skew_seconds(service: &Service) -> Result<f64> {
    series(service, "seckill_clock_skew_seconds")?.context("no such gauge")
}

/// Puts up a sale on a server that has just been restarted. Requests are answered with 503 until the services have
/// noticed that their old connections are broken.
async fn sale_after_a_restart(world: &World) -> Result<VoucherId> {
    let voucher = OnceCell::new();
    eventually("a sale is taken", || async {
        voucher.set(world.schedule(terms()).await?).ok();
        Ok(true)
    })
    .await?;
    let voucher = voucher.into_inner().context("a sale")?;
    world.until_served(voucher).await?;
    Ok(voucher)
}

async fn clock_of_postgresql(off_seconds: i64) -> Result<()> {
    let mut world = World::over(TestStack::builder().private_postgres(), &SETTINGS)?;
    let server = world.stack.postgres.as_mut().context("its own server")?;
    server.restart_with_clock_off_by(off_seconds)?;
    let voucher = sale_after_a_restart(&world).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    let last = pay_by(answers.last().context("an answer")?)?;
    until_unready(&world.timeout, "clock-skew").await?;
    let skew = skew_seconds(&world.timeout)?;
    #[expect(clippy::cast_precision_loss, reason = "five minutes")]
    let wrong_by = (skew - off_seconds as f64).abs();
    assert!(wrong_by < 5.0, "the gauge says {skew}");
    assert!(world.timeout.output()?.contains("orders do not expire"));

    eventually("they were due long ago", || async {
        ensure!(
            world.client.ledger(voucher).await?["unpaid"] == 3,
            "one expired"
        );
        Ok(OffsetDateTime::now_utc() > last + 2 * GRACE + HOLD)
    })
    .await?;
    until_unready(&world.timeout, "clock-skew").await?;
    for answer in &answers {
        assert!(answer.is_reserved(), "{answer:?}");
    }

    let server = world.stack.postgres.as_mut().context("its own server")?;
    server.restart_with_clock_off_by(0)?;
    let right = Instant::now();
    until_ready(&world.timeout).await?;
    world.quiet_with_none_unpaid(voucher, PATIENCE).await?;
    let recovered_ms = right.elapsed().as_millis();
    assert_eq!(
        check_consistency(&world, voucher, &answers)
            .await?
            .available,
        3
    );
    println!(
        "case clock of PostgreSQL {off_seconds:+} s: skew_seconds={skew:.1} expired=0 \
         recovered_ms={recovered_ms}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders would expire"]
async fn of_postgresql_ahead() -> Result<()> {
    clock_of_postgresql(OFF_SECONDS).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders would expire"]
async fn of_postgresql_behind() -> Result<()> {
    clock_of_postgresql(-OFF_SECONDS).await
}

/// Redis' clock is five minutes slow while orders are made, and is then corrected, so `pay_by` is long past.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits until orders expire"]
async fn of_redis_behind_and_set_right() -> Result<()> {
    let redis = Redis::with_own_clock()?;
    let world = World::over(TestStack::builder().redis(redis), &SETTINGS)?;
    let opened_long_ago = SaleTerms {
        opens_in_seconds: -2 * OFF_SECONDS,
        hold_seconds: 8,
        ..terms()
    };
    let hold = Duration::from_secs(8);
    let voucher = world.sale(opened_long_ago).await?;
    world.stack.redis.set_clock(-OFF_SECONDS)?;
    until_unready(&world.timeout, "clock-skew").await?;
    let ordered = Instant::now();
    let answers = world.client.orders(voucher, 1..4).await;
    for answer in &answers {
        // It does not matter here whether the order is *reserved* or *pending*.
        assert_eq!(answer.status, 202, "{answer:?}");
        let left = (pay_by(answer)? - OffsetDateTime::now_utc()).as_seconds_f64();
        assert!(left < -200.0, "Redis' clock wrote it: {left} s");
    }
    world.until_carried_out().await?;

    world.stack.redis.set_clock(0)?;
    until_ready(&world.timeout).await?;
    let looks = Instant::now();
    assert!(looks.duration_since(ordered) < hold / 2, "too slow to tell");
    for (user, answer) in (1..).zip(&answers) {
        let order_id = answer.order_id().context("no order id")?;
        world.until_status(user, order_id, "expired").await?;
        assert!(
            ordered.elapsed() >= hold,
            "{:?} after it was made",
            ordered.elapsed()
        );
    }
    let took = ordered.elapsed();
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers)
            .await?
            .available,
        3
    );
    println!(
        "case clock of Redis -300 s and put right: expired after {took:?} of {hold:?} at least"
    );
    Ok(())
}
