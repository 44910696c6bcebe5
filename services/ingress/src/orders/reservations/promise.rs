//! When a buyer may be answered *reserved*. Every other order is answered *pending*: it may be accepted or rejected
//! later, and its status says which.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::types::PlacedState;

/// Until when an ack makes an order a promise.
#[derive(Debug)]
pub(super) struct PromiseDeadline {
    own: Duration,
    said: AtomicBool,
}

impl PromiseDeadline {
    /// `PROMISE_DEADLINE_MS` of this instance.
    pub(super) const fn new(own: Duration) -> Self {
        Self {
            own,
            said: AtomicBool::new(false),
        }
    }

    /// For orders of a sale whose load drained for `of_load`: the shorter of the two. A reload drains for as
    /// long as the load did, and may sell again what was granted and not in the log by then. Says once
    /// where this instance's own is too long.
    pub(super) fn of_sale(&self, of_load: Option<Duration>) -> Duration {
        let deadline = of_load.map_or(self.own, |of_load| of_load.min(self.own));
        if deadline < self.own && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                own_ms = self.own.as_millis(),
                projector_ms = deadline.as_millis(),
                "PROMISE_DEADLINE_MS is longer here than for the projector; the shorter one is kept. \
                 Set it to the same everywhere"
            );
        }
        deadline
    }
}

/// What is known about an order when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// This very call took the units, and the broker's ack was handled `after` the first sending
    /// of the script, by a clock that runs on while the process is stopped.
    Acknowledged {
        /// Time since just before the first sending.
        after: Duration,
    },
    /// This very call took the units, and there is no ack (yet).
    NotAcknowledged,
    /// An earlier call with the same key took the units.
    Repeated {
        /// Whether the projector has confirmed the order.
        settled: bool,
        /// Whether its units have gone back since.
        released: bool,
    },
}

/// The answer that `evidence` allows under the promise deadline `deadline`.
///
/// An ack after the deadline is no promise: a reload may have drained, begun the next epoch and sold the
/// units again before the event got into the log. A repeat publishes nothing and so relies on the
/// projector alone.
pub(super) fn what_to_say(evidence: Evidence, deadline: Duration) -> PlacedState {
    match evidence {
        Evidence::Acknowledged { after } if after <= deadline => PlacedState::Reserved,
        Evidence::Repeated { released: true, .. } => PlacedState::Released,
        Evidence::Repeated { settled: true, .. } => PlacedState::Reserved,
        Evidence::Acknowledged { .. } | Evidence::NotAcknowledged | Evidence::Repeated { .. } => {
            PlacedState::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(3);

    #[test]
    fn the_shorter_deadline_holds() {
        let own = PromiseDeadline::new(DEADLINE);
        let shorter = Duration::from_secs(1);
        assert_eq!(own.of_sale(None), DEADLINE);
        assert_eq!(own.of_sale(Some(Duration::from_secs(9))), DEADLINE);
        assert!(!own.said.load(Ordering::Relaxed));
        assert_eq!(own.of_sale(Some(shorter)), shorter);
        assert!(own.said.load(Ordering::Relaxed), "it is said");
    }

    #[test]
    fn an_ack_counts_up_to_the_deadline_and_not_after_it() {
        let says = |after| what_to_say(Evidence::Acknowledged { after }, DEADLINE);
        assert_eq!(says(Duration::ZERO), PlacedState::Reserved);
        assert_eq!(says(DEADLINE), PlacedState::Reserved);
        assert_eq!(
            says(DEADLINE + Duration::from_nanos(1)),
            PlacedState::Pending
        );
    }

    #[test]
    fn without_an_ack_nothing_is_promised() {
        assert_eq!(
            what_to_say(Evidence::NotAcknowledged, DEADLINE),
            PlacedState::Pending
        );
    }

    #[test]
    fn a_repeat_is_promised_only_while_it_is_settled_and_not_released() {
        for (settled, released, said) in [
            (false, false, PlacedState::Pending),
            (true, false, PlacedState::Reserved),
            (true, true, PlacedState::Released),
            (false, true, PlacedState::Released),
        ] {
            let evidence = Evidence::Repeated { settled, released };
            assert_eq!(what_to_say(evidence, DEADLINE), said, "{evidence:?}");
        }
    }
}
