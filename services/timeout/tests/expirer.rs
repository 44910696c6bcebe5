//! Single rounds against a real broker, database and Redis.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod harness;

use std::collections::HashMap;
use std::time::Duration;

use harness::{ExpiryWorld, GRACE, HOUR_US};
use seckill_domain::{OrderId, Timestamp};
use seckill_eventlog::KafkaSettings;
use seckill_orderbook::OrderbookError;
use seckill_stock::StockError;
use seckill_testkit::postgres;
use seckill_timeout::clocks::{Clocks, SkewError, StoreClocks};
use seckill_timeout::expirer::{Expirer, StepError, StepReport};

/// Makes rounds until one claims something.
async fn step_until_claimed<C: Clocks>(expirer: &Expirer<C>) -> StepReport {
    let rounds = async {
        loop {
            let report = expirer.step().await.unwrap();
            if report.claimed > 0 {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rounds)
        .await
        .expect("an order becomes due")
}

/// Makes rounds until nothing is claimed any more. Returns how many expiries were published.
async fn drain<C: Clocks>(expirer: &Expirer<C>) -> usize {
    let mut published = 0;
    while let StepReport {
        published: n @ 1.., ..
    } = expirer.step().await.unwrap()
    {
        published += n;
    }
    published
}

/// Changes the claims as if this time had passed.
fn age_claims(world: &ExpiryWorld, seconds: u32) {
    let age = format!("UPDATE expiry_claims SET until = until - interval '{seconds} seconds'");
    postgres::query(&world.database.url(), &age).unwrap();
}

/// Without a projector nothing is folded, so every order stays unpaid, however often its expiry is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_gets_four_expiries_in_three_minutes_without_a_projector() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US; 2_000]).await;
    let (kafka, clocks) = (&world.kafka, world.clocks());
    let expirer = world.expirer_claiming_for(clocks, kafka, 500, kafka.delivery_timeout * 2);
    for _ in 0..18 {
        drain(&expirer).await;
        age_claims(&world, 10);
        // The orders are late, also when they are claimed, and the alert has to show it.
        let lag = expirer.step().await.unwrap().lag;
        assert!(lag.as_secs() >= 3_600, "{lag:?}");
    }
    let mut expiries: HashMap<OrderId, usize> = HashMap::new();
    for order in world.expired().await {
        *expiries.entry(order).or_default() += 1;
    }
    assert_eq!(expiries.len(), orders.len());
    let other = expiries.iter().find(|(_, times)| **times != 4);
    assert_eq!(other, None, "after 0, 10, 40 and 130 s");
}

/// Failed attempts do not make the claims longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_kafka_makes_no_claim_longer() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US; 3]).await;
    let unreachable = KafkaSettings {
        brokers: "127.0.0.1:9".to_owned(),
        delivery_timeout: Duration::from_millis(500),
        ..world.kafka.clone()
    };
    let claim_for = Duration::from_secs(10);
    let clocks = world.clocks();
    let cut_off = world.expirer_claiming_for(clocks, &unreachable, 100, claim_for);
    for _ in 0..4 {
        assert_eq!(cut_off.step().await.unwrap().claimed, 3);
        age_claims(&world, 10);
    }
    let expirer = world.expirer();
    assert_eq!(expirer.step().await.unwrap().published, 3);
    assert_eq!(world.expired().await, orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_expire_each_due_order_once() {
    let world = ExpiryWorld::start().await;
    let mut orders = world.reserve(&[-HOUR_US; 250]).await;
    let kafka = &world.kafka;
    let (first, second) = tokio::join!(
        async { drain(&world.expirer_with(world.clocks(), kafka, 30)).await },
        async { drain(&world.expirer_with(world.clocks(), kafka, 30)).await },
    );
    assert_eq!(first + second, orders.len());
    orders.sort_unstable();
    assert_eq!(world.expired().await, orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_says_what_the_order_was_and_begins_a_trace() {
    let world = ExpiryWorld::start().await;
    let before = world.orderbook.now().await.unwrap();
    let orders = world.reserve(&[-HOUR_US]).await;
    let report = world.expirer().step().await.unwrap();
    assert_eq!((report.claimed, report.published), (1, 1));
    assert!(report.lag.as_secs().abs_diff(3600) < 60, "{:?}", report.lag);

    let order = world.orderbook.order(orders[0]).await.unwrap().unwrap();
    let (expired, event, record) = world.expiries().await.pop().unwrap();
    assert_eq!(expired.order_id, order.order_id);
    assert_eq!(expired.pay_by, order.pay_by);
    assert_eq!(event.voucher_id, order.order_id.voucher_id());
    assert_eq!(event.event_id.as_uuid().get_version_num(), 7);
    assert!((before..=world.orderbook.now().await.unwrap()).contains(&event.occurred_at));
    assert!(record.trace().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_expires_before_its_deadline_and_the_grace_are_over() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[500_000, HOUR_US]).await;
    let expirer = world.expirer();
    assert_eq!(expirer.step().await.unwrap().claimed, 0);

    let report = step_until_claimed(&expirer).await;
    assert_eq!((report.claimed, report.published), (1, 1));
    let order = world.orderbook.order(orders[0]).await.unwrap().unwrap();
    let grace_us = i64::try_from(GRACE.as_micros()).unwrap();
    let earliest = Timestamp::from_micros(order.pay_by.as_micros() + grace_us);
    assert!(world.orderbook.now().await.unwrap() > earliest);
    assert_eq!(world.expired().await, orders[..1]);
}

/// The real clocks, but Redis' clock answers only after an order has become due, later than the database's was read.
struct Late {
    clocks: StoreClocks,
    due: Timestamp,
}

impl Clocks for Late {
    async fn database(&self) -> Result<Timestamp, OrderbookError> {
        self.clocks.database().await
    }

    async fn redis(&self) -> Result<Vec<Timestamp>, StockError> {
        until(&self.clocks, self.due).await;
        self.clocks.redis().await
    }
}

/// Waits until the database's clock has passed a time.
async fn until(clocks: &StoreClocks, time: Timestamp) {
    while clocks.database().await.unwrap() <= time {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_becomes_due_between_two_looks_at_the_clock_does_not_expire_before_it_is_due()
{
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[1_000_000]).await;
    let order = world.orderbook.order(orders[0]).await.unwrap().unwrap();
    let grace_us = i64::try_from(GRACE.as_micros()).unwrap();
    let due = Timestamp::from_micros(order.pay_by.as_micros() + grace_us);
    // The slow reading has to take less than a second, or the clocks count as unknown.
    let soon = Timestamp::from_micros(due.as_micros() - 400_000);
    until(&world.clocks(), soon).await;
    let clocks = Late {
        clocks: world.clocks(),
        due,
    };
    let report = world.expirer_with(clocks, &world.kafka, 100).step().await;
    assert_eq!(report.unwrap().published, 1);
    let (_, event, _) = world.expiries().await.pop().unwrap();
    assert!(event.occurred_at > due, "{:?}", event.occurred_at);
}

/// The real clocks, but Redis' clock is fast.
struct Skewed {
    clocks: StoreClocks,
    redis_ahead_us: i64,
}

impl Clocks for Skewed {
    async fn database(&self) -> Result<Timestamp, OrderbookError> {
        self.clocks.database().await
    }

    async fn redis(&self) -> Result<Vec<Timestamp>, StockError> {
        let ahead =
            |clock: Timestamp| Timestamp::from_micros(clock.as_micros() + self.redis_ahead_us);
        Ok(self.clocks.redis().await?.into_iter().map(ahead).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_more_than_the_grace_stop_it() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US]).await;
    for redis_ahead_us in [3_000_000, -3_000_000] {
        let clocks = Skewed {
            clocks: world.clocks(),
            redis_ahead_us,
        };
        let expirer = world.expirer_with(clocks, &world.kafka, 100);
        let error = expirer.step().await.unwrap_err();
        assert!(
            matches!(
                error,
                StepError::Clocks {
                    error: SkewError::Apart { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
    assert!(world.expired().await.is_empty());
    // It has claimed nothing meanwhile.
    assert_eq!(world.expirer().step().await.unwrap().published, 1);
    assert_eq!(world.expired().await, orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_clock_nothing_expires_until_it_is_back() {
    let mut world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US]).await;
    let expirer = world.expirer();
    world.redis.kill().unwrap();
    let error = expirer.step().await.unwrap_err();
    assert!(matches!(error, StepError::Redis(_)), "{error}");
    assert!(world.expired().await.is_empty());

    world.redis.restart().unwrap();
    assert_eq!(expirer.step().await.unwrap().published, 1);
    assert_eq!(world.expired().await, orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_an_instance_that_died_lapses() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US]).await;
    let claim_for = Duration::from_secs(1);
    let claimed = world.orderbook.claim_due(GRACE, 10, claim_for).await;
    assert_eq!(claimed.unwrap().len(), 1);

    let expirer = world.expirer();
    assert_eq!(expirer.step().await.unwrap().claimed, 0);
    assert_eq!(step_until_claimed(&expirer).await.published, 1);
    assert_eq!(world.expired().await, orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_did_not_acknowledge_is_tried_again() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US]).await;
    // Nothing listens on the discard port.
    let unreachable = KafkaSettings {
        brokers: "127.0.0.1:9".to_owned(),
        delivery_timeout: Duration::from_millis(500),
        ..world.kafka.clone()
    };
    let cut_off = world.expirer_with(world.clocks(), &unreachable, 100);
    let report = cut_off.step().await.unwrap();
    assert_eq!((report.claimed, report.published), (1, 0));

    assert_eq!(step_until_claimed(&world.expirer()).await.published, 1);
    assert_eq!(world.expired().await, orders);
}
