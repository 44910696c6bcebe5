//! Redis answers late or not at all: every buyer gets an answer within the deadline, no queue grows without limit, and
//! afterwards orders are accepted and no unit is lost.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use seckill_domain::VoucherId;
use seckill_testkit::{Service, TestStack};
use seckill_tests::{
    Answer, Crowd, Line, SaleTerms, SlowWire, World, check_consistency, eventually,
};

const LARGE: SaleTerms = SaleTerms::of(20_000);

const PROMISE: Duration = Duration::from_secs(1);
/// Added to the promise deadline, for hundreds of simultaneous HTTP calls on a busy machine.
const MARGIN: Duration = Duration::from_secs(3);
/// The number of simultaneous buyers: several times the number of requests in one call to Redis.
const BUYERS: u64 = 200;
const ROUNDS: u64 = 6;

async fn over_a_wire() -> Result<(World, SlowWire)> {
    let promise_ms = PROMISE.as_millis().to_string();
    let stores = TestStack::builder().setting("PROMISE_DEADLINE_MS", &promise_ms);
    World::over_a_wire(stores).await
}

/// The resources that a process uses.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    memory_kib: u64,
    files: usize,
    threads: u64,
}

impl Footprint {
    fn of(service: &Service) -> Result<Self> {
        let process = format!("/proc/{}", service.pid());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let digits = line.and_then(|line| line.split_whitespace().next());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            memory_kib: number("VmRSS:"),
            files: fs::read_dir(format!("{process}/fd"))?.count(),
            threads: number("Threads:"),
        })
    }
}

/// The answers to `BUYERS` simultaneous buyers. Checks that all came in time.
async fn round(world: &World, voucher: VoucherId, round: u64) -> Result<(Vec<Answer>, Duration)> {
    let first = 100_000 + round * BUYERS;
    let asked_at = Instant::now();
    let answers = world.client.orders(voucher, first..first + BUYERS).await;
    let took = asked_at.elapsed();
    assert_eq!(
        answers.len(),
        usize::try_from(BUYERS)?,
        "somebody was cut off"
    );
    for answer in &answers {
        let planned = answer.status == 202 || answer.is_planned_503();
        assert!(planned, "{answer:?}");
    }
    assert!(
        took < PROMISE + MARGIN,
        "the last answer came after {took:?}"
    );
    Ok((answers, took))
}

/// Makes several rounds of buyers, and checks that the resources of the process do not grow with them.
async fn rounds(world: &World, wire: &SlowWire, voucher: VoucherId) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut first = None;
    for number in 0..ROUNDS {
        let (answers, took) = round(world, voucher, number).await?;
        slowest = slowest.max(took);
        all.extend(answers);
        // The first two rounds open what stays open: HTTP connections, the queue of the voucher.
        if number == 1 {
            first = Some((Footprint::of(&world.ingress)?, wire.connections()));
        }
    }
    let (before, connections_before) = first.unwrap_or_else(|| unreachable!("there are rounds"));
    let (after, connections) = (Footprint::of(&world.ingress)?, wire.connections());
    let refused = all.iter().filter(|answer| answer.status == 503).count();
    println!(
        "rounds={ROUNDS} buyers={BUYERS} refused={refused} slowest_ms={} connections={connections} {after:?}",
        slowest.as_millis()
    );
    assert!(
        connections <= connections_before + 4,
        "{connections_before} connections before"
    );
    assert!(after.threads <= before.threads + 2, "{before:?} {after:?}");
    assert!(after.files <= before.files + 16, "{before:?} {after:?}");
    let grown = after.memory_kib.saturating_sub(before.memory_kib);
    assert!(grown < 32 * 1024, "{before:?} {after:?}");
    Ok(all)
}

async fn nothing_is_in_flight(world: &World) -> Result<()> {
    eventually("nothing is in flight", || async {
        let metrics = reqwest::get(format!("{}/metrics", world.ingress.admin_url()));
        let metrics = metrics.await?.text().await?;
        Ok(metrics
            .lines()
            .any(|line| line == "seckill_in_flight_orders 0"))
    })
    .await
}

/// Waits until orders are accepted again, and checks consistency.
async fn recovers(world: &World, voucher: VoucherId, mut answers: Vec<Answer>) -> Result<()> {
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(50).await?;
    answers.extend(crowd.leave().await?);
    world.quiet(voucher).await?;
    nothing_is_in_flight(world).await?;
    check_consistency(world, voucher, &answers).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_are_answered_in_time_when_redis_takes_200_ms_a_call() -> Result<()> {
    let (world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    wire.set(Line::Delays(Duration::from_millis(200)));
    let answers = rounds(&world, &wire, voucher).await?;
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    assert!(taken > 0, "slow, and not away");
    wire.set(Line::Delays(Duration::ZERO));
    println!("case slow-200ms: accepted={taken} of {}", answers.len());
    recovers(&world, voucher, answers).await
}

/// A new connection is accepted too, and gets no answer either.
#[tokio::test(flavor = "multi_thread")]
async fn buyers_are_refused_in_time_when_redis_accepts_and_never_answers() -> Result<()> {
    let (world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    wire.set(Line::Swallows);
    let answers = rounds(&world, &wire, voucher).await?;
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!(refused, answers.len(), "nobody can know");
    let healed_at = Instant::now();
    wire.set(Line::Delays(Duration::ZERO));
    eventually("orders are taken again", || async {
        let answer = world.client.order(voucher, 99_999, None, 1).await?;
        Ok(answer.status == 202 || answer.problem() == "already-ordered")
    })
    .await?;
    println!(
        "case hanging: refused={refused} of {} reopened_ms={}",
        answers.len(),
        healed_at.elapsed().as_millis()
    );
    recovers(&world, voucher, answers).await
}

/// All calls to Redis arrive together when their callers have given up.
#[tokio::test(flavor = "multi_thread")]
async fn units_stay_in_balance_when_commands_reach_redis_after_their_deadline() -> Result<()> {
    let (world, wire) = over_a_wire().await?;
    let voucher = world.sale(LARGE).await?;
    wire.set(Line::Holds);
    let answers = rounds(&world, &wire, voucher).await?;
    let healed_at = Instant::now();
    wire.set(Line::Delays(Duration::ZERO));
    world.until_served(voucher).await?;
    println!(
        "case held: answers={} reopened_ms={}",
        answers.len(),
        healed_at.elapsed().as_millis()
    );
    recovers(&world, voucher, answers).await
}
