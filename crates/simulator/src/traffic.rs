//! The actions of buyers, the payment provider, operators and the timeout service.

use seckill_domain::{
    EventBody, OrderCancelled, OrderExpired, OrderId, OrderPaid, PaymentId, Reason, Sale,
    StockAdjusted, Timestamp,
};

use crate::ingress::{self, Order};
use crate::scene;
use crate::sim::Sim;
use crate::task::pause_for;
use crate::world::{Mode, SimulatedWorld};

/// Operators restock only if the sale has fewer units than this.
const RESTOCK_BELOW: i64 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Shrink,
    Restock,
    Close,
    Schedule,
    Pay,
    Cancel,
    Status,
}

impl Wish {
    /// The kinds of actions in the history of this seed. Closing is rare because it is final.
    pub(crate) fn some(world: &mut SimulatedWorld) -> Vec<Self> {
        let all = [
            Self::Shrink,
            Self::Restock,
            Self::Schedule,
            Self::Pay,
            Self::Cancel,
            Self::Status,
        ];
        let mut wishes: Vec<Self> = all.into_iter().filter(|_| world.chance(0.6)).collect();
        if world.chance(0.15) {
            wishes.push(Self::Close);
        }
        wishes
    }
}

impl Sim {
    /// Sends a random request to a random ingress.
    pub(crate) fn ask(&self, wishes: &[Wish]) {
        let me = self.world().any_ingress();
        let wish = self.world().choose(wishes);
        let other = self.world().chance(0.28);
        let Some(wish) = wish.filter(|_| other) else {
            let order = self.world().order();
            self.begin(me, ingress::place(self.clone(), me, order));
            return;
        };
        let units = i64::from(self.world().chance(0.5)) + 1;
        match wish {
            Wish::Shrink => self.begin(me, ingress::shrink(self.clone(), me, units)),
            Wish::Restock => self.restock(me, units),
            Wish::Close => {
                if self.world().chance(0.15) {
                    self.write(me, EventBody::SaleClosed);
                }
            }
            Wish::Schedule => self.write(me, scene::scheduled(4)),
            Wish::Pay => self.pay(me),
            Wish::Cancel => self.cancel_some(me),
            Wish::Status => {
                let told: Vec<_> = self.world().said.told.clone().into_iter().collect();
                let chosen = self.world().choose(&told);
                if let Some((id, user)) = chosen {
                    self.begin(me, ingress::ask_status(self.clone(), me, id, user));
                }
            }
        }
    }

    /// Sends one more buyer for each unit that is left.
    pub(crate) fn demand_all(&self) {
        let left = {
            let world = self.world();
            let open = |sale: &&Sale| sale.closed.is_none();
            let sale = world.book.state.sale.as_ref().filter(open);
            sale.map_or(0, |sale| sale.available)
        };
        for number in 1..=left {
            let mut world = self.world();
            let me = world.any_ingress();
            let order = Order {
                user_id: scene::user(scene::USERS + number),
                quantity: 1,
                key_hash: Some(scene::key(world.new_id())),
            };
            drop(world);
            self.begin(me, ingress::place(self.clone(), me, order));
        }
    }

    fn write(&self, producer: usize, body: EventBody) {
        let event_id = self.world().new_event_id();
        self.produce(producer, scene::event(event_id, body));
    }

    fn restock(&self, me: usize, units: i64) {
        let total = {
            let world = self.world();
            let sale = world.book.state.sale.as_ref();
            sale.map_or(0, |sale| sale.terms.stock + sale.adjusted)
        };
        if total < RESTOCK_BELOW {
            let body = EventBody::StockAdjusted(StockAdjusted {
                delta: units,
                reason: Reason::default(),
                epoch: None,
            });
            let event_id = self.world().new_event_id();
            let event = scene::event(event_id, body);
            let sim = self.clone();
            self.begin(me, async move {
                for _ in 0..3 {
                    if sim.produce(me, event.clone()).acknowledged().await {
                        return;
                    }
                }
            });
        }
    }

    fn pay(&self, me: usize) {
        let body = {
            let mut world = self.world();
            let told: Vec<OrderId> = world.said.told.keys().copied().collect();
            let Some(order_id) = world.choose(&told) else {
                return;
            };
            let payment_id = world.payment_of(order_id);
            let order = world.book.state.orders.get(&order_id);
            let amount = order.map_or(scene::price(), |order| order.amount);
            EventBody::OrderPaid(OrderPaid {
                order_id,
                payment_id,
                amount,
                paid_at: Timestamp::from_micros(0),
            })
        };
        self.write(me, body);
    }

    fn cancel_some(&self, me: usize) {
        let cancelled = {
            let mut world = self.world();
            let unpaid = world.book.unpaid();
            let ids: Vec<_> = unpaid.iter().map(|o| (o.order_id, o.user_id)).collect();
            world.choose(&ids)
        };
        if let Some((order_id, user_id)) = cancelled {
            let body = EventBody::OrderCancelled(OrderCancelled { order_id, user_id });
            self.write(me, body);
        }
    }
}

impl SimulatedWorld {
    fn order(&mut self) -> Order {
        let number = i64::try_from(self.below(usize::try_from(scene::USERS).unwrap_or(1)));
        let user_id = scene::user(1 + number.unwrap_or(0));
        let reuse = self.tuning.key_reuse;
        let again = self.chance(reuse);
        let used = self.said.keys.get(&user_id);
        // Mostly the last order of the buyer, and sometimes the first one, after which the buyer has placed others.
        let first = self.log.len() % 8 == 7;
        let used = used.and_then(|keys| if first { keys.first() } else { keys.last() });
        let key_hash = match used.copied().filter(|_| again) {
            Some(key) => key,
            None => {
                let key = scene::key(self.new_id());
                self.said.keys.entry(user_id).or_default().push(key);
                key
            }
        };
        // For an order without a key, only its hold can answer a repeated request.
        let keyless = self.mode == Mode::Late && self.chance(0.2);
        let most = self.tuning.most_units;
        let quantity = 1 + u32::try_from(self.below(most)).unwrap_or(0);
        Order {
            user_id,
            quantity,
            key_hash: (!keyless).then_some(key_hash),
        }
    }

    /// A payment that the provider reports again, or a new one.
    fn payment_of(&mut self, order_id: OrderId) -> PaymentId {
        let again = self.chance(0.6);
        let before = self.said.payments.iter().find(|(_, of)| *of == order_id);
        if let Some((id, _)) = before.filter(|_| again) {
            return id.clone();
        }
        let id = PaymentId::new(format!("p{}", self.new_id())).expect("visible ASCII");
        self.said.payments.push((id.clone(), order_id));
        id
    }
}

/// The timeout service expires a random unpaid order.
pub(crate) async fn expire(sim: Sim, me: usize) {
    loop {
        pause_for(sim.some_steps(10..60)).await;
        let due = {
            let mut world = sim.world();
            let unpaid: Vec<OrderId> = world.book.unpaid().iter().map(|o| o.order_id).collect();
            let quiet = world.quiet;
            world.choose(&unpaid).filter(|_| !quiet)
        };
        pause_for(sim.some_steps(0..3)).await;
        let stopped = sim.world().quiet;
        if let Some(order_id) = due.filter(|_| !stopped) {
            let pay_by = Timestamp::from_micros(0);
            sim.write(
                me,
                EventBody::OrderExpired(OrderExpired { order_id, pay_by }),
            );
        }
    }
}
