//! The broker is stopped for seconds, many times. After each time orders are decided soon, however its clients have
//! reacted (confluentinc/librdkafka#5430).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::{Kafka, TestStack};
use seckill_tests::{SaleTerms, World};

/// The most time from the end of the stop until an order is decided.
const SOON: Duration = Duration::from_secs(10);
/// The same where a consumer has lost its session, which is 7 s long, or a process has ended. A broker that comes
/// back gives each member a whole new session, and the consumer that lost its own joins as another member: it waits
/// for the end of the one that it was. A client that does not find its broker again is given up after 15 s.
const SOON_ALL_THE_SAME: Duration = Duration::from_secs(35);
const LOOK: Duration = Duration::from_millis(50);

/// Whether the order of this user is decided. Places it if there is none yet.
async fn is_decided(world: &World, voucher: VoucherId, user: u64) -> Option<()> {
    let placed = world.client.order(voucher, user, Some("k"), 1).await.ok()?;
    let path = format!("/api/v1/orders/{}", placed.order_id()?);
    let found = world.client.get(user, &path).await.ok()?;
    (found.body["status"] == "unpaid").then_some(())
}

/// How often a consumer of the projector has lost its session.
fn lost_sessions(world: &World) -> Result<usize> {
    let output = world.projector.output()?;
    Ok(output.matches("\"lost\":true").count())
}

/// `session_ms`: how long the controller waits for a broker before it fences it.
async fn freezes(count: u64, session_ms: u64) -> Result<()> {
    let broker = Kafka::with_session_timeout(session_ms)?;
    let mut world = World::on(TestStack::builder().kafka(broker).start()?, &[])?;
    let voucher = world.sale(SaleTerms::of(10_000)).await?;
    let (mut ended, mut slowest) = (0, Duration::ZERO);
    let mut random = fastrand::Rng::with_seed(count);
    for user in 1..=count {
        let still = Duration::from_millis(random.u64(3_000..6_000));
        let before = (lost_sessions(&world)?, ended);
        world.stack.kafka.as_mut().context("a broker")?.pause()?;
        let stopped_at = Instant::now();
        // Another buyer orders meanwhile.
        let meanwhile = world.client.order(voucher, 100_000 + user, Some("k"), 1);
        let _ = tokio::time::timeout(still, meanwhile).await;
        while stopped_at.elapsed() < still {
            tokio::time::sleep(LOOK).await;
        }
        world.stack.kafka.as_mut().context("a broker")?.resume()?;
        let woken_at = Instant::now();
        while is_decided(&world, voucher, user).await.is_none() {
            ended += world.supervise()?;
            let waited = woken_at.elapsed();
            let undisturbed = (lost_sessions(&world)?, ended) == before;
            let limit = if undisturbed { SOON } else { SOON_ALL_THE_SAME };
            ensure!(
                waited < limit,
                "freeze {user} of {still:?}: nothing decided after {waited:?}: {}",
                world.log_tails()
            );
            tokio::time::sleep(LOOK).await;
        }
        slowest = slowest.max(woken_at.elapsed());
    }
    println!(
        "case {count} freezes, session {session_ms} ms: slowest decision after {slowest:?}, ended={ended} \
         revoked={}",
        lost_sessions(&world)?
    );
    Ok(())
}

/// Kafka's default, as in production.
const USUAL_MS: u64 = 9_000;
/// So short that the controller fences the broker each time.
const SHORT_MS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_decided_soon_after_the_broker_stood_still() -> Result<()> {
    freezes(3, SHORT_MS).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: fifty freezes"]
async fn an_order_is_decided_soon_after_each_of_fifty_freezes() -> Result<()> {
    freezes(50, SHORT_MS).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: fifty freezes"]
async fn an_order_is_decided_soon_after_each_of_fifty_freezes_in_which_the_broker_is_not_fenced()
-> Result<()> {
    freezes(50, USUAL_MS).await
}
