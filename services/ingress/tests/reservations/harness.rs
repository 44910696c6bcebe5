//! One sale in a Redis of its own, an event topic of its own, and reservations over both.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seckill_domain::{
    Currency, Epoch, Event, EventBody, EventId, KeyHash, Money, Offset, OrderId, Sale,
    SaleScheduled, SeckillReserved, Terms, Timestamp, Title, TraceParent, UserId, VoucherId,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics, create_topics, read_all};
use seckill_ingress::orders::reservations::{PlaceOrder, Reservations, ReservationsOptions};
use seckill_stock::{
    ClaimReply, LoadReply, OpenReply, OutboxCursor, PendingEvent, Probe, SaleView, Stock,
    StockOptions,
};
use seckill_testkit::{Redis, shared_kafka, unique_prefix};
use tokio::runtime::Handle;
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// What a test may want different.
pub(crate) struct Conditions {
    pub(crate) units: i64,
    pub(crate) promise_deadline: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// A broker of the test's own instead of the shared one.
    pub(crate) brokers: Option<String>,
}

impl Default for Conditions {
    /// Patient: only what a test shortens is ever over.
    fn default() -> Self {
        Self {
            units: 100,
            promise_deadline: Duration::from_secs(20),
            delivery_timeout: Duration::from_secs(20),
            max_in_flight: 20_000,
            brokers: None,
        }
    }
}

pub(crate) struct Rig {
    pub(crate) redis: Redis,
    pub(crate) stock: Stock,
    pub(crate) topics: Topics,
    pub(crate) voucher: VoucherId,
    pub(crate) sale: Sale,
    pub(crate) reservations: Reservations,
    settings: KafkaSettings,
    options: ReservationsOptions,
}

impl Rig {
    pub(crate) async fn start(conditions: Conditions) -> Self {
        let brokers = conditions
            .brokers
            .unwrap_or_else(|| shared_kafka().unwrap());
        let mut settings = KafkaSettings::new(brokers, "reservations-test");
        settings.delivery_timeout = conditions.delivery_timeout;
        let topics = Topics::new(&unique_prefix());
        create_topics(&settings, &topics, PARTITIONS, 1)
            .await
            .unwrap();
        let redis = Redis::start().unwrap();
        let options = ReservationsOptions {
            promise_deadline: conditions.promise_deadline,
            delivery_timeout: conditions.delivery_timeout,
            max_in_flight: conditions.max_in_flight,
            queue_patience: conditions.promise_deadline,
        };
        let stock = connect(&redis);
        let sale = sale(conditions.units);
        load(&stock, &sale).await;
        Self {
            reservations: reservations(&redis, &settings, &topics, options).await,
            redis,
            stock,
            topics,
            voucher: sale.voucher_id,
            sale,
            settings,
            options,
        }
    }

    /// Reservations of another process: nothing is shared but Redis and Kafka.
    pub(crate) async fn another_process(&self) -> Reservations {
        reservations(&self.redis, &self.settings, &self.topics, self.options).await
    }

    /// All reservations in the log, oldest first, duplicates included.
    pub(crate) async fn logged(&self) -> Vec<SeckillReserved> {
        let reserved = |event: Event| match event.body {
            EventBody::SeckillReserved(reserved) => Some(reserved),
            _ => None,
        };
        let events = self.logged_events().await;
        events.into_iter().filter_map(reserved).collect()
    }

    /// All events in the log.
    pub(crate) async fn logged_events(&self) -> Vec<Event> {
        let records = read_all(&self.settings, &self.topics.events, PATIENCE)
            .await
            .unwrap();
        let decode = |record: &seckill_eventlog::Record| record.event(PARTITIONS).unwrap();
        records.iter().map(decode).collect()
    }

    /// What waits for an ack.
    pub(crate) async fn outbox(&self) -> Vec<PendingEvent> {
        let page = self
            .stock
            .outbox(self.voucher, Duration::ZERO, OutboxCursor::START)
            .await;
        page.unwrap().expect("the sale is served").entries
    }

