//! A thousand errors in a thousand sales, in batches, while orders, payments and cancellations go on in the same sales
//! and in others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seckill_domain::VoucherId;
use seckill_tests::{Client, Injection, Victim, World, check_consistency, eventually};
use tokio::task::JoinSet;

use crate::operators::reconcile::{PRICE_CENTS, alarms, found, reconcile, repair, victims};

const SALES: usize = 1_000;
/// The number of sales without injections.
const OTHER_SALES: usize = 50;
const BATCH: usize = 100;
const TRAFFIC_LANES: usize = 4;
/// The first user of the traffic. Injections use smaller numbers.
const FIRST_USER: usize = 1_000;

/// Buyers who order in random sales. Some pay, and some cancel.
struct Traffic {
    stop: Arc<AtomicBool>,
    orders: Arc<AtomicUsize>,
    lanes: JoinSet<()>,
}

impl Traffic {
    fn start(client: &Client, vouchers: &[VoucherId], seed: u64) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            orders: Arc::default(),
            lanes: JoinSet::new(),
        };
        for lane in 0..TRAFFIC_LANES {
            let (client, vouchers) = (client.clone(), vouchers.to_vec());
            let (stop, orders) = (Arc::clone(&traffic.stop), Arc::clone(&traffic.orders));
            let mut random = fastrand::Rng::with_seed(seed + lane as u64);
            traffic.lanes.spawn(async move {
                let mut user = FIRST_USER + lane;
                while !stop.load(Ordering::Relaxed) {
                    user += TRAFFIC_LANES;
                    let voucher = vouchers[random.usize(..vouchers.len())];
                    let what = random.u8(..3);
                    // Requests that are refused or not answered are normal here.
                    if one(&client, voucher, user as u64, what).await.is_ok() {
                        orders.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        traffic
    }

    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while self.lanes.join_next().await.is_some() {}
        self.orders.load(Ordering::Relaxed)
    }
}

async fn one(client: &Client, voucher: VoucherId, user: u64, what: u8) -> Result<()> {
    let answer = client.order(voucher, user, None, 1).await?;
    let order = answer.order_id().context("no order")?;
    match what {
        0 => client.cancel(user, order).await?,
        1 => {
            let payment = format!("traffic-{user}");
            client.pay(order, &payment, PRICE_CENTS).await?
        }
        _ => answer,
    };
    Ok(())
}

/// Injects a batch of errors, and lets them be found and repaired. Returns how many were missed, and how many correct
/// sales were reported.
async fn batch(
    world: &World,
    victims: &[Victim],
    random: &mut fastrand::Rng,
) -> Result<(usize, usize)> {
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    let mut injected = Vec::new();
    for victim in victims {
        let injection = Injection::ALL[random.usize(..Injection::ALL.len())];
        injection.inject(&pool, &mut redis, victim).await?;
        injected.push((injection, victim.voucher));
    }
    pool.close().await;
    let plan = reconcile(world, &[]).await?;
    let wrong = found(&plan)?;
    let named = |(injection, voucher): &&(Injection, VoucherId)| {
        let kinds = wrong.get(&voucher.get());
        !kinds.is_some_and(|kinds| kinds.contains(injection.kind()))
    };
    let missed: Vec<_> = injected.iter().filter(named).collect();
    let sales: BTreeSet<i64> = injected.iter().map(|(_, voucher)| voucher.get()).collect();
    let false_alarms: Vec<_> = wrong.iter().filter(|(v, _)| !sales.contains(v)).collect();
    if !missed.is_empty() || !false_alarms.is_empty() {
        println!("missed: {missed:?}; false alarms: {false_alarms:?}; {plan:#}");
    }
    repair(world, &[]).await?;
    let left = reconcile(world, &[]).await?;
    ensure!(
        found(&left)?.is_empty(),
        "not repaired: {left:#}; {injected:?}"
    );
    Ok((missed.len(), false_alarms.len()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a thousand injections take minutes"]
async fn a_thousand_wrong_things_are_found_and_repaired_under_traffic() -> Result<()> {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::with(&[
        ("PROMISE_DEADLINE_MS", "500"),
        ("RATE_LIMIT_USER_PER_SECOND", "0"),
    ])?;
    let started = Instant::now();
    let mut victims = victims(&world, SALES + OTHER_SALES).await?;
    println!("set up in {} s", started.elapsed().as_secs());
    random.shuffle(&mut victims);
    let vouchers: Vec<_> = victims.iter().map(|victim| victim.voucher).collect();
    let traffic = Traffic::start(&world.client, &vouchers, seed);
    let started = Instant::now();
    let (mut missed, mut false_alarms) = (0, 0);
    for chunk in victims[..SALES].chunks(BATCH) {
        let (misses, alarms) = batch(&world, chunk, &mut random).await?;
        println!(
            "injected {}, missed {misses}, false alarms {alarms}",
            chunk.len()
        );
        missed += misses;
        false_alarms += alarms;
    }
    let orders = traffic.end().await;
    let seconds = started.elapsed().as_secs();
    println!(
        "case reconcile: injections={SALES} missed={missed} false_alarms={false_alarms} \
         sales={} orders_meanwhile={orders} seconds={seconds} seed={seed}",
        victims.len()
    );
    ensure!((missed, false_alarms) == (0, 0), "see above");
    for victim in &victims {
        world.quiet(victim.voucher).await?;
    }
    for victim in victims.iter().step_by(100) {
        check_consistency(&world, victim.voucher, &[]).await?;
    }
    eventually("the consistency check finds nothing", || async {
        Ok(alarms(&world).await?.is_empty())
    })
    .await
}
