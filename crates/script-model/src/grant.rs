//! The rules of `reserve.lua`, `shrink.lua` and `clear.lua`. A call that may take units has two steps: first the
//! answers that take none, then the taking. A server that refuses writes ends the script between the two.

use seckill_domain::{EventId, Refusal, Timestamp};
use seckill_stock::{
    Ack, Attempt, HoldState, PendingEvent, PendingReservation, PendingShrink, ReserveOutcome,
    ReserveRequest, ShrinkReply,
};

use crate::rules::Rules;
use crate::sale::{Hold, Sale, SaleTokens, Shrink};

impl Sale {
    /// The answer to a request, unless it is to be granted: then none.
    #[must_use]
    pub fn answer(
        &self,
        rules: &Rules,
        tokens: &SaleTokens,
        request: &ReserveRequest,
        attempt: Attempt,
        now: Timestamp,
    ) -> Option<ReserveOutcome> {
        let hold = self.holds.get(&request.user_id);
        if let Some(answer) =
            hold.and_then(|hold| self.answer_from_hold(rules, hold, request, attempt))
        {
            return Some(answer);
        }
        self.refusal_of_window(now)
            .or_else(|| self.refusal_of_token(tokens, request))
            .or_else(|| self.refusal_of_units(rules, request.quantity, now))
            .map(ReserveOutcome::Refused)
    }

    /// Grants a request for which [`Self::answer`] has returned none.
    pub fn grant(
        &mut self,
        rules: &Rules,
        tokens: &mut SaleTokens,
        request: &ReserveRequest,
        now: Timestamp,
    ) -> PendingReservation {
        let hold_us = i64::from(self.terms.hold_seconds) * 1_000_000;
        let granted = PendingReservation {
            event_id: request.event_id,
            order_id: request.order_id,
            user_id: request.user_id,
            quantity: request.quantity,
            price: self.terms.price,
            reserved_at: now,
            pay_by: Timestamp::from_micros(now.as_micros() + hold_us),
            epoch: self.epoch,
            key_hash: request.key_hash,
            traceparent: request.traceparent,
        };
        self.take(&granted);
        if rules.outbox {
            let pending = PendingEvent::Reservation(granted.clone());
            self.outbox.insert(request.order_id.as_uuid(), pending);
        }
        if let Some(nonce) = request.sale_token
            && self.terms.requires_sale_token
        {
            tokens.insert(nonce, (request.order_id, request.key_hash));
        }
        granted
    }

    /// Takes the units of a reservation for its buyer.
    pub(crate) fn take(&mut self, granted: &PendingReservation) {
        let hold = Hold {
            order_id: granted.order_id,
            units: granted.quantity,
            state: HoldState::Held,
            key_hash: granted.key_hash,
            pay_by: granted.pay_by,
        };
        self.count(1, &hold);
        self.take_place(granted.user_id, hold);
    }

    /// The answer to a request that follows from the buyer's earlier orders. None if they do not prevent a new one.
    fn answer_from_hold(
        &self,
        rules: &Rules,
        hold: &Hold,
        request: &ReserveRequest,
        attempt: Attempt,
    ) -> Option<ReserveOutcome> {
        let same_order = hold.order_id == request.order_id;
        if same_order
            && hold.state == HoldState::Held
            && let Some(PendingEvent::Reservation(granted)) =
                self.outbox.get(&request.order_id.as_uuid())
        {
            return Some(ReserveOutcome::Granted(granted.clone()));
        }
        let same_key = request.key_hash.is_some() && request.key_hash == hold.key_hash;
        let reused = Some(ReserveOutcome::Refused(Refusal::KeyReused));
        if same_key && hold.units != request.quantity {
            return reused;
        }
        if same_key || same_order {
            return Some(repeated(hold));
        }
        if let Some(key) = request.key_hash.filter(|_| rules.earlier_keys)
            && let Some(earlier) = self.earlier.get(&(request.user_id, key))
        {
            let state = HoldState::Released;
            let ended = Hold { state, ..*earlier };
            return if ended.units == request.quantity {
                Some(repeated(&ended))
            } else {
                reused
            };
        }
        let order_id = hold.order_id;
        if hold.is_live() {
            Some(ReserveOutcome::Refused(Refusal::AlreadyOrdered {
                order_id,
            }))
        } else {
            (attempt == Attempt::Again && rules.repeat_superseded)
                .then_some(ReserveOutcome::Superseded)
        }
    }

