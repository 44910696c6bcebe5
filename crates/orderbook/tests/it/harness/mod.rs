//! What the tests of this crate share: a database of their own, and logs to fold.
#![allow(unreachable_pub, reason = "what is shared inside of one program")]

pub mod expected;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use seckill_domain::{
    Currency, Epoch, Event, EventBody, EventId, KeyHash, LogBatch, Money, Offset, OrderCancelled,
    OrderExpired, OrderId, OrderPaid, PaymentId, Reason, SaleReloaded, SaleScheduled,
    SeckillReserved, StockAdjusted, Terms, Timestamp, Title, UserId, VoucherId,
};
use seckill_orderbook::{Applied, ApplyError, AuditEntry, Orderbook, OrderbookOptions};
use seckill_testkit::Database;
use sqlx::PgPool;
use uuid::Uuid;

pub const TOPIC: &str = "test.order-events.v1";
pub const PARTITION: i32 = 3;
pub const PRICE_CENTS: i64 = 250;

/// An operator's command, where a test is not about who does what.
pub const ENTRY: AuditEntry<'static> = AuditEntry {
    origin: None,
    actor: "ops",
    command: "a command",
    reason: "a test",
    affected: 1,
    voucher_id: None,
    trace: None,
};

pub type Log = Vec<(Offset, Event)>;

/// A migrated database, an order book on it, and a way around the order book.
pub struct Stand {
    pub book: Orderbook,
    pub sql: PgPool,
    pub database: Database,
}

impl Stand {
    pub async fn new() -> Self {
        Self::over(seckill_testkit::fresh_database().unwrap()).await
    }

    /// On a database of a server of the test's own.
    pub async fn over(database: Database) -> Self {
        let book = Orderbook::connect(&options(&database)).unwrap();
        book.migrate().await.unwrap();
        let sql = PgPool::connect(&database.url()).await.unwrap();
        Self {
            book,
            sql,
            database,
        }
    }

    /// Applies the log's records from `from` on in one batch.
    pub async fn apply(
        &self,
        from: i64,
        events: &[(Offset, Event)],
    ) -> Result<Applied, ApplyError> {
        let to = events.last().map_or(Offset::new(from), |(o, _)| o.next());
        let batch = LogBatch::of_events(events.to_vec(), to);
        self.apply_batch(from, &batch).await
    }

    /// Applies a batch that begins at `from`, knowing of all decisions.
    pub async fn apply_batch(&self, from: i64, batch: &LogBatch) -> Result<Applied, ApplyError> {
        let from = Offset::new(from);
        let skips = self.book.skip_decisions(TOPIC, PARTITION, from).await?;
        self.book.apply(TOPIC, PARTITION, from, batch, &skips).await
    }

    pub async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        Ok(sqlx::query(sql).execute(&self.sql).await?.rows_affected())
    }

    /// Throws all rows away, as a rebuild does.
    pub async fn clear(&self) {
        self.execute(
            "TRUNCATE vouchers, orders, refunds, stock_adjustments, sale_reloads, view_positions",
        )
        .await
        .unwrap();
    }
}

pub fn options(database: &Database) -> OrderbookOptions {
    OrderbookOptions {
        database_url: database.url(),
        application_name: "orderbook-test".to_owned(),
        max_connections: 8,
        holds_connections: false,
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
        idle_transaction_timeout: Duration::from_secs(30),
    }
}

/// Numbers the events from `first` on.
pub fn log_from(first: i64, bodies: impl IntoIterator<Item = (VoucherId, EventBody)>) -> Log {
    (first..)
        .zip(bodies)
        .map(|(offset, (voucher, body))| (Offset::new(offset), event(voucher, offset, body)))
        .collect()
}

pub fn event(voucher_id: VoucherId, offset: i64, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::from_u128(offset.unsigned_abs().into())),
        voucher_id,
        occurred_at: at(offset),
        body,
    }
}

/// Odd microseconds, so that a loss of precision shows.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_763_000_000_123_457 + seconds * 1_000_001)
}

pub fn voucher(number: i64) -> VoucherId {
    VoucherId::new(number).unwrap()
}

pub fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

pub fn order_id(of: VoucherId, counter: u64) -> OrderId {
    OrderId::from_parts(of, 7, counter)
}

pub fn key(byte: u8) -> KeyHash {
    KeyHash::from_bytes([byte; 16])
}

pub fn money(cents: i64) -> Money {
    let currency: Currency = "EUR".parse().unwrap();
    Money::new(cents, currency).unwrap()
}

pub fn scheduled(stock: i64) -> EventBody {
    EventBody::SaleScheduled(SaleScheduled {
        terms: Terms {
            title: Title::new("Größe 42 — 秒杀").unwrap(),
            price: money(PRICE_CENTS),
            stock,
            max_quantity: 3,
            opens_at: at(0),
            closes_at: at(3600),
            hold_seconds: 300,
            requires_sale_token: false,
        },
    })
}

pub fn reserved(order_id: OrderId, user_id: UserId, quantity: u32) -> EventBody {
    EventBody::SeckillReserved(SeckillReserved {
        order_id,
        user_id,
        quantity,
        price: money(PRICE_CENTS),
        pay_by: at(300),
        epoch: Epoch::FIRST,
        key_hash: None,
    })
}

