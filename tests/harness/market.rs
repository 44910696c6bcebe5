//! A set of orders: for every buyer one in every state that an order can have.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use seckill_domain::{
    Epoch, Event, EventBody, EventId, Money, OrderId, SeckillReserved, Timestamp, UserId, VoucherId,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics, read_all};
use uuid::Uuid;

use crate::client::Answer;
use crate::consistency::check_consistency;
use crate::waits::eventually;
use crate::world::{SaleTerms, World};

/// The state of an order, and how it got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// Only Redis knows it.
    Pending,
    /// Waits for its payment.
    Unpaid,
    /// Paid.
    Paid,
    /// Paid twice, so a refund is due.
    PaidTwice,
    /// Not paid in time.
    Expired,
    /// Paid after it had expired, so a refund is due.
    PaidTooLate,
    /// Cancelled by its buyer.
    Cancelled,
    /// Rejected by the fold, because its buyer has another order.
    Rejected,
}

impl OrderState {
    const ALL: [Self; 8] = [
        Self::Rejected,
        Self::Unpaid,
        Self::Paid,
        Self::PaidTwice,
        Self::Expired,
        Self::PaidTooLate,
        Self::Cancelled,
        Self::Pending,
    ];

    /// The order's `status`.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unpaid => "unpaid",
            Self::Paid | Self::PaidTwice => "paid",
            Self::Expired | Self::PaidTooLate => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    const fn payments(self) -> usize {
        match self {
            Self::Paid | Self::PaidTooLate => 1,
            Self::PaidTwice => 2,
            _ => 0,
        }
    }

    const fn refund_due(self) -> bool {
        matches!(self, Self::PaidTwice | Self::PaidTooLate)
    }

    const fn hold_seconds(self) -> u32 {
        match self {
            Self::Expired | Self::PaidTooLate => 1,
            _ => 600,
        }
    }
}

/// One order of a [`Market`].
#[derive(Debug, Clone)]
pub struct MarketOrder {
    /// Its buyer.
    pub buyer: u64,
    /// Its state.
    pub state: OrderState,
    pub order_id: String,
}

/// Schedules the sale whose orders are brought into this state.
async fn put_up(world: &World, state: OrderState) -> Result<VoucherId> {
    let terms = SaleTerms {
        hold_seconds: state.hold_seconds(),
        ..SaleTerms::of(100)
    };
    world.sale(terms).await
}

/// Lets every buyer order, and brings the orders into this state, as far as buyers and the payment provider can.
async fn bring_into(world: &World, state: OrderState, voucher: VoucherId) -> Result<Vec<Answer>> {
    let buys = |buyer| async move {
        let client = &world.client;
        // All buyers use the same key. It belongs to the buyer, and does not lead to orders of others.
        let answer = client.order(voucher, buyer, Some("same"), 1).await?;
        let id = answer.order_id().with_context(|| format!("{answer:?}"))?;
        if state == OrderState::PaidTooLate {
            world.until_status(buyer, id, "expired").await?;
        }
        for number in 0..state.payments() {
            let payment = format!("{voucher}-{buyer}-{number}");
            ensure!(client.pay(id, &payment, 1_000).await?.status == 202);
        }
        if state == OrderState::Cancelled {
            world.until_status(buyer, id, "unpaid").await?;
            ensure!(client.cancel(buyer, id).await?.status == 202);
        }
        Ok(answer)
    };
    try_join_all((1..=Market::BUYERS).map(buys)).await
}

/// Makes a second reservation for every buyer in a sale in which every buyer already has one.
async fn reserve_again(world: &World, voucher: VoucherId) -> Result<Vec<String>> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let producer = EventProducer::new(
        &settings,
        &topics,
        world.stack.setting("EVENT_PARTITIONS").parse()?,
    )?;
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let mut ids = Vec::new();
    for buyer in 1..=Market::BUYERS {
        let order_id = OrderId::from_parts(voucher, 9, buyer);
        let reserved = SeckillReserved {
            order_id,
            user_id: UserId::new(i64::try_from(buyer)?)?,
            quantity: 1,
            price: Money::new(1_000, "EUR".parse()?)?,
            pay_by: now,
            epoch: Epoch::FIRST,
            key_hash: None,
        };
        let event = Event {
            event_id: EventId::from_uuid(Uuid::now_v7()),
            voucher_id: voucher,
            occurred_at: now,
            body: EventBody::SeckillReserved(reserved),
        };
        drop(producer.send_event(&event, None)?);
        ids.push(order_id.to_string());
    }
    producer.flush(Duration::from_secs(30)).await?;
    Ok(ids)
}

