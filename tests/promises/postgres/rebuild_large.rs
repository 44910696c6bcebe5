//! Two million events with duplicates, with rebalances during the live fold and a rebuild that is killed twice, give
//! the same rows. Also measures the speed of a rebuild, compared with Kafka's own consumer on the same topic.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::{
    Currency, Epoch, Event, EventBody, EventId, Money, OrderExpired, OrderId, OrderPaid, PaymentId,
    SaleScheduled, SeckillReserved, Terms, Timestamp, Title, UserId, VoucherId,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics};
use seckill_testkit::service::binary;
use seckill_testkit::{TestStack, kafka};
use seckill_tests::eventually_within;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

const SALES: i64 = 64;
const REBALANCES: usize = 20;
/// The percentage of records that repeat an earlier one.
const DUPLICATES_PERCENT: usize = 30;
/// The number of orders that are open before the oldest one is paid or expires.
const OPEN_ORDERS: usize = 2_000;
const IN_FLIGHT: usize = 50_000;
const FOLD_DEADLINE: Duration = Duration::from_secs(1800);
const ACTS: [&str; 6] = ["--execute", "--yes", "--reason", "x", "--actor", "test"];

fn money() -> Result<Money> {
    let currency: Currency = "EUR".parse()?;
    Ok(Money::new(100, currency)?)
}

fn event(n: usize, voucher_id: VoucherId, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::from_u128(n as u128 + 1)),
        voucher_id,
        occurred_at: Timestamp::from_micros(1_781_784_000_000_000 + n as i64),
        body,
    }
}

fn scheduled(n: usize, voucher: VoucherId) -> Result<Event> {
    let terms = Terms {
        title: Title::new("One of many")?,
        price: money()?,
        stock: 1_000_000,
        max_quantity: 1,
        opens_at: Timestamp::from_micros(0),
        closes_at: Timestamp::from_micros(1),
        hold_seconds: 60,
        requires_sale_token: false,
    };
    let body = EventBody::SaleScheduled(SaleScheduled { terms });
    Ok(event(n, voucher, body))
}

fn reserved(n: usize, order_id: OrderId) -> Result<Event> {
    let body = SeckillReserved {
        order_id,
        user_id: UserId::new(n as i64 + 1)?,
        quantity: 1,
        price: money()?,
        // Never due, so that only this log decides.
        pay_by: Timestamp::from_micros(4_102_444_800_000_000),
        epoch: Epoch::FIRST,
        key_hash: None,
    };
    let voucher = order_id.voucher_id();
    Ok(event(n, voucher, EventBody::SeckillReserved(body)))
}

/// The event that ends an order: two of three are paid, and the third expires.
fn closed(n: usize, order_id: OrderId) -> Result<Event> {
    let pay_by = Timestamp::from_micros(4_102_444_800_000_000);
    let body = if n.is_multiple_of(3) {
        EventBody::OrderExpired(OrderExpired { order_id, pay_by })
    } else {
        EventBody::OrderPaid(OrderPaid {
            order_id,
            payment_id: PaymentId::new(format!("pay-{n}"))?,
            amount: money()?,
            paid_at: pay_by,
        })
    };
    Ok(event(n, order_id.voucher_id(), body))
}

/// The `n`-th record of the log that is not a duplicate.
fn nth(n: usize) -> Result<Event> {
    let sales = usize::try_from(SALES)?;
    let voucher = VoucherId::new((n % sales) as i64 + 1)?;
    if n < sales {
        return scheduled(n, voucher);
    }
    // Within its sale, every order is reserved at an even number, and ends at an odd one.
    let round = n / sales;
    let lag = OPEN_ORDERS / sales;
    if round.is_multiple_of(2) || round <= 2 * lag {
        return reserved(n, OrderId::from_parts(voucher, 1, round as u64));
    }
    let round = round - 2 * lag - 1;
    closed(n, OrderId::from_parts(voucher, 1, round as u64))
}