pub fn with_key(body: EventBody, key_hash: KeyHash) -> EventBody {
    let EventBody::SeckillReserved(e) = body else {
        panic!("only reservations have keys");
    };
    EventBody::SeckillReserved(SeckillReserved {
        key_hash: Some(key_hash),
        ..e
    })
}

pub fn paid(order_id: OrderId, payment: &str, cents: i64) -> EventBody {
    EventBody::OrderPaid(OrderPaid {
        order_id,
        payment_id: PaymentId::new(payment).unwrap(),
        amount: money(cents),
        paid_at: at(10),
    })
}

pub fn cancelled(order_id: OrderId, user_id: UserId) -> EventBody {
    EventBody::OrderCancelled(OrderCancelled { order_id, user_id })
}

pub fn expired(order_id: OrderId) -> EventBody {
    EventBody::OrderExpired(OrderExpired {
        order_id,
        pay_by: at(300),
    })
}

pub fn adjusted(delta: i64, epoch: Option<i64>) -> EventBody {
    EventBody::StockAdjusted(StockAdjusted {
        delta,
        reason: Reason::new(format!("by {delta}")).unwrap(),
        epoch: epoch.map(Epoch::new),
    })
}

pub fn reloaded(previous: i64, nonce: u128) -> EventBody {
    EventBody::SaleReloaded(SaleReloaded {
        previous: Epoch::new(previous),
        epoch: Epoch::new(previous + 1),
        nonce: Uuid::from_u128(nonce),
        first: None,
    })
}

/// Logs in which everything meets everything: few buyers, orders, payments and nonces, two sales
/// and one that is never put up, records again and again, offsets with holes.
pub fn logs() -> impl Strategy<Value = Log> {
    let record = (1..=3_i64, body());
    prop::collection::vec(record, 1..120).prop_map(|records| {
        let mut offset = 0;
        let schedule = (1, (voucher(1), None, scheduled(12)));
        let records = std::iter::once(schedule).chain(records);
        records
            .map(|(step, (voucher, event_id, body))| {
                offset += step;
                let mut event = event(voucher, offset, body);
                event.event_id = event_id.unwrap_or(event.event_id);
                (Offset::new(offset), event)
            })
            .collect()
    })
}

/// Failures are printed as whole logs, which is enough to repeat them.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

type Body = (VoucherId, Option<EventId>, EventBody);

fn body() -> impl Strategy<Value = Body> {
    let order = || {
        let voucher_number = prop_oneof![8 => Just(1_i64), 4 => Just(2), 1 => Just(3)];
        (voucher_number, 0..24_u64).prop_map(|(v, n)| (order_id(voucher(v), n), n))
    };
    prop_oneof![
        10 => (order(), 1..=2_i64, any::<bool>()).prop_map(|((id, n), epoch, keyed)| {
            reservation(id, n, epoch, keyed)
        }),
        5 => (order(), 0..10_u64, any::<bool>()).prop_map(|((id, n), payment, right)| {
            let cents = PRICE_CENTS * i64::from(quantity_of(n)) + i64::from(!right);
            of_order(id, paid(id, &format!("pay-{payment}"), cents))
        }),
        3 => (order(), 0..6_u64).prop_map(|((id, n), other)| {
            of_order(id, cancelled(id, user_of(n + other / 5)))
        }),
        4 => order().prop_map(|(id, _)| of_order(id, expired(id))),
        2 => adjustment(),
        1 => (1..=3_i64, 1..=2_i64, 0..3_u128).prop_map(|(v, previous, nonce)| {
            (voucher(v), None, reloaded(previous, nonce))
        }),
        1 => Just((voucher(2), None, scheduled(5))),
        1 => (1..=3_i64).prop_map(|v| (voucher(v), None, EventBody::SaleClosed)),
    ]
}

fn adjustment() -> impl Strategy<Value = Body> {
    let delta = prop_oneof![-4..=-1_i64, 1..=4_i64];
    (1..=3_i64, 0..6_u128, delta, prop::option::of(1..=2_i64)).prop_map(|(v, id, delta, epoch)| {
        // An adjustment's id is its voucher's alone, and comes again with the same content or not.
        let id = (v.unsigned_abs() as u128) << 100 | id;
        let id = EventId::from_uuid(Uuid::from_u128(id));
        (voucher(v), Some(id), adjusted(delta, epoch))
    })
}

fn of_order(id: OrderId, body: EventBody) -> Body {
    (id.voucher_id(), None, body)
}

fn user_of(counter: u64) -> UserId {
    user((counter % 5 + 1).cast_signed())
}

fn quantity_of(counter: u64) -> u32 {
    if counter.is_multiple_of(3) { 2 } else { 1 }
}

fn reservation(id: OrderId, counter: u64, epoch: i64, keyed: bool) -> Body {
    let EventBody::SeckillReserved(e) = reserved(id, user_of(counter), quantity_of(counter)) else {
        unreachable!("made above");
    };
    let body = EventBody::SeckillReserved(SeckillReserved {
        epoch: Epoch::new(epoch),
        key_hash: keyed.then(|| key(9)),
        ..e
    });
    of_order(id, body)
}
