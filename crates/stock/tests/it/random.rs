//! Random histories of one sale: the scripts against their model, with the domain's own fold deciding
//! what is in the log. However the history went, Redis ends where the fold is.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use seckill_domain::{
    Epoch, EventBody, Offset, OrderCancelled, OrderExpired, Reason, SaleReloaded, SeckillReserved,
    StockAdjusted, StockOp, Timestamp, VoucherId,
};
use seckill_script_model::Rules;
use seckill_stock::{
    Ack, Attempt, HoldState, ReserveOutcome, ReserveReply, ReserveRequest, ShrinkReply,
};
use uuid::Uuid;

use crate::harness::{LONGEST_LEASE, Server, event, key, price, user};
use crate::random_sale::{RandomSale, USERS};

#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<Wanted>),
    RetryReserve,
    Shrink(i64),
    /// Puts a granted event into the log: a pending one, or any that was ever granted.
    Publish {
        pick: usize,
        late: bool,
        ack: bool,
    },
    AckOfOtherEpoch(usize),
    /// An order in the log that this Redis has never seen.
    Unseen(i64, u32),
    Restock(i64),
    Close,
    Cancel(usize),
    Expire(usize),
    Duplicate(usize),
    Fold(usize),
    Settle {
        back: i64,
        ahead: i64,
    },
    Gap,
    /// A new epoch in the log, and whether Redis is loaded at once.
    Reload {
        load: bool,
    },
}

/// Buyer, units, key and sale token of a request.
type Wanted = (i64, u32, Option<u8>, Option<u128>);

fn step() -> impl Strategy<Value = Step> {
    let key = proptest::option::of(0..3_u8);
    let token = proptest::option::weighted(0.9, 0..20_u128);
    let one = (1..=USERS, 0..=4_u32, key, token);
    prop_oneof![
        6 => proptest::collection::vec(one, 1..4).prop_map(Step::Reserve),
        1 => Just(Step::RetryReserve),
        1 => (1..=3_i64).prop_map(Step::Shrink),
        6 => (any::<usize>(), proptest::bool::weighted(0.1), any::<bool>())
            .prop_map(|(pick, late, ack)| Step::Publish { pick, late, ack }),
        1 => any::<usize>().prop_map(Step::AckOfOtherEpoch),
        1 => (1..=USERS, 1..=3_u32).prop_map(|(user, units)| Step::Unseen(user, units)),
        1 => (1..=3_i64).prop_map(Step::Restock),
        1 => Just(Step::Close),
        2 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Expire),
        1 => any::<usize>().prop_map(Step::Duplicate),
        4 => (1..=5_usize).prop_map(Step::Fold),
        4 => (0..=4_i64, 0..=5_i64).prop_map(|(back, ahead)| Step::Settle { back, ahead }),
        1 => Just(Step::Gap),
        2 => any::<bool>().prop_map(|load| Step::Reload { load }),
    ]
}

/// Runs random histories under `rules` of the model, and says what failed if something did.
fn run(rules: Rules, cases: u32) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    let vouchers = AtomicI64::new(100);
    let steps = proptest::collection::vec(step(), 1..60);
    let shrinks = if rules == Rules::default() { 1_000 } else { 0 };
    let config = Config {
        cases,
        max_shrink_iters: shrinks,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&steps, |steps| {
        let voucher = VoucherId::new(vouchers.fetch_add(1, Ordering::Relaxed)).unwrap();
        runtime.block_on(async {
            let mut world = RandomSale::begin(&server.stock, voucher, rules).await;
            for step in &steps {
                world.take(step).await;
                world.compare().await;
            }
            world.come_to_rest().await;
        });
        Ok(())
    });
    ran.map_err(|failed| failed.to_string())
}

#[test]
fn redis_follows_the_rules_and_ends_where_the_log_is() {
    run(Rules::default(), 150).unwrap();
}

/// A rule that the model can do without is not compared with anything.
#[test]
fn every_rule_of_the_model_is_seen_in_redis() {
    for name in Rules::names() {
        let mut rules = Rules::default();
        assert!(rules.switch_off(name));
        let differs = run(rules, 2_000).expect_err(name);
        assert!(differs.contains("left == right"), "{name}: {differs}");
    }
}