/// One sale of a [`Market`].
#[derive(Debug)]
struct Sale {
    voucher: VoucherId,
    answers: Vec<Answer>,
    orders: Vec<MarketOrder>,
}

impl Sale {
    /// Every buyer gets an order in this state.
    async fn fill(world: &World, state: OrderState, voucher: VoucherId) -> Result<Self> {
        let answers = bring_into(world, state, voucher).await?;
        let ids: Vec<String> = if state == OrderState::Rejected {
            reserve_again(world, voucher).await?
        } else {
            let ids = answers.iter().filter_map(Answer::order_id);
            ids.map(str::to_owned).collect()
        };
        let mut orders = Vec::new();
        for (buyer, order_id) in (1..=Market::BUYERS).zip(ids) {
            let (client, path) = (&world.client, format!("/api/v1/orders/{order_id}"));
            eventually("the order is what it is to be", || async {
                let order = client.get(buyer, &path).await?.body;
                let refund_due = order["refund_due"] == true;
                Ok(order["status"] == state.status() && refund_due == state.refund_due())
            })
            .await?;
            orders.push(MarketOrder {
                buyer,
                state,
                order_id,
            });
        }
        Ok(Self {
            voucher,
            answers,
            orders,
        })
    }
}

/// One sale for each state. In the sale of the rejected orders, every buyer also has a live order, which is not listed
/// here.
#[derive(Debug)]
pub struct Market {
    /// The stores and services. The projector is stopped, so that pending orders stay pending.
    pub world: World,
    sales: Vec<Sale>,
}

impl Market {
    /// The number of buyers, who are the users from 1 to this number.
    pub const BUYERS: u64 = 12;

    /// Brings all orders into their states.
    ///
    /// # Errors
    /// When the services refuse or an order does not get there in time.
    pub async fn open() -> Result<Self> {
        let mut world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
        let vouchers = OrderState::ALL.map(|state| put_up(&world, state));
        let states = OrderState::ALL
            .into_iter()
            .zip(try_join_all(vouchers).await?);
        let (pending, others): (Vec<_>, Vec<_>) =
            states.partition(|(state, _)| *state == OrderState::Pending);
        let others = others.into_iter();
        let filled = others.map(|(state, voucher)| Sale::fill(&world, state, voucher));
        let mut sales = try_join_all(filled).await?;
        world.until_carried_out().await?;
        world.projector.pause()?;
        for (state, voucher) in pending {
            sales.push(Sale::fill(&world, state, voucher).await?);
        }
        Ok(Self { world, sales })
    }

    /// All orders, sale by sale.
    pub fn orders(&self) -> impl Iterator<Item = &MarketOrder> + Clone {
        self.sales.iter().flat_map(|sale| &sale.orders)
    }

    /// The orders of each sale.
    pub fn orders_by_sale(&self) -> impl Iterator<Item = &[MarketOrder]> + Clone {
        self.sales.iter().map(|sale| &*sale.orders)
    }

    /// The number of events in the log without reservations, which a relay may repeat at any time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn events_beside_reservations(&self) -> Result<usize> {
        let setting = |name| self.world.stack.setting(name);
        let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "test");
        let topics = Topics::new(setting("TOPIC_PREFIX"));
        let partitions: i32 = setting("EVENT_PARTITIONS").parse()?;
        let log = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
        let mut asked = 0;
        for record in &log {
            let event = record.event(partitions)?;
            asked += usize::from(!matches!(event.body, EventBody::SeckillReserved(_)));
        }
        Ok(asked)
    }

    /// Starts the projector again, and checks every sale.
    ///
    /// # Errors
    /// When a sale does not add up.
    pub async fn close(mut self) -> Result<()> {
        self.world.projector.resume()?;
        for sale in &self.sales {
            self.world.until_folded(sale.voucher).await?;
        }
        self.world.until_carried_out().await?;
        for sale in &self.sales {
            self.world.quiet(sale.voucher).await?;
            check_consistency(&self.world, sale.voucher, &sale.answers).await?;
        }
        Ok(())
    }
}
