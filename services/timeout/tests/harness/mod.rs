//! Real stores with one sale, and orders whose deadlines a test chooses.
#![allow(dead_code, reason = "every test file takes its part of this")]

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{
    Epoch, Event, EventBody, EventId, LogBatch, Money, Offset, OrderExpired, OrderId,
    SaleScheduled, SeckillReserved, Terms, Timestamp, Title, UserId, VoucherId, partition_of,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Record, Topics, create_topics, read_all};
use seckill_orderbook::{Orderbook, OrderbookOptions, SkipDecisions};
use seckill_stock::{Stock, StockOptions};
use seckill_testkit::{Database, Redis, fresh_database, shared_kafka, unique_prefix};
use seckill_timeout::clocks::{Clocks, StoreClocks};
use seckill_timeout::expirer::{Expirer, ExpirerOptions};
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const GRACE: Duration = Duration::from_secs(1);
pub(crate) const HOUR_US: i64 = 3_600_000_000;

pub(crate) struct ExpiryWorld {
    pub(crate) kafka: KafkaSettings,
    pub(crate) prefix: String,
    pub(crate) topics: Topics,
    pub(crate) database: Database,
    pub(crate) redis: Redis,
    pub(crate) orderbook: Orderbook,
}

impl ExpiryWorld {
    pub(crate) async fn start() -> Self {
        let kafka = KafkaSettings::new(shared_kafka().unwrap(), "test");
        let prefix = unique_prefix();
        let topics = Topics::new(&prefix);
        create_topics(&kafka, &topics, PARTITIONS, 1).await.unwrap();
        let database = fresh_database().unwrap();
        let timeout = Duration::from_secs(10);
        let orderbook = Orderbook::connect(&OrderbookOptions {
            database_url: database.url(),
            application_name: "test".to_owned(),
            max_connections: 4,
            holds_connections: false,
            acquire_timeout: timeout,
            statement_timeout: timeout,
            idle_transaction_timeout: timeout,
        })
        .unwrap();
        orderbook.migrate().await.unwrap();
        Self {
            kafka,
            prefix,
            topics,
            database,
            redis: Redis::start().unwrap(),
            orderbook,
        }
    }

    /// One unpaid order for each deadline, in microseconds from now.
    pub(crate) async fn reserve(&self, pay_by_from_now_us: &[i64]) -> Vec<OrderId> {
        let voucher = VoucherId::new(1).unwrap();
        let now = self.orderbook.now().await.unwrap();
        let mut bodies = vec![scheduled(pay_by_from_now_us.len())];
        let mut orders = Vec::new();
        for (number, from_now_us) in (1..).zip(pay_by_from_now_us) {
            let order_id = OrderId::from_parts(voucher, 1, number);
            let pay_by = Timestamp::from_micros(now.as_micros() + from_now_us);
            bodies.push(reserved(order_id, pay_by));
            orders.push(order_id);
        }
        let events: Vec<_> = (0..)
            .map(Offset::new)
            .zip(bodies.into_iter().map(|body| event(voucher, now, body)))
            .collect();
        let end = events.last().unwrap().0.next();
        let partition = partition_of(voucher.to_string().as_bytes(), PARTITIONS);
        let topic = &self.topics.events;
        let (count, batch) = (events.len(), LogBatch::of_events(events, end));
        let (start, skips) = (Offset::new(0), SkipDecisions::default());
        let applied = self
            .orderbook
            .apply(topic, partition, start, &batch, &skips);
        assert_eq!(applied.await.unwrap().decisions.len(), count);
        orders
    }

    pub(crate) fn clocks(&self) -> StoreClocks {
        StoreClocks {
            orderbook: self.orderbook.clone(),
            stock: Stock::new(StockOptions::new(self.redis.url())).unwrap(),
        }
    }

    pub(crate) fn expirer(&self) -> Expirer<StoreClocks> {
        self.expirer_with(self.clocks(), &self.kafka, 100)
    }

    pub(crate) fn expirer_with<C: Clocks>(
        &self,
        clocks: C,
        kafka: &KafkaSettings,
        page_size: u32,
    ) -> Expirer<C> {
        let claim_for = Duration::from_secs(2);
        self.expirer_claiming_for(clocks, kafka, page_size, claim_for)
    }

    pub(crate) fn expirer_claiming_for<C: Clocks>(
        &self,
        clocks: C,
        kafka: &KafkaSettings,
        page_size: u32,
        claim_for: Duration,
    ) -> Expirer<C> {
        let producer = EventProducer::new(kafka, &self.topics, PARTITIONS).unwrap();
        let options = ExpirerOptions {
            grace: GRACE,
            page_size,
            claim_for,
        };
        Expirer::new(self.orderbook.clone(), Arc::new(producer), clocks, options)
    }

    /// The expiries in the log, which must contain nothing else.
    pub(crate) async fn expiries(&self) -> Vec<(OrderExpired, Event, Record)> {
        let log = read_all(&self.kafka, &self.topics.events, Duration::from_secs(30));
        let expiry = |record: Record| {
            let event = record.event(PARTITIONS).unwrap();
            match &event.body {
                EventBody::OrderExpired(expired) => (expired.clone(), event, record),
                other => panic!("{other:?}"),
            }
        };
        log.await.unwrap().into_iter().map(expiry).collect()
    }

    /// The orders that the log says expired, sorted.
    pub(crate) async fn expired(&self) -> Vec<OrderId> {
        let expiries = self.expiries().await;
        let mut orders: Vec<_> = expiries.iter().map(|(e, ..)| e.order_id).collect();
        orders.sort_unstable();
        orders
    }
}

fn event(voucher_id: VoucherId, occurred_at: Timestamp, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id,
        occurred_at,
        body,
    }
}

fn price() -> Money {
    Money::new(4900, "EUR".parse().unwrap()).unwrap()
}

fn scheduled(stock: usize) -> EventBody {
    EventBody::SaleScheduled(SaleScheduled {
        terms: Terms {
            title: Title::new("a sale").unwrap(),
            price: price(),
            stock: i64::try_from(stock).unwrap(),
            max_quantity: 1,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(HOUR_US),
            hold_seconds: 900,
            requires_sale_token: false,
        },
    })
}

fn reserved(order_id: OrderId, pay_by: Timestamp) -> EventBody {
    let (_, number) = order_id.as_uuid().as_u64_pair();
    EventBody::SeckillReserved(SeckillReserved {
        order_id,
        // A different buyer for each order: the counter is in the lowest bits.
        user_id: UserId::new(i64::try_from(number & 0xffff).unwrap()).unwrap(),
        quantity: 1,
        price: price(),
        pay_by,
        epoch: Epoch::FIRST,
        key_hash: None,
    })
}
