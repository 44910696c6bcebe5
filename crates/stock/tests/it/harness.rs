//! A server, a handle, and sales to load.

use std::time::Duration;

use seckill_domain::{
    Epoch, EventId, KeyHash, Money, Offset, OrderId, Sale, StockOp, Terms, Timestamp, Title,
    UserId, VoucherId,
};
use seckill_stock::{
    Attempt, ClaimReply, Hold, HoldState, LoadReply, OpenReply, OutboxCursor, PendingEvent,
    PendingReservation, Probe, ReserveOutcome, ReserveReply, ReserveRequest, SaleView, SettleReply,
    Stock, StockError, StockOptions,
};
use seckill_testkit::Redis;
use uuid::Uuid;

pub(crate) const FAR_FUTURE: Timestamp = Timestamp::from_micros(4_102_444_800_000_000);
pub(crate) const HOLD_SECONDS: u32 = 900;
/// The promise deadline that sales are loaded with.
pub(crate) const PROMISE: Duration = Duration::from_secs(3);
/// The longest lease on sold-out, as in `reserve.lua`.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_millis(40);
/// The answer to a claim where there was no sale, or one without a promise deadline.
pub(crate) const CLAIMED: ClaimReply = ClaimReply::Claimed {
    promised_under: None,
};

/// A server of its own and a handle on it.
pub(crate) struct Server {
    pub(crate) redis: Redis,
    pub(crate) stock: Stock,
}

impl Server {
    pub(crate) fn start() -> Self {
        let redis = Redis::start().expect("redis-server starts");
        let stock = Stock::new(options(&redis)).expect("the URL is good");
        Self { redis, stock }
    }

    /// With voucher 7 loaded: 10 units, at most 3 an order, open, position 1.
    pub(crate) async fn with_sale() -> Self {
        let server = Self::start();
        load(&server.stock, &sale(10), Offset::new(1)).await;
        server
    }

    /// From now on it refuses writes, as a master that was cut off from its replicas.
    pub(crate) async fn cut_off(&self) {
        let mut raw = self.raw().await;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("min-replicas-to-write").arg(1);
        set.exec_async(&mut raw).await.unwrap();
    }

    /// A connection for what no typed call does.
    pub(crate) async fn raw(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis.url()).expect("the URL is good");
        let connection = client.get_multiplexed_async_connection().await;
        connection.expect("Redis answers")
    }
}

pub(crate) fn options(redis: &Redis) -> StockOptions {
    StockOptions {
        // A loaded test machine must not look like a lost server.
        response_timeout: Duration::from_secs(10),
        ..StockOptions::new(redis.url())
    }
}

pub(crate) fn voucher() -> VoucherId {
    VoucherId::new(7).expect("in range")
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).expect("positive")
}

pub(crate) fn order(number: u64) -> OrderId {
    OrderId::from_parts(voucher(), 1, number)
}

