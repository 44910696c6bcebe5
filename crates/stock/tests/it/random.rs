//! Random histories of one sale: the scripts against the auditor, with the domain's own fold deciding
//! what is in the log. However the history went, Redis ends where the fold is.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use seckill_domain::{
    Epoch, EventBody, Offset, OrderCancelled, OrderExpired, Reason, SaleReloaded, SeckillReserved,
    StockAdjusted, StockOp, Timestamp, VoucherId,
};
use seckill_stock::{
    Ack, HoldState, PendingEvent, ReserveReply, ReserveRequest, SettleReply, ShrinkReply,
};
use uuid::Uuid;

use crate::support::{Server, event, key, price, user};
use crate::world::{RandomSale, USERS};

#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<(i64, u32, Option<u8>)>),
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
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let one = (1..=USERS, 0..=4_u32, proptest::option::of(0..3_u8));
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
        1 => Just(Step::Reload),
    ]
}

#[test]
fn redis_follows_the_rules_and_ends_where_the_log_is() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    let vouchers = AtomicI64::new(100);
    let steps = proptest::collection::vec(step(), 1..60);
    TestRunner::new(Config::with_cases(150))
        .run(&steps, |steps| {
            let voucher = VoucherId::new(vouchers.fetch_add(1, Ordering::Relaxed)).unwrap();
            runtime.block_on(async {
                let mut world = RandomSale::begin(&server.stock, voucher).await;
                for step in &steps {
                    world.take(step).await;
                    world.compare().await;
                }
                world.come_to_rest().await;
            });
            Ok(())
        })
        .unwrap();
}

