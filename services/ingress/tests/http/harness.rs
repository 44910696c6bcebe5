//! An ingress on stores of its own, and the projector's part: fold, load, settle, by hand.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::{Client, RequestBuilder};
use seckill_credentials::signature;
use seckill_domain::{Effect, LogRef, Offset, Timestamp, UserId, VoucherId};
use seckill_eventlog::{
    EventProducer, KafkaSettings, OutcomeRecord, Record, Topics, create_topics, read_all,
};
use seckill_ingress::buyers::tokens;
use seckill_orderbook::{Orderbook, OrderbookOptions, SkipDecisions, View};
use seckill_service::settings::Secret;
use seckill_stock::{
    ClaimReply, LoadReply, LogIdentity, OpenReply, SettleReply, Stock, StockOptions,
};
use seckill_testkit::ports::free_port;
use seckill_testkit::service::{Env, Service, ServiceSpec};
use seckill_testkit::{Database, Redis, fresh_database, shared_kafka, unique_prefix};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// One, so that a test needs no thought about which.
const PARTITIONS: i32 = 1;
const PARTITION: i32 = 0;
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TOKEN_SECRET: &str = "the token secret of the tests, long enough";
pub(crate) const ADMIN_TOKEN: &str = "the admin token of the tests, long enough";
pub(crate) const WEBHOOK_SECRET: &str = "the webhook secret of the tests, long enough";

/// Status and body.
pub(crate) type Answer = (u16, Value);