async fn produce(stack: &TestStack, count: usize) -> Result<()> {
    let topics = Topics::new(stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(stack.setting("KAFKA_BROKERS"), "test");
    let producer = EventProducer::new(
        &settings,
        &topics,
        stack.setting("EVENT_PARTITIONS").parse()?,
    )?;
    let mut random = fastrand::Rng::with_seed(7);
    let mut made = 0;
    for _ in 0..count {
        let repeats = made > 0 && random.usize(0..100) < DUPLICATES_PERCENT;
        let event = nth(if repeats { random.usize(0..made) } else { made })?;
        made += usize::from(!repeats);
        drop(producer.send_event(&event, None)?);
        while producer.in_flight() > IN_FLIGHT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    producer.flush(Duration::from_secs(60)).await?;
    Ok(())
}

/// The records per second of Kafka's own kafka-consumer-perf-test.
fn consumer_rate(stack: &TestStack, count: usize) -> Result<f64> {
    let topics = Topics::new(stack.setting("TOPIC_PREFIX"));
    let brokers = stack.setting("KAFKA_BROKERS");
    kafka::consumer_rate(brokers, &topics.events, count as u64)
}

async fn position(pool: &PgPool, schema: &str) -> Option<i64> {
    let sql = format!(
        "SELECT sum(next_offset)::bigint FROM {schema}.view_positions WHERE view = 'orders'"
    );
    let reached: Result<Option<i64>, _> = sqlx::query_scalar(&sql).fetch_one(pool).await;
    reached.ok().flatten()
}

fn rebuild(stack: &TestStack, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["rebuild", "orders", "--output", "json"], arguments].concat();
    let printed = tokio::task::block_in_place(|| stack.seckillctl(&arguments))?;
    Ok(serde_json::from_str(&printed)?)
}

/// Starts a rebuild, and kills it when it has reached this position.
async fn start_and_kill(stack: &TestStack, pool: &PgPool, at: i64) -> Result<()> {
    let mut running = Command::new(binary("seckillctl")?)
        .args(["rebuild", "orders", "start"])
        .args(ACTS)
        .env_clear()
        .envs(stack.env())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while position(pool, "rebuild_1").await.unwrap_or(0) < at {
        let ended = running.try_wait()?;
        ensure!(ended.is_none(), "it ended before it was at {at}: {ended:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill()?;
    running.wait()?;
    Ok(())
}

/// Folds the log live, while a second projector starts and ends.
async fn fold_live(stack: &TestStack, pool: &PgPool, count: i64) -> Result<()> {
    let _first = stack.start_projector(&[])?;
    for _ in 0..REBALANCES {
        let mut second = stack.start_projector(&[])?;
        second.stop()?;
    }
    eventually_within(FOLD_DEADLINE, "everything is folded", || async {
        Ok(position(pool, "public").await.unwrap_or(0) >= count)
    })
    .await
}

/// `SECKILL_REBUILD_EVENTS` sets another number of events, to try the test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 2 million events; its speeds mean something with --release only"]
async fn a_large_log_gives_the_same_rows_after_all_that_can_happen_to_it() -> Result<()> {
    let count = std::env::var("SECKILL_REBUILD_EVENTS");
    let count: usize = count.map_or(Ok(2_000_000), |text| text.parse())?;
    let total = i64::try_from(count)?;
    let stack = TestStack::builder()
        .private_kafka()
        .private_postgres()
        .start()?;
    let pool = PgPool::connect(stack.setting("DATABASE_URL")).await?;
    produce(&stack, count).await?;
    fold_live(&stack, &pool, total).await?;

    for part in [10, 2] {
        start_and_kill(&stack, &pool, total / part).await?;
    }
    let start = [&["start"][..], &ACTS].concat();
    let resumed = rebuild(&stack, &start)?;
    assert_eq!(resumed["proof"]["differing"], serde_json::json!([]));
    rebuild(&stack, &[&["abort"][..], &ACTS].concat())?;

    let first = tokio::task::block_in_place(|| consumer_rate(&stack, count))?;
    let whole = rebuild(&stack, &start)?;
    assert_eq!(whole["proof"]["differing"], serde_json::json!([]));
    let check = rebuild(&stack, &["check"])?;
    assert_eq!(check["differing"], serde_json::json!([]));
    let second = tokio::task::block_in_place(|| consumer_rate(&stack, count))?;
    let kafka = f64::midpoint(first, second);
    let rate = |value: &Value, records: &str| -> Result<f64> {
        let records = value[records].as_f64().context("records")?;
        Ok(records / value["seconds"].as_f64().context("seconds")?)
    };
    let (into_tables, folded) = (rate(&whole["load"], "events")?, rate(&check, "records")?);
    println!(
        "{count} events, {} orders: rebuild {into_tables:.0}/s, in memory {folded:.0}/s, \
         kafka-consumer-perf-test {kafka:.0}/s; ratios {:.2} and {:.2}",
        whole["proof"]["orders"],
        into_tables / kafka,
        folded / kafka
    );
    Ok(())
}