impl RandomSale<'_> {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Reserve(ref wanted) => {
                self.last_batch = wanted.iter().map(|one| self.request(*one)).collect();
                self.reserve().await;
            }
            Step::RetryReserve => self.reserve_again().await,
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
            Step::Reload => self.reload().await,
        }
    }

    fn request(
        &mut self,
        (user_number, quantity, key_number): (i64, u32, Option<u8>),
    ) -> ReserveRequest {
        ReserveRequest {
            order_id: self.order_id(),
            event_id: event(u128::from(self.next_id())),
            user_id: user(user_number),
            quantity,
            key_hash: key_number.map(key),
            traceparent: None,
            sale_token: None,
        }
    }

    async fn reserve(&mut self) {
        let reply = self
            .stock
            .reserve(self.voucher, &self.last_batch, &[])
            .await;
        let ReserveReply::Decided { outcomes, .. } = reply.unwrap() else {
            panic!("not served");
        };
        for (request, outcome) in self.last_batch.iter().zip(&outcomes) {
            self.auditor.reserve(request, outcome);
        }
        self.granted.extend(self.auditor.outbox.values().cloned());
    }

    /// The last batch once more, as by a caller who has no answer to it.
    async fn reserve_again(&mut self) {
        let reply = self
            .stock
            .reserve_again(self.voucher, &self.last_batch, &[]);
        let ReserveReply::Decided { outcomes, .. } = reply.await.unwrap() else {
            panic!("not served");
        };
        for (request, outcome) in self.last_batch.iter().zip(&outcomes) {
            self.auditor.reserve_again(request, outcome);
        }
        self.granted.extend(self.auditor.outbox.values().cloned());
    }

    async fn shrink(&mut self, units: i64) {
        let event_id = event(u128::from(self.next_id()));
        let first = self
            .stock
            .shrink(self.voucher, event_id, units)
            .await
            .unwrap();
        let again = self
            .stock
            .shrink(self.voucher, event_id, units)
            .await
            .unwrap();
        assert_eq!(first, again);
        if self.auditor.stock < units {
            let free = self.auditor.stock;
            assert_eq!(first, ShrinkReply::Refused { free });
            return;
        }
        let ShrinkReply::Taken(taken) = first else {
            panic!("{first:?}");
        };
        self.auditor.stock -= units;
        self.auditor.shrinks.insert(event_id, (units, true));
        let pending = PendingEvent::Shrink(taken);
        self.auditor
            .outbox
            .insert(event_id.as_uuid(), pending.clone());
        self.granted.push(pending);
    }

    async fn publish(&mut self, pick: usize, late: bool, ack: bool) {
        let from: Vec<_> = if late {
            self.granted.clone()
        } else {
            self.auditor.outbox.values().cloned().collect()
        };
        let Some(pending) = from.get(pick % from.len().max(1)) else {
            return;
        };
        self.log.push(pending.to_event(self.voucher));
        if ack {
            let acked = pending.ack();
            assert!(self.stock.clear(self.voucher, &[acked]).await.unwrap());
            if acked.epoch == self.loaded_epoch().await {
                self.auditor.outbox.remove(&acked.id);
            }
        }
    }

    async fn ack_of_other_epoch(&self, pick: usize) {
        let epoch = self.loaded_epoch().await;
        if let Some(id) = self
            .auditor
            .outbox
            .keys()
            .nth(pick % self.auditor.outbox.len().max(1))
        {
            for epoch in [epoch.next(), Epoch::new(epoch.get() - 1)] {
                let ack = Ack { id: *id, epoch };
                assert!(self.stock.clear(self.voucher, &[ack]).await.unwrap());
            }
        }
    }

    /// From `back` before Redis' position to `ahead` after it.
    async fn settle(&mut self, back: i64, ahead: i64) {
        let folded = i64::try_from(self.folded).unwrap();
        let from = (self.auditor.position - back).max(0);
        let to = (self.auditor.position + ahead).min(folded).max(from);
        let ops = self.ops(from, to);
        let reply = self.stock.settle(
            self.voucher,
            self.epoch(),
            Offset::new(from),
            Offset::new(to),
            &ops,
        );
        let reply = reply.await.unwrap();
        if self.loaded_epoch().await < self.epoch() {
            assert_eq!(reply, SettleReply::NotServed);
            return;
        }
        for (offset, op) in &ops {
            self.auditor.settle(offset.get(), op);
        }
        self.auditor.position = self.auditor.position.max(to);
        let position = Offset::new(self.auditor.position);
        assert_eq!(reply, SettleReply::Settled { position });
    }

    async fn gap(&self) {
        let position = Offset::new(self.auditor.position);
        let (from, epoch) = (position.next(), self.loaded_epoch().await);
        let ops = [(from, StockOp::Restock { units: 100 })];
        let reply = self
            .stock
            .settle(self.voucher, epoch, from, from.next(), &ops)
            .await;
        assert_eq!(reply.unwrap(), SettleReply::Gap { position });
    }

    /// A new epoch: what a projector does when Redis was lost but still has old data.
    async fn reload(&mut self) {
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
        if self.epoch() == epoch {
            self.load().await;
        }
    }

    /// Everything pending is published, folded and settled.
    async fn come_to_rest(&mut self) {
        while let Some(pending) = self.auditor.outbox.values().next().cloned() {
            self.log.push(pending.to_event(self.voucher));
            assert!(
                self.stock
                    .clear(self.voucher, &[pending.ack()])
                    .await
                    .unwrap()
            );
            self.auditor.outbox.remove(&pending.ack().id);
        }
        self.fold(self.log.len());
        if self.loaded_epoch().await < self.epoch() {
            self.load().await;
        }
        self.settle(3, i64::try_from(self.log.len()).unwrap()).await;
        self.compare().await;
        let sale = self.state.sale.as_ref().unwrap();
        assert_eq!(self.auditor.stock, sale.available, "Redis and the fold");
        assert_eq!(self.auditor.held(), sale.unpaid + sale.paid);
        assert_eq!(self.auditor.unsettled(), 0);
        let live = self.auditor.holds.iter();
        let live = live.filter(|(_, hold)| hold.state == HoldState::Settled);
        let live: std::collections::HashMap<_, _> =
            live.map(|(user, hold)| (*user, hold.order_id)).collect();
        assert_eq!(live, self.state.live);
    }
}
