//! Every process and every store is killed, one every two seconds, while orders flow and expire.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use seckill_testkit::TestStack;
use seckill_tests::{Crowd, SaleTerms, World, audit, eventually};

const SEED_VARIABLE: &str = "SECKILL_TEST_SEED";
const KILLS: usize = 10;
const BETWEEN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Victim {
    Ingress,
    Projector,
    Timeout,
    RedisEmpty,
    RedisSnapshot,
    Postgres,
    Kafka,
}

const VICTIMS: [Victim; 7] = [
    Victim::Ingress,
    Victim::Projector,
    Victim::Timeout,
    Victim::RedisEmpty,
    Victim::RedisSnapshot,
    Victim::Postgres,
    Victim::Kafka,
];

/// All of them in a random order, and as many more as there are kills left.
fn victims(seed: u64) -> Vec<Victim> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = VICTIMS.to_vec();
    random.shuffle(&mut all);
    let more = VICTIMS.len()..KILLS;
    all.extend(more.map(|_| VICTIMS[random.usize(..VICTIMS.len())]));
    all
}

fn kill(world: &mut World, victim: Victim) -> Result<()> {
    match victim {
        Victim::Ingress => world.ingress.relaunch(&[]),
        Victim::Projector => world.projector.relaunch(&[]),
        Victim::Timeout => world.timeout.relaunch(&[]),
        Victim::RedisEmpty => world.stack.redis.restart(),
        Victim::RedisSnapshot => world.stack.redis.restart_from_snapshot(),
        Victim::Postgres => {
            let server = world.stack.postgres.as_mut();
            server.context("its own server")?.restart()
        }
        Victim::Kafka => {
            let broker = world.stack.kafka.as_mut();
            broker.context("its own broker")?.restart()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long"]
async fn everything_is_killed_every_two_seconds() -> Result<()> {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse()?,
        Err(_) => UNIX_EPOCH.elapsed()?.as_secs(),
    };
    println!("{SEED_VARIABLE}={seed}");
    let stores = TestStack::builder().private_kafka().private_postgres();
    let mut world = World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client.clone(), world.client_of(&second)];
    let terms = SaleTerms {
        stock: 50_000,
        hold_seconds: 5,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let crowd = Crowd::come(&clients, voucher, 1..50_001);
    crowd.flows(50).await?;
    world.stack.redis.snapshot()?;
    let mut ticks = tokio::time::interval(BETWEEN);
    for victim in victims(seed) {
        ticks.tick().await;
        println!("kill {victim:?}");
        kill(&mut world, victim)?;
    }
    for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
        service.wait_until_ready()?;
    }
    crowd.flows(50).await?;
    let answers = crowd.leave().await?;
    eventually("all orders have expired", || async {
        Ok(world.client.ledger(voucher).await?["unpaid"] == 0)
    })
    .await?;
    world.quiet(voucher).await?;
    let found = audit(&world, voucher, &answers).await?;
    assert_eq!(found.available, found.units);
    Ok(())
}
