//! An independent model of one sale in Redis, written from the rules and not from the scripts: it says
//! what every call has to answer and what has to be there afterwards.

use std::collections::BTreeMap;

use seckill_domain::{EventId, KeyHash, OrderId, Refusal, StockOp, Timestamp, UserId};
use seckill_stock::{HoldState, PendingEvent, ReserveOutcome, ReserveRequest};
use uuid::Uuid;

#[derive(Debug, Clone)]
pub(crate) struct ModelHold {
    pub(crate) order_id: OrderId,
    pub(crate) units: u32,
    pub(crate) state: HoldState,
    pub(crate) key_hash: Option<KeyHash>,
    pub(crate) pay_by: Timestamp,
}

impl ModelHold {
    fn live_units(&self) -> i64 {
        match self.state {
            HoldState::Held | HoldState::Settled => i64::from(self.units),
            HoldState::Released => 0,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Auditor {
    pub(crate) stock: i64,
    pub(crate) limit: u32,
    pub(crate) closed: bool,
    pub(crate) position: i64,
    pub(crate) holds: BTreeMap<UserId, ModelHold>,
    /// Orders whose places others have taken, by the keys that they were placed with.
    pub(crate) earlier: BTreeMap<(UserId, KeyHash), ModelHold>,
    /// Units of shrinks, and whether the log's decision is still to come.
    pub(crate) shrinks: BTreeMap<EventId, (i64, bool)>,
    pub(crate) outbox: BTreeMap<Uuid, PendingEvent>,
}

impl Auditor {
    /// Units in live holds.
    pub(crate) fn held(&self) -> i64 {
        self.holds.values().map(ModelHold::live_units).sum()
    }

    /// Units on which no decision is known.
    pub(crate) fn unsettled(&self) -> i64 {
        let holds = self.holds.values();
        let held = holds.filter(|hold| hold.state == HoldState::Held);
        let shrinks = self.shrinks.values().filter(|(_, open)| *open);
        held.map(ModelHold::live_units).sum::<i64>() + shrinks.map(|(units, _)| units).sum::<i64>()
    }

    /// Checks the answer to one request and follows it. What a grant says of the clock is believed.
    pub(crate) fn reserve(&mut self, request: &ReserveRequest, answer: &ReserveOutcome) {
        match (self.refusal(request), answer) {
            (Some(refusal), answer) => assert_eq!(&refusal, answer, "{request:?}"),
            (None, ReserveOutcome::Granted(granted)) => {
                assert_eq!(granted.order_id, request.order_id);
                assert_eq!(granted.event_id, request.event_id);
                assert_eq!(granted.quantity, request.quantity);
                self.stock -= i64::from(request.quantity);
                let hold = ModelHold {
                    order_id: request.order_id,
                    units: request.quantity,
                    state: HoldState::Held,
                    key_hash: request.key_hash,
                    pay_by: granted.pay_by,
                };
                self.take_place(request.user_id, hold);
                let pending = PendingEvent::Reservation(granted.clone());
                self.outbox.insert(request.order_id.as_uuid(), pending);
            }
            (None, answer) => panic!("refused without a reason: {request:?} {answer:?}"),
        }
    }

    /// An order takes the place of whatever its buyer had; the key of that goes on answering.
    pub(crate) fn take_place(&mut self, user: UserId, hold: ModelHold) -> Option<ModelHold> {
        let key_hash = hold.key_hash;
        let before = self.holds.insert(user, hold);
        if let Some(before) = &before
            && let Some(key) = before.key_hash
            && Some(key) != key_hash
        {
            self.earlier.insert((user, key), before.clone());
        }
        before
    }

    /// The order that a request repeats, or the refusal of its key, by an order before the last one.
    fn by_earlier_key(&self, request: &ReserveRequest) -> Option<ReserveOutcome> {
        let earlier = self.earlier.get(&(request.user_id, request.key_hash?))?;
        if earlier.units != request.quantity {
            return Some(ReserveOutcome::Refused(Refusal::KeyReused));
        }
        Some(ReserveOutcome::Repeated {
            order_id: earlier.order_id,
            settled: false,
            released: true,
            pay_by: earlier.pay_by,
        })
    }

    /// The same for a request that was sent before: over another order's tombstone it is not granted.
    pub(crate) fn reserve_again(&mut self, request: &ReserveRequest, answer: &ReserveOutcome) {
        let hold = self.holds.get(&request.user_id);
        let superseded = hold.is_some_and(|hold| {
            let same_key = request.key_hash.is_some() && request.key_hash == hold.key_hash;
            let released = hold.state == HoldState::Released;
            released && !same_key && hold.order_id != request.order_id
        }) && self.by_earlier_key(request).is_none();
        if superseded {
            assert_eq!(answer, &ReserveOutcome::Superseded, "{request:?}");
        } else {
            self.reserve(request, answer);
        }
    }

    /// Every answer but a first grant.
    fn refusal(&self, request: &ReserveRequest) -> Option<ReserveOutcome> {
        if let Some(hold) = self.holds.get(&request.user_id) {
            let same_order = hold.order_id == request.order_id;
            let pending = self.outbox.get(&request.order_id.as_uuid());
            if let (true, HoldState::Held, Some(PendingEvent::Reservation(granted))) =
                (same_order, hold.state, pending)
            {
                return Some(ReserveOutcome::Granted(granted.clone()));
            }
            let same_key = request.key_hash.is_some() && request.key_hash == hold.key_hash;
            if same_key && hold.units != request.quantity {
                return Some(ReserveOutcome::Refused(Refusal::KeyReused));
            }
            if same_key || same_order {
                return Some(ReserveOutcome::Repeated {
                    order_id: hold.order_id,
                    settled: hold.state == HoldState::Settled,
                    released: hold.state == HoldState::Released,
                    pay_by: hold.pay_by,
                });
            }
            if let Some(answer) = self.by_earlier_key(request) {
                return Some(answer);
            }
            if hold.state != HoldState::Released {
                let order_id = hold.order_id;
                return Some(ReserveOutcome::Refused(Refusal::AlreadyOrdered {
                    order_id,
                }));
            }
        }
        if self.closed {
            return Some(ReserveOutcome::Refused(Refusal::Ended));
        }
        if !(1..=self.limit).contains(&request.quantity) {
            let max_quantity = self.limit;
            return Some(ReserveOutcome::Refused(Refusal::QuantityLimit {
                max_quantity,
            }));
        }
        (self.stock < i64::from(request.quantity))
            .then_some(ReserveOutcome::Refused(Refusal::SoldOut))
    }

    /// Follows one decision of the log, unless it was followed before.
    pub(crate) fn settle(&mut self, offset: i64, op: &StockOp) {
        if offset < self.position {
            return;
        }
        self.position = offset + 1;
        match op {
            StockOp::Confirm {
                order_id,
                user_id,
                quantity,
                key_hash,
                pay_by,
            } => {
                self.outbox.remove(&order_id.as_uuid());
                let held = self.holds.get_mut(user_id);
                match held.filter(|hold| hold.order_id == *order_id && hold.live_units() > 0) {
                    Some(hold) => hold.state = HoldState::Settled,
                    None => {
                        let hold = ModelHold {
                            order_id: *order_id,
                            units: *quantity,
                            state: HoldState::Settled,
                            key_hash: *key_hash,
                            pay_by: *pay_by,
                        };
                        let before = self.take_place(*user_id, hold);
                        self.stock += before.map_or(0, |hold| hold.live_units());
                        self.stock -= i64::from(*quantity);
                    }
                }
            }
            StockOp::Release { order_id, user_id } => {
                self.outbox.remove(&order_id.as_uuid());
                if let Some(hold) = self.holds.get_mut(user_id)
                    && hold.order_id == *order_id
                {
                    self.stock += hold.live_units();
                    hold.state = HoldState::Released;
                }
            }
            StockOp::Restock { units } => self.stock += units,
            StockOp::ShrinkKept { event_id, units } => {
                self.outbox.remove(&event_id.as_uuid());
                let before = self.shrinks.insert(*event_id, (*units, false));
                if !matches!(before, Some((_, true))) {
                    self.stock -= units;
                }
            }
            StockOp::ShrinkReturned { event_id, units } => {
                self.outbox.remove(&event_id.as_uuid());
                let before = self.shrinks.insert(*event_id, (*units, false));
                if let Some((taken, true)) = before {
                    self.stock += taken;
                }
            }
            StockOp::Close => self.closed = true,
        }
    }

    /// Grants a pending event of a lost sale again, if it can be.
    pub(crate) fn regrant(&mut self, pending: &PendingEvent) {
        match pending {
            PendingEvent::Reservation(lost) => {
                let units = i64::from(lost.quantity);
                let hold = self.holds.get(&lost.user_id);
                if self.stock < units || hold.is_some_and(|hold| hold.live_units() > 0) {
                    return;
                }
                self.stock -= units;
                let hold = ModelHold {
                    order_id: lost.order_id,
                    units: lost.quantity,
                    state: HoldState::Held,
                    key_hash: lost.key_hash,
                    pay_by: lost.pay_by,
                };
                self.take_place(lost.user_id, hold);
            }
            PendingEvent::Shrink(lost) => {
                if self.stock < lost.units || self.shrinks.contains_key(&lost.event_id) {
                    return;
                }
                self.stock -= lost.units;
                self.shrinks.insert(lost.event_id, (lost.units, true));
            }
        }
        self.outbox.insert(pending.ack().id, pending.clone());
    }
}
