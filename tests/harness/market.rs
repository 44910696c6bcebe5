//! Every buyer with an order in every state that an order can be in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::{
    Epoch, Event, EventBody, EventId, Money, OrderId, SeckillReserved, Timestamp, UserId, VoucherId,
};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics, read_all};
use uuid::Uuid;

use crate::client::Answer;
use crate::consistency::check_consistency;
use crate::waits::eventually;
use crate::world::{SaleTerms, World};

/// How an order came to be what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// Known to Redis only.
    Pending,
    /// Waits for its payment.
    Unpaid,
    /// Paid.
    Paid,
    /// Paid, and once more: a refund is due.
    PaidTwice,
    /// Not paid in time.
    Expired,
    /// Paid when it had expired: a refund is due.
    PaidTooLate,
    /// Given up by its buyer.
    Cancelled,
    /// Refused by the fold, because its buyer has another.
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
    /// Whose it is.
    pub buyer: u64,
    /// What it is.
    pub state: OrderState,
    pub order_id: String,
}

/// Has every buyer order, and brings the orders into this state.
async fn bring_into(world: &World, state: OrderState, voucher: VoucherId) -> Result<Vec<Answer>> {
    let client = &world.client;
    let mut answers = Vec::new();
    for buyer in 1..=Market::BUYERS {
        // One key for all: it is the buyer's, and no way to another's order.
        answers.push(client.order(voucher, buyer, Some("same"), 1).await?);
    }
    for (buyer, answer) in (1..=Market::BUYERS).zip(&answers) {
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
    }
    Ok(answers)
}

/// A second reservation of everybody in a sale where everybody has one already.
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

/// One sale a state. Beside the orders here, every buyer has a live one in the sale of the rejected.
#[derive(Debug)]
pub struct Market {
    /// Where it is. The projector is stopped, so that what is pending stays so.
    pub world: World,
    /// All of them.
    pub orders: Vec<MarketOrder>,
    sales: Vec<(VoucherId, Vec<Answer>)>,
}

impl Market {
    /// How many buyers there are; they are the users 1 to this.
    pub const BUYERS: u64 = 12;

    /// Brings all orders into their states.
    ///
    /// # Errors
    /// When the services refuse or an order does not get there in time.
    pub async fn open() -> Result<Self> {
        let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
        let mut market = Self {
            world,
            orders: Vec::new(),
            sales: Vec::new(),
        };
        for state in OrderState::ALL {
            market.bring_into(state).await?;
        }
        Ok(market)
    }

    async fn bring_into(&mut self, state: OrderState) -> Result<()> {
        let terms = SaleTerms {
            hold_seconds: state.hold_seconds(),
            ..SaleTerms::of(100)
        };
        let voucher = self.world.sale(terms).await?;
        if state == OrderState::Pending {
            self.world.until_carried_out().await?;
            self.world.projector.pause()?;
        }
        let answers = bring_into(&self.world, state, voucher).await?;
        let ids: Vec<String> = if state == OrderState::Rejected {
            reserve_again(&self.world, voucher).await?
        } else {
            let ids = answers.iter().filter_map(Answer::order_id);
            ids.map(str::to_owned).collect()
        };
        for (buyer, order_id) in (1..=Market::BUYERS).zip(ids) {
            let (client, path) = (&self.world.client, format!("/api/v1/orders/{order_id}"));
            eventually("the order is what it is to be", || async {
                let order = client.get(buyer, &path).await?.body;
                let refund_due = order["refund_due"] == true;
                Ok(order["status"] == state.status() && refund_due == state.refund_due())
            })
            .await?;
            self.orders.push(MarketOrder {
                buyer,
                state,
                order_id,
            });
        }
        self.sales.push((voucher, answers));
        Ok(())
    }

    /// Events of the log that are no reservations: those may be repeated by a relay at any time.
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

    /// Lets the projector go on, and checks every sale.
    ///
    /// # Errors
    /// When a sale does not add up.
    pub async fn close(mut self) -> Result<()> {
        self.world.projector.resume()?;
        for (voucher, _) in &self.sales {
            self.world.until_folded(*voucher).await?;
        }
        self.world.until_carried_out().await?;
        for (voucher, answers) in &self.sales {
            self.world.quiet(*voucher).await?;
            check_consistency(&self.world, *voucher, answers).await?;
        }
        Ok(())
    }
}