impl RandomSale<'_> {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Reserve(ref wanted) => {
                self.last_batch = wanted.iter().map(|one| self.request(*one)).collect();
                self.reserve(Attempt::First).await;
            }
            Step::RetryReserve => self.reserve(Attempt::Again).await,
            Step::Shrink(units) => self.shrink(units).await,
            Step::Publish { pick, late, ack } => self.publish(pick, late, ack).await,
            Step::AckOfOtherEpoch(pick) => self.ack_of_other_epoch(pick).await,
            Step::Unseen(user_number, quantity) => {
                let (user_id, order_id) = (user(user_number), self.order_id());
                let epoch = self.epoch();
                self.append(EventBody::SeckillReserved(SeckillReserved {
                    order_id,
                    user_id,
                    quantity,
                    price: price(),
                    pay_by: Timestamp::from_micros(2_000_000_000_000_000),
                    epoch,
                    key_hash: Some(key(9)),
                }));
            }
            Step::Restock(delta) => self.append(EventBody::StockAdjusted(StockAdjusted {
                delta,
                reason: Reason::new("found more").unwrap(),
                epoch: None,
            })),
            Step::Close => self.append(EventBody::SaleClosed),
            Step::Cancel(pick) => {
                if let Some((order_id, user_id)) = self.known_order(pick) {
                    let body = OrderCancelled { order_id, user_id };
                    self.append(EventBody::OrderCancelled(body));
                }
            }
            Step::Expire(pick) => {
                if let Some((order_id, _)) = self.known_order(pick) {
                    let pay_by = Timestamp::from_micros(0);
                    let body = OrderExpired { order_id, pay_by };
                    self.append(EventBody::OrderExpired(body));
                }
            }
            Step::Duplicate(pick) => self.log.push(self.log[pick % self.log.len()].clone()),
            Step::Fold(count) => self.fold(count),
            Step::Settle { back, ahead } => self.settle(back, ahead).await,
            Step::Gap => self.gap().await,
            Step::Reload { load } => self.reload(load).await,
        }
    }

    fn request(&mut self, (user_number, quantity, key_number, token): Wanted) -> ReserveRequest {
        ReserveRequest {
            order_id: self.order_id(),
            event_id: event(u128::from(self.next_id())),
            user_id: user(user_number),
            quantity,
            key_hash: key_number.map(key),
            traceparent: None,
            sale_token: token.map(Uuid::from_u128),
        }
    }

    /// The last batch. A caller who has no answer to it sends it again.
    async fn reserve(&mut self, attempt: Attempt) {
        let reply = self
            .stock
            .reserve(self.voucher, &self.last_batch, &[], attempt);
        self.expect(reply.await.unwrap(), attempt);
    }

    /// The model answers as Redis did. What Redis says of the clock is believed.
    fn expect(&mut self, reply: ReserveReply, attempt: Attempt) {
        let ReserveReply::Decided {
            outcomes,
            at,
            sold_out,
            ..
        } = reply
        else {
            panic!("not served");
        };
        for (request, outcome) in self.last_batch.iter().zip(&outcomes) {
            let (model, tokens) = (&mut self.model, &mut self.tokens);
            let expected = model
                .answer(&self.rules, tokens, request, attempt, at)
                .unwrap_or_else(|| {
                    ReserveOutcome::Granted(model.grant(&self.rules, tokens, request, at))
                });
            assert_eq!(outcome, &expected, "{request:?}");
        }
        let requests = self.last_batch.len();
        let longest_us = i64::try_from(LONGEST_LEASE.as_micros()).unwrap();
        let until = self.model.lease_on_sold_out(requests, at, longest_us, true);
        let lasts = until.map(|until| until.as_micros() - at.as_micros());
        let leased = sold_out.map(|lease| i64::try_from(lease.lasts.as_micros()).unwrap());
        assert_eq!(leased, lasts, "lease of a call of {requests}");
        self.granted.extend(self.model.outbox.values().cloned());
    }

    async fn shrink(&mut self, units: i64) {
        let event_id = event(u128::from(self.next_id()));
        for _ in 0..2 {
            let shrink = self.stock.shrink(self.voucher, event_id, units);
            let answer = shrink.await.unwrap();
            let now = match answer {
                ShrinkReply::Taken(taken) => taken.at,
                _ => self.model.terms.opens_at,
            };
            let expected = self
                .model
                .answer_shrink(&self.rules, event_id, units, now)
                .unwrap_or_else(|| {
                    ShrinkReply::Taken(self.model.take_shrink(&self.rules, event_id, units, now))
                });
            assert_eq!(answer, expected);
        }
        self.granted
            .extend(self.model.outbox.get(&event_id.as_uuid()).cloned());
    }

    async fn publish(&mut self, pick: usize, late: bool, ack: bool) {
        let from: Vec<_> = if late {
            self.granted.clone()
        } else {
            self.model.outbox.values().cloned().collect()
        };
        let Some(pending) = from.get(pick % from.len().max(1)) else {
            return;
        };
        self.log.push(pending.to_event(self.voucher));
        if ack {
            self.clear(pending.ack()).await;
        }
    }

    async fn clear(&mut self, ack: Ack) {
        assert!(self.stock.clear(self.voucher, &[ack]).await.unwrap());
        self.model.clear(&self.rules, &[ack]);
    }

    async fn ack_of_other_epoch(&mut self, pick: usize) {
        let (epoch, pending) = (self.model.epoch, self.model.outbox.len());
        if let Some(id) = self.model.outbox.keys().nth(pick % pending.max(1)).copied() {
            for epoch in [epoch.next(), Epoch::new(epoch.get() - 1)] {
                self.clear(Ack { id, epoch }).await;
            }
        }
    }

    /// From `back` before Redis' position to `ahead` after it.
    async fn settle(&mut self, back: i64, ahead: i64) {
        let folded = i64::try_from(self.folded).unwrap();
        let position = self.model.position.get();
        let from = (position - back).max(0);
        let to = (position + ahead).min(folded).max(from);
        let ops = self.ops(from, to);
        self.settle_range(self.epoch(), (from, to), &ops).await;
    }

    async fn settle_range(
        &mut self,
        epoch: Epoch,
        (from, to): (i64, i64),
        ops: &[(Offset, StockOp)],
    ) {
        let (from, to) = (Offset::new(from), Offset::new(to));
        let reply = self.stock.settle(self.voucher, epoch, from, to, ops);
        let reply = reply.await.unwrap();
        let expected = self
            .model
            .refuses_to_settle(&self.rules, epoch, from)
            .unwrap_or_else(|| self.model.settle(&self.rules, to, ops));
        assert_eq!(reply, expected);
    }

    async fn gap(&mut self) {
        let from = self.model.position.next();
        let ops = [(from, StockOp::Restock { units: 100 })];
        let range = (from.get(), from.next().get());
        self.settle_range(self.model.epoch, range, &ops).await;
        assert!(self.model.position < from, "nothing was settled");
    }

    /// A new epoch: what a projector does when Redis was lost but still has old data.
    async fn reload(&mut self, load: bool) {
        let previous = self.epoch();
        let nonce = Uuid::from_u128(u128::from(self.next_id()));
        let epoch = previous.next();
        self.append(EventBody::SaleReloaded(SaleReloaded {
            previous,
            epoch,
            nonce,
            first: None,
        }));
        self.fold(self.log.len());
        if load && self.model.epoch < self.epoch() {
            self.load().await;
        }
    }

    /// Everything pending is published, folded and settled.
    async fn come_to_rest(&mut self) {
        while let Some(pending) = self.model.outbox.values().next().cloned() {
            self.log.push(pending.to_event(self.voucher));
            self.clear(pending.ack()).await;
        }
        self.fold(self.log.len());
        if self.model.epoch < self.epoch() {
            self.load().await;
        }
        self.settle(3, i64::try_from(self.log.len()).unwrap()).await;
        self.compare().await;
        let sale = self.state.sale.as_ref().unwrap();
        assert_eq!(self.model.stock, sale.available, "Redis and the fold");
        assert_eq!(self.model.held, sale.unpaid + sale.paid);
        assert_eq!(self.model.unsettled, 0);
        let live = self.model.holds.iter();
        let live = live.filter(|(_, hold)| hold.state == HoldState::Settled);
        let live: std::collections::HashMap<_, _> =
            live.map(|(user, hold)| (*user, hold.order_id)).collect();
        assert_eq!(live, self.state.live);
    }
}
