//! Checks the invariants of one sale with numbers that are counted from the log, PostgreSQL and Redis. The project's
//! own ledger is not used. Of the project's rules only the domain's fold is used, for the invariant that the tables are
//! the result of the fold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use redis::AsyncCommands;
use seckill_domain::{Event, EventBody, Offset, SaleState, VoucherId, partition_of};
use seckill_eventlog::{KafkaSettings, Topics, read_all};

use crate::client::Answer;
use crate::find_redis::connection_for;
use crate::tables::Tables;
use crate::world::World;

const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The numbers that a consistency check has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaleTotals {
    /// Units at the start plus adjustments.
    pub units: i64,
    /// Units free.
    pub available: i64,
    /// Units in unpaid orders.
    pub unpaid: i64,
    /// Units in paid orders.
    pub paid: i64,
    /// Orders that were rejected.
    pub rejected: usize,
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    order_id: String,
    user_id: i64,
    quantity: i64,
    status: String,
    payment_id: Option<String>,
}

/// Checks invariants 1 to 7 of a sale that is at rest, once what the log has of it is folded, also a payment that came
/// too late. `answers` are the answers to its orders.
///
/// # Errors
/// The first invariant that does not hold, with the numbers that were found.
pub async fn check_consistency(
    world: &World,
    voucher: VoucherId,
    answers: &[Answer],
) -> Result<SaleTotals> {
    let log = world.until_folded(voucher).await?;
    let rows = read_rows(world, voucher).await?;
    let found = check_stores(&rows, &read_redis(world, voucher).await?, answers)?;
    check_payments(&log, &rows)?;
    check_duplicates(&log)?;
    let partitions: i32 = world.stack.setting("EVENT_PARTITIONS").parse()?;
    let partition = partition_of(voucher.to_string().as_bytes(), partitions);
    rows.tables.expect(&Tables::of_log(&log, partition)?)?;
    Ok(found)
}

/// As [`check_consistency`], but only for PostgreSQL, Redis and the answers. It is for orders that a test has inserted
/// into the tables without events.
///
/// # Errors
/// As [`check_consistency`].
pub async fn check_consistency_without_log(
    world: &World,
    voucher: VoucherId,
    answers: &[Answer],
) -> Result<SaleTotals> {
    let rows = read_rows(world, voucher).await?;
    check_stores(&rows, &read_redis(world, voucher).await?, answers)
}

fn check_stores(rows: &Rows, redis: &RedisView, answers: &[Answer]) -> Result<SaleTotals> {
    let live = |row: &&Row| matches!(row.status.as_str(), "unpaid" | "paid");
    let units = |status: &str| -> i64 {
        let of_status = rows.orders.iter().filter(|row| row.status == status);
        of_status.map(|row| row.quantity).sum()
    };
    let (unpaid, paid) = (units("unpaid"), units("paid"));
    let total = rows.initial + rows.adjusted;
    ensure!(
        rows.available >= 0 && redis.stock >= 0,
        "a stock below zero"
    );
    ensure!(
        unpaid + paid <= total,
        "oversold: {unpaid} + {paid} of {total}"
    );
    ensure!(
        total == rows.available + unpaid + paid,
        "PostgreSQL: {} of {total} are left beside {unpaid} and {paid}",
        rows.available
    );
    ensure!(
        total == redis.stock + unpaid + paid,
        "Redis: {} of {total} are left beside {unpaid} and {paid}",
        redis.stock
    );
    ensure!(
        redis.outbox == 0,
        "{} pending events are left",
        redis.outbox
    );

    let mut users = HashMap::new();
    for row in rows.orders.iter().filter(live) {
        ensure!(
            users
                .insert(row.user_id, (row.order_id.as_str(), row.quantity))
                .is_none(),
            "two live orders: {row:?}"
        );
    }
    let holds = redis
        .holds
        .iter()
        .map(|(user, (order, units))| (*user, (order.as_str(), *units)));
    let holds: HashMap<i64, (&str, i64)> = holds.collect();
    ensure!(
        users == holds,
        "{} holds are not the {} live orders; of {:?} something differs",
        holds.len(),
        users.len(),
        differing(&users, &holds)
    );

    check_answers(rows, answers)?;
    let rejected = rows
        .orders
        .iter()
        .filter(|row| row.status == "rejected")
        .count();
    let available = rows.available;
    Ok(SaleTotals {
        units: total,
        available,
        unpaid,
        paid,
        rejected,
    })
}

/// Up to ten users for whom the two maps differ.
fn differing<T: PartialEq>(orders: &HashMap<i64, T>, holds: &HashMap<i64, T>) -> Vec<i64> {
    let users = orders.keys().chain(holds.keys());
    let differ = users.filter(|user| orders.get(user) != holds.get(user));
    differ.take(10).copied().collect()
}

fn check_answers(rows: &Rows, answers: &[Answer]) -> Result<()> {
    let mut by_id: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &rows.orders {
        by_id.entry(&row.order_id).or_default().push(row);
    }
    for answer in answers.iter().filter(|answer| answer.status == 202) {
        let found = by_id.get(answer.order_id().unwrap_or_default());
        let found = found.map_or(&[][..], Vec::as_slice);
        ensure!(found.len() <= 1, "two orders for {answer:?}");
        if answer.is_reserved() {
            ensure!(found.len() == 1, "promised, and lost: {answer:?}");
            ensure!(
                found[0].status != "rejected",
                "promised, and rejected: {answer:?}"
            );
        }
    }
    Ok(())
}

