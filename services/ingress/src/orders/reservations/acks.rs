//! Acknowledged events whose outbox entries are still to be cleared.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seckill_stock::{Ack, MAX_ITEMS};

/// Acks of one voucher. They are sent with its next script call, or by a call of their own if there is
/// none. A lost ack does no harm: the relay publishes the event again, and the fold ignores the second one.
#[derive(Default)]
pub(super) struct Acks(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    acks: Vec<Ack>,
    /// Whether a flush is scheduled, for the case that no call comes.
    flush_is_due: bool,
}

impl Acks {
    /// Adds one. If it returns true, the caller has to call [`Self::begin_flush`] a little
    /// later.
    pub(super) fn push(&self, ack: Ack) -> bool {
        let mut waiting = self.lock();
        waiting.acks.push(ack);
        !mem::replace(&mut waiting.flush_is_due, true)
    }

    /// The flush that [`Self::push`] asked for begins: from now on a push asks for another.
    pub(super) fn begin_flush(&self) {
        self.lock().flush_is_due = false;
    }

    /// Takes the oldest, as many as one call may clear.
    pub(super) fn take(&self) -> Vec<Ack> {
        let mut waiting = self.lock();
        if waiting.acks.len() <= MAX_ITEMS {
            return mem::take(&mut waiting.acks);
        }
        waiting.acks.drain(..MAX_ITEMS).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::Epoch;
    use uuid::Uuid;

    fn ack(number: usize) -> Ack {
        Ack {
            id: Uuid::from_u128(number as u128),
            epoch: Epoch::FIRST,
        }
    }

    #[test]
    fn one_flush_is_asked_for_until_it_begins() {
        let acks = Acks::default();
        assert!(acks.push(ack(1)));
        assert!(!acks.push(ack(2)));
        acks.begin_flush();
        assert!(acks.push(ack(3)));
        assert_eq!(acks.take(), [ack(1), ack(2), ack(3)]);
    }

    #[test]
    fn no_more_than_one_call_may_clear_are_taken_and_none_twice() {
        let acks = Acks::default();
        for number in 0..=MAX_ITEMS {
            acks.push(ack(number));
        }
        assert_eq!(acks.take().len(), MAX_ITEMS);
        assert_eq!(acks.take(), [ack(MAX_ITEMS)]);
        assert_eq!(acks.take(), []);
    }
}