    pub(crate) async fn view(&self) -> SaleView {
        match self.stock.probe(self.voucher).await.unwrap() {
            Probe::Open(view) => view,
            Probe::NotServed { .. } => panic!("the sale is not served"),
        }
    }

    /// Waits until every ack has cleared its entry.
    pub(crate) async fn outbox_is_cleared(&self) {
        eventually("the outbox to be cleared", async || {
            self.outbox().await.is_empty()
        })
        .await;
    }

    /// The event that put the sale up.
    pub(crate) fn scheduled(&self) -> Event {
        Event {
            event_id: EventId::from_uuid(Uuid::now_v7()),
            voucher_id: self.voucher,
            occurred_at: self.sale.terms.opens_at,
            body: EventBody::SaleScheduled(SaleScheduled {
                terms: self.sale.terms.clone(),
            }),
        }
    }
}

fn connect(redis: &Redis) -> Stock {
    let mut options = StockOptions::new(redis.url());
    options.response_timeout = Duration::from_millis(300);
    Stock::new(options).unwrap()
}

async fn reservations(
    redis: &Redis,
    settings: &KafkaSettings,
    topics: &Topics,
    options: ReservationsOptions,
) -> Reservations {
    let producer = EventProducer::new(settings, topics, PARTITIONS).unwrap();
    // The partitions of a topic that was just made have no leader for a moment.
    eventually("the producer to be warm", async || {
        producer.warm_up(PATIENCE).await.is_ok()
    })
    .await;
    let (stock, pages) = (connect(redis), connect(redis));
    Reservations::new(stock, pages, Arc::new(producer), options, Handle::current())
}

fn sale(units: i64) -> Sale {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_us = i64::try_from(now.as_micros()).unwrap();
    let hour_us = 3_600_000_000;
    let currency: Currency = "EUR".parse().unwrap();
    // Vouchers of tests that share a broker have topics of their own: any id will do.
    let voucher_id = VoucherId::new(7).unwrap();
    Sale {
        voucher_id,
        terms: Terms {
            title: Title::new("Kettle").unwrap(),
            price: Money::new(1_999, currency).unwrap(),
            stock: units,
            max_quantity: 2,
            opens_at: Timestamp::from_micros(now_us - hour_us),
            closes_at: Timestamp::from_micros(now_us + hour_us),
            hold_seconds: 900,
            requires_sale_token: false,
        },
        adjusted: 0,
        available: units,
        unpaid: 0,
        paid: 0,
        epoch: Epoch::FIRST,
        scheduled_offset: Offset::new(0),
        closed: None,
    }
}

async fn load(stock: &Stock, sale: &Sale) {
    let (voucher, nonce) = (sale.voucher_id, Uuid::new_v4());
    let connection = stock.connection_for(voucher).await.unwrap();
    let claimed = connection.claim(voucher, nonce, sale.epoch).await.unwrap();
    assert!(matches!(claimed, ClaimReply::Claimed { .. }));
    let begun = connection
        .load_begin(
            nonce,
            sale,
            sale.scheduled_offset.next(),
            Duration::from_secs(3),
        )
        .await;
    assert_eq!(begun.unwrap(), LoadReply::Loaded);
    let opened = connection.open(voucher, nonce).await.unwrap();
    assert_eq!(opened, OpenReply::Opened);
}

/// A request for one unit.
pub(crate) fn order(user: i64, key: Option<u8>) -> PlaceOrder {
    PlaceOrder {
        user_id: UserId::new(user).unwrap(),
        quantity: 1,
        key_hash: key.map(|byte| KeyHash::from_bytes([byte; 16])),
        traceparent: TraceParent::generate(1, 1),
        sale_token: None,
    }
}

/// Waits for a condition, never for ever.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Sorted, without repetitions.
pub(crate) fn distinct(orders: impl IntoIterator<Item = OrderId>) -> Vec<OrderId> {
    let mut ids: Vec<OrderId> = orders.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
