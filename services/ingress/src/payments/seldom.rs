//! For events that any client can cause as often as it wants: each is counted, and one a minute is logged.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// One kind of such lines.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    since: u64,
}

impl Seldom {
    /// Counts one. If a log line is due, returns how many there were since the last one.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        let rests = |logged: Instant| now.saturating_duration_since(logged) < EVERY;
        if state.logged.is_some_and(rests) {
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_there_were() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.count(now), Some(1));
        assert_eq!(seldom.count(now), None);
        assert_eq!(seldom.count(now + EVERY / 2), None);
        assert_eq!(seldom.count(now + EVERY), Some(3));
    }
}
