//! PostgreSQL or Kafka is down for a while. Orders are accepted as far as possible without it, and all of them are
//! decided when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::TestStack;
use seckill_tests::{Answer, Crowd, SaleTerms, World, check_consistency, eventually};

const LARGE: SaleTerms = SaleTerms::of(20_000);

const LOOK: Duration = Duration::from_millis(50);

/// A user who is not in the crowd.
const SINGLE: u64 = 30_000;

fn crowd(world: &World, voucher: VoucherId) -> Crowd {
    Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001)
}

/// Ends the crowd and waits until every promised order is decided and carried out. Prints how long after `back` that
/// was.
async fn recovers(
    world: &World,
    voucher: VoucherId,
    crowd: Crowd,
    mut others: Vec<Answer>,
    back: (&str, Instant),
) -> Result<()> {
    let (case, back_at) = back;
    let orders_again_ms = back_at.elapsed().as_millis();
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    let lag_zero_ms = back_at.elapsed().as_millis();
    others.extend(answers);
    let found = check_consistency(world, voucher, &others).await?;
    assert_eq!(found.rejected, 0);
    println!(
        "case {case}: orders={} orders_again_ms={orders_again_ms} recovered_ms={lag_zero_ms}",
        found.unpaid
    );
    Ok(())
}

/// PostgreSQL is killed for this long. Orders are promised meanwhile, and decided when it is back.
async fn postgresql_is_away_for(away: Duration) -> Result<()> {
    let mut world = World::over(TestStack::builder().private_postgres(), &[])?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;

    let server = world.stack.postgres.as_mut().context("its own server")?;
    server.kill()?;
    let killed_at = Instant::now();
    let answers = world.client.orders(voucher, SINGLE..SINGLE + 20).await;
    assert_eq!(answers.len(), 20);
    assert!(answers.iter().all(Answer::is_reserved), "{answers:?}");
    loop {
        crowd.flows(200).await?;
        if killed_at.elapsed() >= away {
            break;
        }
    }
    let server = world.stack.postgres.as_mut().context("its own server")?;
    server.restart()?;

    let back = (&*format!("PostgreSQL away for {away:?}"), Instant::now());
    crowd.flows(50).await?;
    recovers(&world, voucher, crowd, answers, back).await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_promised_while_postgresql_is_away() -> Result<()> {
    postgresql_is_away_for(Duration::ZERO).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: away for twenty seconds"]
async fn orders_are_promised_while_postgresql_is_away_for_twenty_seconds() -> Result<()> {
    postgresql_is_away_for(Duration::from_secs(20)).await
}

/// The position of the fold, summed over all partitions.
async fn folded(pool: &sqlx::PgPool) -> Result<i64> {
    let sum =
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM view_positions WHERE view = 'orders'";
    Ok(sqlx::query_scalar(sum).fetch_one(pool).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_the_projector_is_cut_again_and_again() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    let pool = world.database().await?;
    for _ in 0..10 {
        let before = folded(&pool).await?;
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'seckill-projector'",
        )
        .execute(&pool)
        .await?;
        eventually("the fold goes on", || async {
            Ok(folded(&pool).await? > before)
        })
        .await?;
    }
    let back = ("projector's connections cut ten times", Instant::now());
    recovers(&world, voucher, crowd, Vec::new(), back).await
}

/// Orders are pending or refused during the outage. After it each key has exactly one order.
async fn kafka_is_away(case: &str, end: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    let stores = TestStack::builder().private_kafka();
    let mut world = World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    let client = world.client.clone();

    let broker = world.stack.kafka.as_mut().context("its own broker")?;
    broker.pause()?;
    let away_since = Instant::now();
    let caught = client.order(voucher, SINGLE, Some("k"), 1).await?;
    assert_eq!(
        (caught.status, &caught.body["status"]),
        (202, &"pending".into()),
        "no promise"
    );
    // Longer than the broker's session and the producers' delivery time-out. From time to time the ingress lets an
    // order in to find out whether Kafka is back. The answer to it is no promise either.
    let mut answers = vec![caught.clone()];
    for user in SINGLE + 1.. {
        let answer = client.order(voucher, user, None, 1).await?;
        let refused = (answer.status, answer.problem()) == (503, "unavailable");
        ensure!(refused || answer.body["status"] == "pending", "{answer:?}");
        answers.push(answer);
        if away_since.elapsed() > Duration::from_secs(20) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    ensure!(
        answers.iter().any(|answer| answer.status == 503),
        "nobody was refused"
    );
    end(&mut world)?;

    let back = (case, Instant::now());
    crowd.flows(20).await?;
    let order_id = caught.order_id().context("no order id")?;
    world.until_status(SINGLE, order_id, "unpaid").await?;
    eventually("the same key says reserved", || async {
        let again = client.order(voucher, SINGLE, Some("k"), 1).await?;
        assert_eq!(again.order_id(), Some(order_id));
        Ok(again.is_reserved())
    })
    .await?;
    recovers(&world, voucher, crowd, answers, back).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn nothing_is_promised_while_kafka_stands_still() -> Result<()> {
    kafka_is_away("Kafka stands still for 20 s", |world| {
        let broker = world.stack.kafka.as_mut().context("its own broker")?;
        broker.resume()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn nothing_is_promised_while_kafka_is_killed() -> Result<()> {
    kafka_is_away("Kafka is killed after 20 s", |world| {
        let broker = world.stack.kafka.as_mut().context("its own broker")?;
        broker.restart()
    })
    .await
}
