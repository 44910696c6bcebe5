//! Four times as many orders arrive as can be accepted. At least nine tenths of the peak rate are still accepted, and
//! all others get a planned refusal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_testkit::TestStack;
use seckill_tests::{Line, OpenLoop, SaleTerms, Timed, World, eventually};

/// The delay of each answer of Redis. It makes the peak rate so low that the same machine can send four times as many
/// orders.
const REDIS_ANSWERS_AFTER: Duration = Duration::from_millis(350);
/// The first rate that is tried. It grows until not all orders are accepted any more.
const FIRST_RATE: u64 = 100;
const STEP: (u64, u64) = (3, 2);
const STAGE: Duration = Duration::from_secs(6);
const OVERLOAD: Duration = Duration::from_secs(12);
/// The beginning of a stage that is not counted, because queues fill first.
const WARM_UP: Duration = Duration::from_secs(2);
/// The number of earlier orders that are queried and paid meanwhile.
const EARLY: usize = 600;
const FIRST_OF_CROWD: u64 = 10_000;

/// A stage: a rate, and its results.
struct Stage {
    offered_per_second: u64,
    accepted_per_second: f64,
}

/// Latencies in milliseconds. Zero if there are none.
#[derive(Clone, Copy)]
struct Latencies {
    p50: u128,
    p99: u128,
}

impl Latencies {
    fn of(latencies: impl Iterator<Item = Duration>) -> Self {
        let mut ms: Vec<u128> = latencies.map(|latency| latency.as_millis()).collect();
        ms.sort_unstable();
        let at = |percent: usize| ms.get(ms.len().saturating_sub(1) * percent / 100);
        Self {
            p50: at(50).copied().unwrap_or_default(),
            p99: at(99).copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} ms, p99 {} ms", self.p50, self.p99)
    }
}

impl Stage {
    async fn offer(crowd: &mut OpenLoop, per_second: u64, lasting: Duration) -> Result<Self> {
        let answers = crowd.offer(per_second, lasting).await?;
        let counted = answers.iter().filter(is_accepted);
        let counted = counted.filter(|timed| timed.at >= WARM_UP && timed.at < lasting);
        let window = (lasting - WARM_UP).as_secs_f64();
        let mut kinds = BTreeMap::<String, usize>::new();
        for timed in &answers {
            let answer = &timed.answer;
            assert!(
                answer.status == 202 || answer.is_planned_503(),
                "{answer:?}"
            );
            let kind = format!("{} {}", answer.status, answer.problem());
            *kinds.entry(kind.trim_end().to_owned()).or_default() += 1;
        }
        let stage = Self {
            offered_per_second: per_second,
            accepted_per_second: counted.count() as f64 / window,
        };
        let latencies = |of: fn(&&Timed) -> bool| {
            Latencies::of(answers.iter().filter(of).map(|timed| timed.latency))
        };
        println!(
            "offered {per_second}/s: accepted {:.0}/s ({}), refused ({}), {kinds:?}",
            stage.accepted_per_second,
            latencies(is_accepted),
            latencies(|timed| !is_accepted(timed)),
        );
        Ok(stage)
    }

    fn takes_all(&self) -> bool {
        self.accepted_per_second > 0.95 * self.offered_per_second as f64
    }
}

fn is_accepted(timed: &&Timed) -> bool {
    timed.answer.status == 202
}

/// Sends payments and questions about orders, one after the other, until the stage is over. Each has to be answered.
async fn others(
    world: &World,
    orders: &mut impl Iterator<Item = (u64, String)>,
    over: &AtomicBool,
) -> Result<(Latencies, Latencies)> {
    let (mut payments, mut questions) = (Vec::new(), Vec::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (user, order_id) = orders
            .next()
            .context("more orders are paid than there are")?;
        let asked_at = Instant::now();
        let asked = world
            .client
            .get(user, &format!("/api/v1/orders/{order_id}"))
            .await?;
        questions.push(asked_at.elapsed());
        assert_eq!(
            (asked.status, &asked.body["status"]),
            (200, &"unpaid".into())
        );
        let paid_at = Instant::now();
        let paid = world
            .client
            .pay(&order_id, &format!("p-{user}"), 1_000)
            .await?;
        payments.push(paid_at.elapsed());
        assert_eq!(paid.status, 202, "{paid:?}");
    }
    Ok((
        Latencies::of(payments.into_iter()),
        Latencies::of(questions.into_iter()),
    ))
}

/// Runs a stage, with payments and questions at the same time.
async fn beside_others(
    world: &World,
    orders: &mut impl Iterator<Item = (u64, String)>,
    stage: impl Future<Output = Result<Stage>>,
) -> Result<Stage> {
    let over = AtomicBool::new(false);
    let stage = async {
        let stage = stage.await;
        over.store(true, Ordering::Relaxed);
        stage
    };
    let (stage, (payments, questions)) = tokio::try_join!(stage, others(world, orders, &over))?;
    println!("beside it: payments {payments}, questions {questions}");
    Ok(stage)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: looks for the peak and offers four times as much"]
async fn at_four_times_the_peak_nine_tenths_of_it_are_taken() -> Result<()> {
    let (world, wire) = World::over_a_wire(TestStack::builder()).await?;
    let voucher = world.sale(SaleTerms::of(1_000_000)).await?;
    let mut early = Vec::new();
    while early.len() < EARLY {
        // So few at the same time that any machine can do it.
        let first = early.len() as u64 + 1;
        let answers = world.client.orders(voucher, first..first + 50).await;
        for (user, answer) in (first..).zip(&answers) {
            let order_id = answer.order_id().context("an early order")?;
            early.push((user, order_id.to_owned()));
        }
    }
    world.quiet(voucher).await?;
    let mut early = early.into_iter();

    wire.set(Line::Delays(REDIS_ANSWERS_AFTER));
    let mut crowd = OpenLoop::new(world.client.clone(), voucher, FIRST_OF_CROWD);
    let mut peak: f64 = 0.0;
    let (mut rate, mut too_much) = (FIRST_RATE, 0);
    // A single stage may have failed for another reason.
    while too_much < 2 {
        let stage = Stage::offer(&mut crowd, rate, STAGE);
        let stage = beside_others(&world, &mut early, stage).await?;
        peak = peak.max(stage.accepted_per_second);
        too_much = if stage.takes_all() { 0 } else { too_much + 1 };
        rate = rate * STEP.0 / STEP.1;
    }
    assert!(
        peak > 0.95 * FIRST_RATE as f64,
        "this machine is too busy for a peak"
    );
    let fourfold = (4.0 * peak).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate"
    )]
    let overload = Stage::offer(&mut crowd, fourfold as u64, OVERLOAD);
    let overload = beside_others(&world, &mut early, overload).await?;
    let ratio = overload.accepted_per_second / peak;
    println!("peak {peak:.0}/s, at {fourfold}/s {ratio:.2} of it");
    assert!(ratio >= 0.9, "{ratio}");

    wire.set(Line::Delays(Duration::ZERO));
    eventually("everything is decided and carried out", || async {
        Ok(world.quiet(voucher).await.is_ok())
    })
    .await
}