pub(crate) fn event(number: u128) -> EventId {
    EventId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn key(number: u8) -> KeyHash {
    KeyHash::from_bytes([number; 16])
}

pub(crate) fn nonce(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn price() -> Money {
    Money::new(1999, "EUR".parse().expect("a currency")).expect("not negative")
}

pub(crate) fn sale(stock: i64) -> Sale {
    Sale {
        voucher_id: voucher(),
        terms: Terms {
            title: Title::new("A fountain pen").unwrap(),
            price: price(),
            stock,
            max_quantity: 3,
            opens_at: Timestamp::from_micros(0),
            closes_at: FAR_FUTURE,
            hold_seconds: HOLD_SECONDS,
            requires_sale_token: false,
        },
        adjusted: 0,
        available: stock,
        unpaid: 0,
        paid: 0,
        epoch: Epoch::FIRST,
        scheduled_offset: Offset::new(0),
        closed: None,
    }
}

/// Loads a sale, each epoch under another nonce.
pub(crate) async fn load(stock: &Stock, sale: &Sale, position: Offset) {
    let voucher = sale.voucher_id;
    let nonce = nonce(u128::try_from(sale.epoch.get()).unwrap());
    let connection = stock.connection_for(voucher).await;
    let connection = connection.expect("Redis answers");
    let claim = connection.claim(voucher, nonce, sale.epoch).await;
    assert!(matches!(claim.expect("claim"), ClaimReply::Claimed { .. }));
    let begun = connection.load_begin(nonce, sale, position, PROMISE).await;
    assert_eq!(begun.expect("load_begin"), LoadReply::Loaded);
    let opened = connection.open(voucher, nonce).await;
    assert_eq!(opened.expect("open"), OpenReply::Opened);
}

/// A request for one unit without a key; order and event id are made of `number`.
pub(crate) fn request(number: u64, user_number: i64) -> ReserveRequest {
    ReserveRequest {
        order_id: order(number),
        event_id: event(u128::from(number)),
        user_id: user(user_number),
        quantity: 1,
        key_hash: None,
        traceparent: None,
        sale_token: None,
    }
}

/// The outcomes of a call to a sale that was loaded by [`load`].
pub(crate) fn outcomes(reply: Result<ReserveReply, StockError>) -> Vec<ReserveOutcome> {
    match reply {
        Ok(ReserveReply::Decided {
            outcomes,
            promise_deadline: Some(PROMISE),
            ..
        }) => outcomes,
        other => panic!("not decided: {other:?}"),
    }
}

pub(crate) async fn reserve(stock: &Stock, requests: &[ReserveRequest]) -> Vec<ReserveOutcome> {
    let reply = stock.reserve(voucher(), requests, &[], Attempt::First);
    outcomes(reply.await)
}

pub(crate) async fn reserve_one(stock: &Stock, request: &ReserveRequest) -> ReserveOutcome {
    let outcomes = reserve(stock, std::slice::from_ref(request)).await;
    outcomes.into_iter().next().expect("one outcome a request")
}

pub(crate) async fn granted(stock: &Stock, request: &ReserveRequest) -> PendingReservation {
    match reserve_one(stock, request).await {
        ReserveOutcome::Granted(reservation) => reservation,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn view(stock: &Stock) -> SaleView {
    match stock.probe(voucher()).await.expect("Redis answers") {
        Probe::Open(view) => view,
        Probe::NotServed { epoch } => panic!("not served, epoch {epoch:?}"),
    }
}

/// Stock, held, unsettled.
pub(crate) async fn units(stock: &Stock) -> (i64, i64, i64) {
    let view = view(stock).await;
    (view.stock, view.held, view.unsettled)
}

pub(crate) async fn hold(stock: &Stock, user_number: i64) -> Option<Hold> {
    let hold = stock.hold(voucher(), user(user_number)).await;
    hold.expect("Redis answers").1
}

pub(crate) async fn hold_state(stock: &Stock, user_number: i64) -> Option<HoldState> {
    hold(stock, user_number).await.map(|hold| hold.state)
}

/// All pending events, whatever their age.
pub(crate) async fn outbox(stock: &Stock) -> Vec<PendingEvent> {
    let mut entries = Vec::new();
    let mut cursor = Some(OutboxCursor::START);
    while let Some(at) = cursor {
        let page = stock.outbox(voucher(), Duration::ZERO, at).await;
        let page = page.expect("Redis answers").expect("the sale is open");
        entries.extend(page.entries);
        cursor = page.next;
    }
    entries
}

pub(crate) fn confirm(of: &PendingReservation) -> StockOp {
    StockOp::Confirm {
        order_id: of.order_id,
        user_id: of.user_id,
        quantity: of.quantity,
        key_hash: of.key_hash,
        pay_by: of.pay_by,
    }
}

pub(crate) fn release(of: &PendingReservation) -> StockOp {
    StockOp::Release {
        order_id: of.order_id,
        user_id: of.user_id,
    }
}

/// Settles one decision, at this position.
pub(crate) async fn settle_one(server: &Server, at: i64, op: StockOp) {
    let (from, to) = (Offset::new(at), Offset::new(at + 1));
    let ops = [(from, op)];
    let settled = server
        .stock
        .settle(voucher(), Epoch::FIRST, from, to, &ops)
        .await;
    let position = to;
    assert_eq!(settled.unwrap(), SettleReply::Settled { position });
}