pub(crate) struct Rig {
    pub(crate) service: Service,
    pub(crate) redis: Redis,
    pub(crate) http: Client,
    env: Env,
    orderbook: Orderbook,
    stock: Stock,
    producer: EventProducer,
    kafka: KafkaSettings,
    topics: Topics,
    pub(crate) database: Database,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let (database, redis) = (fresh_database().unwrap(), Redis::start().unwrap());
        let (brokers, prefix) = (shared_kafka().unwrap(), unique_prefix());
        let kafka = KafkaSettings::new(&brokers, "ingress-test");
        let topics = Topics::new(&prefix);
        create_topics(&kafka, &topics, PARTITIONS, 1).await.unwrap();
        let orderbook = Orderbook::connect(&OrderbookOptions {
            database_url: database.url(),
            application_name: "ingress-test".to_owned(),
            max_connections: 4,
            holds_connections: false,
            acquire_timeout: PATIENCE,
            statement_timeout: PATIENCE,
            idle_transaction_timeout: PATIENCE,
        })
        .unwrap();
        orderbook.migrate().await.unwrap();
        let env = environment([
            ("KAFKA_BROKERS", &brokers),
            ("TOPIC_PREFIX", &prefix),
            ("REDIS_URL", &redis.url()),
            ("DATABASE_URL", &database.url()),
        ]);
        let stock_options = StockOptions::new(redis.url());
        let stock_options = stock_options.of_deployment(&prefix, LogIdentity::default());
        Self {
            service: Service::start(spec(env.clone())).unwrap(),
            stock: Stock::new(stock_options).unwrap(),
            producer: EventProducer::new(&kafka, &topics, PARTITIONS).unwrap(),
            redis,
            http: Client::new(),
            env,
            orderbook,
            kafka,
            topics,
            database,
        }
    }

    /// One more ingress on the same stores.
    pub(crate) fn spec(&self) -> ServiceSpec {
        spec(self.env.clone())
    }

    /// An ingress with settings that look right, and nothing behind them.
    pub(crate) fn bare_spec() -> ServiceSpec {
        spec(environment([
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("TOPIC_PREFIX", ""),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
        ]))
    }

    pub(crate) fn sale(stock: i64) -> Value {
        json!({
            "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock": stock,
            "max_quantity": 2, "opens_at": "2020-01-01T00:00:00Z",
            "closes_at": "2999-01-01T00:00:00Z", "hold_seconds": 600,
        })
    }

    pub(crate) async fn schedule(&self, body: &Value, key: &str) -> Answer {
        let url = format!("{}/admin/v1/vouchers", self.service.admin_url());
        let request = self.http.post(url).header("idempotency-key", key);
        answer(request.bearer_auth(ADMIN_TOKEN).json(body)).await
    }

    /// A sale that is put up over HTTP, folded, and loaded into Redis.
    pub(crate) async fn scheduled_and_loaded(&mut self, stock: i64) -> VoucherId {
        let scheduled = self.schedule(&Self::sale(stock), "a-key").await;
        assert_eq!(scheduled.0, 202, "{scheduled:?}");
        let voucher = VoucherId::new(scheduled.1["voucher_id"].as_i64().unwrap()).unwrap();
        self.fold().await;
        let sale = self.orderbook.sale(voucher).await.unwrap().unwrap().sale;
        let position = self.position().await;
        let (connection, nonce) = (
            self.stock.connection_for(voucher).await.unwrap(),
            Uuid::new_v4(),
        );
        let claimed = connection.claim(voucher, nonce, sale.epoch).await.unwrap();
        assert!(matches!(claimed, ClaimReply::Claimed { .. }));
        let begun = connection
            .load_begin(nonce, &sale, position, Duration::from_secs(3))
            .await
            .unwrap();
        assert_eq!(begun, LoadReply::Loaded);
        let opened = connection.open(voucher, nonce).await.unwrap();
        assert_eq!(opened, OpenReply::Opened);
        voucher
    }

    /// What the projector does: everything in the log, into PostgreSQL, Redis and the outcomes.
    pub(crate) async fn fold(&mut self) {
        let records = read_all(&self.kafka, &self.topics.events, PATIENCE).await;
        let from = self.position().await;
        let new = records.unwrap();
        let new: Vec<_> = new.iter().filter(|r| r.offset >= from).collect();
        let Some(to) = new.last().map(|record| record.offset.next()) else {
            return;
        };
        let records: Vec<_> = new.into_iter().cloned().collect();
        let batch = Record::batch(&records, PARTITIONS, to);
        assert_eq!(batch.events.len(), records.len());
        let topic = &self.topics.events;
        let skips = SkipDecisions::default();
        let applied = self.orderbook.apply(topic, PARTITION, from, &batch, &skips);
        applied.await.unwrap();
        let page = self.orderbook.effects_page(topic, PARTITION, from, 1_000);
        for effect in page.await.unwrap().effects {
            self.carry_out(&effect).await;
        }
    }

    async fn carry_out(&self, effect: &Effect) {
        let voucher = effect.voucher_id;
        if let Some(op) = &effect.stock {
            let sale = self.orderbook.sale(voucher).await.unwrap().unwrap().sale;
            let (at, to) = (effect.offset, effect.offset.next());
            let ops = [(at, op.clone())];
            let settled = self.stock.settle(voucher, sale.epoch, at, to, &ops).await;
            assert!(matches!(settled.unwrap(), SettleReply::Settled { .. }));
        }
        let outcome = OutcomeRecord::new(
            effect,
            PARTITION,
            LogRef::default(),
            Timestamp::from_micros(0),
        );
        let sent = self.producer.send_outcome(&outcome, None).unwrap();
        sent.await.unwrap();
    }

    async fn position(&self) -> Offset {
        let topic = &self.topics.events;
        let positions = self.orderbook.positions(topic, &[PARTITION], View::Orders);
        positions.await.unwrap()[0].1
    }

    pub(crate) fn orderbook(&self) -> &Orderbook {
        &self.orderbook
    }

    pub(crate) fn token(&self, user: i64) -> String {
        let user = UserId::new(user).unwrap();
        tokens::mint(&Secret::new(TOKEN_SECRET), user, PATIENCE * 10).unwrap()
    }

    pub(crate) async fn get(&self, path: &str, user: Option<i64>) -> Answer {
        let request = self.http.get(format!("{}{path}", self.service.url()));
        answer(match user {
            Some(user) => request.bearer_auth(self.token(user)),
            None => request,
        })
        .await
    }

    /// Without a body where it is null.
    pub(crate) async fn post(&self, path: &str, user: i64, body: Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.service.url()));
        let request = request.bearer_auth(self.token(user));
        answer(if body.is_null() {
            request
        } else {
            request.json(&body)
        })
        .await
    }

    pub(crate) async fn ledger(&self, voucher: VoucherId) -> Value {
        let admin = self.service.admin_url();
        let url = format!("{admin}/admin/v1/vouchers/{voucher}/ledger");
        let (status, body) = answer(self.http.get(url).bearer_auth(ADMIN_TOKEN)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn pay(&self, order_id: &str, payment_id: &str, cents: i64) -> u16 {
        let body = json!({
            "payment_id": payment_id, "order_id": order_id, "amount_cents": cents,
            "currency": "EUR", "paid_at": "2026-05-01T10:00:00Z",
        })
        .to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seconds = i64::try_from(now.as_secs()).unwrap();
        let signature = signature::sign(WEBHOOK_SECRET, seconds, body.as_bytes());
        let url = format!("{}/api/v1/payments/webhook", self.service.url());
        let request = self.http.post(url).header("x-signature", signature);
        let request = request
            .header("content-type", "application/json")
            .body(body);
        answer(request).await.0
    }

    /// Puts another ingress in place of the rig's, with these settings besides.
    pub(crate) fn serve_with(&mut self, settings: &[(&str, &str)]) {
        let mut spec = self.spec();
        let settings = settings.iter().map(|(name, value)| (*name, *value));
        spec.env
            .extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self.service = Service::start(spec).unwrap();
    }

    /// The sum of all series of a metric whose labels contain this.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let url = format!("{}/metrics", self.service.admin_url());
        let text = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let of_name = |line: &&str| {
            let series = line.split([' ', '{']).next();
            series == Some(name) && line.contains(labels)
        };
        let values = text.lines().filter(of_name);
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Reads an order's stream to its end.
    pub(crate) fn stream(&self, order_id: &str, user: i64) -> JoinHandle<String> {
        let url = format!("{}/api/v1/orders/{order_id}/events", self.service.url());
        let request = self
            .http
            .get(url)
            .bearer_auth(self.token(user))
            .timeout(PATIENCE);
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            response.text().await.unwrap()
        })
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn environment(stores: [(&str, &str); 4]) -> Env {
    let own = [
        ("EVENT_PARTITIONS", "1"),
        ("ADMIN_TOKEN", ADMIN_TOKEN),
        ("TOKEN_SECRET", TOKEN_SECRET),
        ("PAYMENT_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("INGRESS_WORKERS", "2"),
    ];
    let all = own.into_iter().chain(stores);
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn spec(mut env: Env) -> ServiceSpec {
    let (port, admin_port) = (free_port().unwrap(), free_port().unwrap());
    env.insert("INGRESS_LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    let admin = format!("127.0.0.1:{admin_port}");
    env.insert("INGRESS_ADMIN_LISTEN".to_owned(), admin);
    ServiceSpec {
        binary: "seckill-ingress".to_owned(),
        env,
        admin_port,
        port: Some(port),
    }
}

/// Waits for a condition, at most as long as is patient.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