    fn refusal_of_window(&self, now: Timestamp) -> Option<Refusal> {
        if self.closed || now >= self.terms.closes_at {
            return Some(Refusal::Ended);
        }
        let opens_at = self.terms.opens_at;
        (now < opens_at).then_some(Refusal::NotStarted { opens_at })
    }

    fn refusal_of_token(&self, tokens: &SaleTokens, request: &ReserveRequest) -> Option<Refusal> {
        if !self.terms.requires_sale_token {
            return None;
        }
        let Some(nonce) = request.sale_token else {
            return Some(Refusal::TokenRequired);
        };
        let (order_id, key_hash) = tokens.get(&nonce)?;
        let same_key = key_hash.is_some() && *key_hash == request.key_hash;
        let same = *order_id == request.order_id || same_key;
        // The token was written together with a hold. If there is none now, Redis has lost it.
        let lost = !self.holds.contains_key(&request.user_id);
        (!(same && lost)).then_some(Refusal::TokenUsed)
    }

    fn refusal_of_units(&self, rules: &Rules, units: u32, now: Timestamp) -> Option<Refusal> {
        let max_quantity = self.terms.max_quantity;
        if !(1..=max_quantity).contains(&units) {
            Some(Refusal::QuantityLimit { max_quantity })
        } else {
            let leased = rules.sold_out_lease && now < self.sold_out_until;
            (leased || self.stock < i64::from(units)).then_some(Refusal::SoldOut)
        }
    }

    /// Gives a lease on sold-out to a call of so many requests, if no unit is left and many ask: the call has several, or
    /// another lease lasts. It is extended to `longest_us` from now if half of that is over and the server accepts
    /// writes. Returns until when it lasts.
    pub fn lease_on_sold_out(
        &mut self,
        requests: usize,
        now: Timestamp,
        longest_us: i64,
        writable: bool,
    ) -> Option<Timestamp> {
        let many_ask = requests > 1 || (requests == 1 && now < self.sold_out_until);
        if !many_ask || self.stock > 0 || self.refusal_of_window(now).is_some() {
            return None;
        }
        if self.sold_out_until.as_micros() - now.as_micros() < longest_us / 2 {
            if !writable {
                return None;
            }
            let longest = Timestamp::from_micros(now.as_micros() + longest_us);
            self.sold_out_until = longest.min(self.terms.closes_at);
        }
        Some(self.sold_out_until)
    }

    /// The answer to a shrink, unless its units are to be taken now: then none.
    #[must_use]
    pub fn answer_shrink(
        &self,
        rules: &Rules,
        event_id: EventId,
        units: i64,
        now: Timestamp,
    ) -> Option<ShrinkReply> {
        let before = self.shrinks.get(&event_id);
        if let Some(before) = before.filter(|_| rules.shrink_hold_by_id) {
            return Some(ShrinkReply::Taken(PendingShrink {
                event_id,
                units: before.units,
                epoch: self.epoch,
                at: before.at.unwrap_or(now),
            }));
        }
        let free = self.stock;
        (free < units).then_some(ShrinkReply::Refused { free })
    }

    /// Takes the units of a shrink for which [`Self::answer_shrink`] has returned none.
    pub fn take_shrink(
        &mut self,
        rules: &Rules,
        event_id: EventId,
        units: i64,
        now: Timestamp,
    ) -> PendingShrink {
        self.stock -= units;
        if rules.shrink_hold_by_id {
            let taken = Shrink {
                units,
                decided: false,
                at: Some(now),
            };
            self.unsettled += units;
            self.shrinks.insert(event_id, taken);
        }
        let pending = PendingShrink {
            event_id,
            units,
            epoch: self.epoch,
            at: now,
        };
        self.outbox
            .insert(event_id.as_uuid(), PendingEvent::Shrink(pending));
        pending
    }

    /// Removes the pending events that the broker has acknowledged.
    pub fn clear(&mut self, rules: &Rules, acks: &[Ack]) {
        for ack in acks {
            if ack.epoch == self.epoch || !rules.ack_clear_epoch {
                self.outbox.remove(&ack.id);
            }
        }
    }
}

fn repeated(hold: &Hold) -> ReserveOutcome {
    ReserveOutcome::Repeated {
        order_id: hold.order_id,
        settled: hold.state == HoldState::Settled,
        released: hold.state == HoldState::Released,
        pay_by: hold.pay_by,
    }
}
