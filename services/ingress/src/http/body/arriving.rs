//! Slow bodies: how many may arrive at a time from one address. They have no place yet, only memory and a
//! connection, and their sender is not authenticated.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seckill_metrics::{Counter, Gauge};

use crate::http::address::subscriber;
use crate::http::problem::Problem;
use crate::metrics;

/// Counts by sender. All unknown addresses count as one sender.
type Senders = HashMap<Option<IpAddr>, usize>;

/// The bodies that are on their way.
pub struct Arriving {
    most: usize,
    senders: Arc<Mutex<Senders>>,
    arriving: Gauge,
    refused: Counter,
}

impl Arriving {
    /// At most so many from one address. The metrics recorder has to be installed before.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            senders: Arc::default(),
            arriving: metrics::BODIES_ARRIVING.only(),
            refused: metrics::BODIES_REFUSED.only(),
        }
    }

    /// Counts one more until the result is dropped.
    ///
    /// # Errors
    /// `unavailable` when that is one too many from this address.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Result<Arrival, Problem> {
        let sender = address.map(subscriber);
        let mut senders = lock(&self.senders);
        let count = senders.entry(sender).or_default();
        if *count >= self.most {
            self.refused.increment(1);
            return Err(Problem::unavailable(
                "Too many bodies are on their way from this address: send a body with its head.",
            ));
        }
        *count += 1;
        self.arriving.increment(1);
        Ok(Arrival {
            sender,
            senders: Arc::clone(&self.senders),
            arriving: self.arriving.clone(),
        })
    }
}

/// One body, on its way.
pub(super) struct Arrival {
    sender: Option<IpAddr>,
    senders: Arc<Mutex<Senders>>,
    arriving: Gauge,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arriving.decrement(1);
        let mut senders = lock(&self.senders);
        if let Some(count) = senders.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                senders.remove(&self.sender);
            }
        }
    }
}

fn lock(senders: &Mutex<Senders>) -> MutexGuard<'_, Senders> {
    senders.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_sends_so_many_bodies_at_a_time_and_is_forgotten_afterwards() {
        let arriving = Arriving::new(2);
        let from = |text: &str| arriving.enter(Some(text.parse().unwrap()));
        let first = from("2001:db8::1").unwrap();
        let second = from("2001:db8::2").unwrap();
        assert!(from("2001:db8::3").is_err(), "the same /64");
        let other = from("203.0.113.5").unwrap();
        drop(first);
        drop(from("2001:db8::3").unwrap());
        drop((second, other));
        assert!(lock(&arriving.senders).is_empty());
    }
}
