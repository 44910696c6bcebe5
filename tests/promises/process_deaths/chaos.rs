//! Processes and stores are killed at random, or all at once, while orders flow and expire, and others compete for the
//! few units of a second sale. The seed of a run is printed; the same seed kills in the same order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_testkit::{Service, TestStack};
use seckill_tests::{Crowd, Rivals, SaleTerms, SaleTotals, World, check_consistency, until_ready};

const SEED_VARIABLE: &str = "SECKILL_TEST_SEED";
const BUYERS: u64 = 2_000_000;
/// The most time until everything is running again, decided, expired and carried out.
const RECOVERY: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

fn seeded() -> Result<fastrand::Rng> {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse()?,
        Err(_) => UNIX_EPOCH.elapsed()?.as_secs(),
    };
    println!("{SEED_VARIABLE}={seed}");
    Ok(fastrand::Rng::with_seed(seed))
}

/// All victims in a random order, and then random ones until the number of kills is reached.
fn victims(random: &mut fastrand::Rng, kills: usize) -> Vec<Victim> {
    let mut all = VICTIMS.to_vec();
    random.shuffle(&mut all);
    let more = VICTIMS.len()..kills;
    all.extend(more.map(|_| VICTIMS[random.usize(..VICTIMS.len())]));
    all
}

/// The system under load, and the methods that kill and restart its parts.
struct Arena {
    world: World,
    /// Orders go to either of the two.
    second: Service,
    voucher: VoucherId,
    crowd: Crowd,
    rivals: Rivals,
    /// Which of the services, or Redis after the last of them, is stopped and will be resumed.
    sleeper: Option<usize>,
    kills: BTreeMap<Victim, usize>,
    /// The number of services that ended by themselves.
    ended_by_themselves: usize,
}

impl Arena {
    async fn start(
        stores: seckill_testkit::stack::Builder,
        random: &mut fastrand::Rng,
    ) -> Result<Self> {
        let world = World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])?;
        let second = world.stack.start_ingress(&[])?;
        let clients = [world.client.clone(), world.client_of(&second)];
        let terms = SaleTerms {
            stock: 50_000,
            hold_seconds: 5,
            ..SaleTerms::default()
        };
        let voucher = world.sale(terms).await?;
        let crowd = Crowd::come(&clients, voucher, 1..BUYERS);
        crowd.flows(50).await?;
        let rivals = Rivals::come(&world, &clients, random).await?;
        world.stack.redis.snapshot()?;
        Ok(Self {
            world,
            second,
            voucher,
            crowd,
            rivals,
            sleeper: None,
            kills: BTreeMap::new(),
            ended_by_themselves: 0,
        })
    }

    fn kill(&mut self, victim: Victim) -> Result<()> {
        *self.kills.entry(victim).or_default() += 1;
        let world = &mut self.world;
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

    fn services(&mut self) -> [&mut Service; 4] {
        let world = &mut self.world;
        [
            &mut world.ingress,
            &mut world.projector,
            &mut world.timeout,
            &mut self.second,
        ]
    }

    /// The one that sleeps may wake up, and then another may fall asleep.
    fn change_sleeper(&mut self, random: &mut fastrand::Rng) -> Result<()> {
        if let Some(sleeper) = self.sleeper.filter(|_| random.bool()) {
            self.resume(sleeper)?;
        }
        if self.sleeper.is_none() && random.bool() {
            let sleeper = random.usize(..=self.services().len());
            if let Some(service) = self.services().get_mut(sleeper) {
                service.pause()?;
            } else {
                self.world.stack.redis.pause()?;
            }
            self.sleeper = Some(sleeper);
        }
        Ok(())
    }

    fn resume(&mut self, sleeper: usize) -> Result<()> {
        self.sleeper = None;
        if let Some(service) = self.services().get_mut(sleeper) {
            service.resume()
        } else {
            self.world.stack.redis.resume()
        }
    }

    /// Starts services again that have ended, as a supervisor would do.
    fn supervise(&mut self) -> Result<()> {
        let mut ended = 0;
        for service in self.services() {
            if service.wait_for_exit(Duration::ZERO).is_ok() {
                println!("ended by itself: {}", last_line(service)?);
                service.relaunch(&[])?;
                ended += 1;
            }
        }
        self.ended_by_themselves += ended;
        Ok(())
    }

    /// Waits until all sales are served, the crowd has ended and all orders have expired.
    async fn ends_well(mut self, case: &str) -> Result<()> {
        if let Some(sleeper) = self.sleeper {
            self.resume(sleeper)?;
        }
        let calm = Instant::now();
        let services = self.services().map(|service| &*service);
        for service in services {
            until_ready(service).await?;
        }
        self.crowd.flows(50).await?;
        let flows_ms = calm.elapsed().as_millis();
        let orders = self.crowd.accepted();
        let answers = self.crowd.leave().await?;
        let contested = self.rivals.voucher;
        let told = self.rivals.leave().await?;
        let (world, voucher) = (&self.world, self.voucher);
        for voucher in [voucher, contested] {
            world.quiet_with_none_unpaid(voucher, RECOVERY).await?;
        }
        world.until_carried_out().await?;
        let lag_ms = calm.elapsed().as_millis();
        let SaleTotals {
            available,
            units,
            rejected,
            ..
        } = check_consistency(world, voucher, &answers).await?;
        assert_eq!(available, units, "every unit came back");
        let found = check_consistency(world, contested, &told.answers).await?;
        assert_eq!(found.available + found.paid, found.units, "{found:?}");
        for (user, order_id) in &told.paid {
            world.until_status(*user, order_id, "paid").await?;
        }
        println!(
            "case {case}: kills={:?} ended_by_themselves={} orders={orders} rejected={rejected} \
             contested={} paid={} orders_again_ms={flows_ms} recovered_ms={lag_ms}",
            self.kills,
            self.ended_by_themselves,
            told.answers.iter().filter(|a| a.is_reserved()).count(),
            found.paid,
        );
        Ok(())
    }
}

fn last_line(service: &Service) -> Result<String> {
    Ok(service
        .output()?
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned())
}

async fn kills_at_random(kills: usize, pause_ms: std::ops::Range<u64>, case: &str) -> Result<()> {
    let mut random = seeded()?;
    let stores = TestStack::builder().private_kafka().private_postgres();
    let mut arena = Arena::start(stores, &mut random).await?;
    for victim in victims(&mut random, kills) {
        tokio::time::sleep(Duration::from_millis(random.u64(pause_ms.clone()))).await;
        arena.supervise()?;
        arena.change_sleeper(&mut random)?;
        arena.kill(victim)?;
    }
    arena.supervise()?;
    arena.ends_well(case).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: ten kills, two seconds between them"]
async fn everything_is_killed_every_two_seconds() -> Result<()> {
    kills_at_random(10, 1_900..2_100, "ten kills, one every two seconds").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: two hundred kills"]
async fn two_hundred_random_kills() -> Result<()> {
    kills_at_random(200, 100..1_500, "two hundred random kills").await
}

/// All services at once: both ingress processes, the projector and the timeout service.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a minute"]
async fn all_services_are_killed_at_once_every_two_seconds_for_a_minute() -> Result<()> {
    let mut arena = Arena::start(TestStack::builder(), &mut seeded()?).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    for _ in 0..30 {
        ticks.tick().await;
        arena.supervise()?;
        for victim in [Victim::Ingress, Victim::Projector, Victim::Timeout] {
            arena.kill(victim)?;
        }
        arena.second.relaunch(&[])?;
    }
    arena
        .ends_well("all services killed at once every two seconds for a minute")
        .await
}