/// Checks that every payment in the log has paid one order or has become one refund.
fn check_payments(log: &[(Offset, Event)], rows: &Rows) -> Result<()> {
    let payments: HashSet<&str> = log
        .iter()
        .filter_map(|(_, event)| match &event.body {
            EventBody::OrderPaid(paid) => Some(paid.payment_id.as_str()),
            _ => None,
        })
        .collect();
    for payment in payments {
        let honoured = rows
            .orders
            .iter()
            .filter(|row| row.payment_id.as_deref() == Some(payment));
        let refunded = rows.refunds.iter().filter(|id| *id == payment);
        let fates = honoured.count() + refunded.count();
        ensure!(fates == 1, "payment {payment} has {fates} ends");
    }
    Ok(())
}

/// Checks that a record that is in the log twice is decided only once.
fn check_duplicates(log: &[(Offset, Event)]) -> Result<()> {
    let (mut once, mut twice) = (SaleState::default(), SaleState::default());
    for (offset, event) in log {
        once.fold(*offset, event);
        twice.fold(*offset, event);
        ensure!(
            twice.fold(*offset, event).is_none(),
            "a duplicate was decided: {event:?}"
        );
    }
    ensure!(once == twice, "the fold with duplicates differs");
    Ok(())
}

pub(crate) async fn read_log(world: &World, voucher: VoucherId) -> Result<Vec<(Offset, Event)>> {
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let partitions: i32 = setting("EVENT_PARTITIONS").parse()?;
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "consistency-check");
    let records = read_all(&settings, &topics.events, READ_TIMEOUT).await?;
    let events = records.iter().filter_map(|record| {
        let event = record.event(partitions).ok()?;
        Some((record.partition, record.offset, event))
    });
    let events: Vec<_> = events.collect();
    let skips = events.iter().filter_map(|(_, _, event)| match &event.body {
        EventBody::RecordSkipped(skip) => Some((skip.partition, skip.offset)),
        _ => None,
    });
    let skips: HashSet<_> = skips.collect();
    let events = events.into_iter().filter(|(partition, offset, event)| {
        event.voucher_id == voucher && !skips.contains(&(*partition, *offset))
    });
    Ok(events.map(|(_, offset, event)| (offset, event)).collect())
}

struct Rows {
    initial: i64,
    adjusted: i64,
    available: i64,
    orders: Vec<Row>,
    refunds: Vec<String>,
    tables: Tables,
}

async fn read_rows(world: &World, voucher: VoucherId) -> Result<Rows> {
    let pool = world.database().await?;
    let (initial, adjusted, available): (i64, i64, i64) = sqlx::query_as(
        "SELECT initial_stock, adjusted, stock_left FROM vouchers WHERE voucher_id = $1",
    )
    .bind(voucher.get())
    .fetch_one(&pool)
    .await?;
    let orders = sqlx::query_as(
        "SELECT order_id::text, user_id, quantity::bigint, status, payment_id FROM orders
          WHERE voucher_id = $1",
    )
    .bind(voucher.get())
    .fetch_all(&pool)
    .await?;
    let refunds = sqlx::query_scalar("SELECT payment_id FROM refunds WHERE voucher_id = $1")
        .bind(voucher.get())
        .fetch_all(&pool)
        .await?;
    let tables = Tables::read(&pool, voucher).await?;
    pool.close().await;
    Ok(Rows {
        initial,
        adjusted,
        available,
        orders,
        refunds,
        tables,
    })
}

struct RedisView {
    stock: i64,
    outbox: usize,
    /// Order and units by user, of live holds.
    holds: HashMap<i64, (String, i64)>,
}

async fn read_redis(world: &World, voucher: VoucherId) -> Result<RedisView> {
    let key = |part: &str| world.sale_key(voucher, part);
    let url = world.stack.setting("REDIS_URL");
    let mut connection = connection_for(url, &key("sale")).await?;
    let stock: i64 = connection.hget(key("sale"), "stock").await?;
    // One field of each hash names the load.
    let outbox: usize = connection.hlen(key("outbox")).await?;
    let outbox = outbox.saturating_sub(1);
    let all: HashMap<String, String> = connection.hgetall(key("holds")).await?;
    let mut holds = HashMap::new();
    let of_user = |field: &str| field != "load" && !field.starts_with("adj:");
    for (user, hold) in all.iter().filter(|(field, _)| of_user(field)) {
        let fields: Vec<&str> = hold.split('|').collect();
        ensure!(fields.len() == 6, "a hold of another format: {hold}");
        if fields[2] != "r" {
            ensure!(fields[2] == "s", "a hold that nothing has settled: {hold}");
            let order = (fields[0].to_owned(), fields[1].parse()?);
            holds.insert(user.parse()?, order);
        }
    }
    Ok(RedisView {
        stock,
        outbox,
        holds,
    })
}
