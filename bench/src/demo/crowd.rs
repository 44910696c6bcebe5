//! The buyers: who clicks, how often, and what each got in the end.

use std::collections::{BTreeMap, BTreeSet};

use seckill_domain::OrderId;

use super::evidence::ClickRecord;
use crate::answer::Answer;
use crate::orders::Click;

const HAMMERING_EVERY: usize = 1_000;
const HAMMERING_CLICKS: usize = 50;

/// One click of each user in a random order; about `repeat_percent` of a hundred click again at
/// once, with the same idempotency key.
#[must_use]
pub fn clicks(
    mut users: Vec<u32>,
    wave: u32,
    repeat_percent: u32,
    rng: &mut fastrand::Rng,
) -> Vec<Click> {
    rng.shuffle(&mut users);
    let mut clicks = Vec::with_capacity(users.len());
    for user in users {
        let click = Click {
            user,
            sale: 0,
            key: Some(format!("wave-{wave}-buyer-{user}")),
        };
        // Side by side, so that two connections send them at the same time.
        if rng.u32(..100) < repeat_percent {
            clicks.push(click.clone());
        }
        clicks.push(click);
    }
    clicks
}

/// Every so many clicks one that is made many times at once, side by side.
#[must_use]
pub fn hammered(clicks: Vec<Click>) -> Vec<Click> {
    let times = |position: usize| match position % HAMMERING_EVERY {
        0 => HAMMERING_CLICKS,
        _ => 1,
    };
    let repeated = |(position, click)| std::iter::repeat_n(click, times(position));
    clicks.into_iter().enumerate().flat_map(repeated).collect()
}

/// The buyers of a wave who were over a limit and got nothing: they come again.
#[must_use]
pub fn over_a_limit(clicks: &[ClickRecord], wave: u32) -> Vec<u32> {
    let of_wave = || clicks.iter().filter(|click| click.wave == wave);
    let told: BTreeSet<u32> = of_wave()
        .filter(|click| !matches!(click.answer, Answer::Limited { .. }))
        .map(|click| click.user)
        .collect();
    let limited: BTreeSet<u32> = of_wave().map(|click| click.user).collect();
    limited.difference(&told).copied().collect()
}

/// What each buyer of a wave who was not refused got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Buyers who were promised an order.
    pub reserved: BTreeMap<u32, OrderId>,
    /// Buyers who were only told that there may be one.
    pub pending: BTreeMap<u32, OrderId>,
}

/// Sorts out a wave's answers; of two answers to one buyer the better one counts.
#[must_use]
pub fn outcome(clicks: &[ClickRecord], wave: u32) -> Outcome {
    let mut outcome = Outcome::default();
    for click in clicks.iter().filter(|click| click.wave == wave) {
        match click.answer {
            Answer::Reserved(order_id) => outcome.reserved.insert(click.user, order_id),
            Answer::Pending(order_id) => outcome.pending.insert(click.user, order_id),
            Answer::Refused { .. } | Answer::Limited { .. } | Answer::None => None,
        };
    }
    outcome
        .pending
        .retain(|user, _| !outcome.reserved.contains_key(user));
    outcome
}

/// The users from 1 to `buyers` who have never been given an order, or who cannot know.
#[must_use]
pub fn empty_handed(clicks: &[ClickRecord], buyers: u32) -> Vec<u32> {
    let served: BTreeSet<u32> = clicks
        .iter()
        .filter(|click| click.answer.order_id().is_some())
        .map(|click| click.user)
        .collect();
    (1..=buyers).filter(|user| !served.contains(user)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u8) -> OrderId {
        format!("00000000-0100-8000-8000-0000000000{number:02}")
            .parse()
            .unwrap()
    }

    #[test]
    fn everyone_clicks_and_repeats_stand_beside_their_first_click() {
        let mut rng = fastrand::Rng::with_seed(1);
        let clicks = clicks((1..=1000).collect(), 1, 10, &mut rng);
        let users: BTreeSet<u32> = clicks.iter().map(|c| c.user).collect();
        assert_eq!(users.len(), 1000);
        let pairs = clicks
            .windows(2)
            .filter(|w| w[0].user == w[1].user && w[0].key == w[1].key);
        assert_eq!(pairs.count(), clicks.len() - 1000);
        assert!((1050..1150).contains(&clicks.len()), "{}", clicks.len());
    }

    #[test]
    fn some_hammer_and_who_was_only_refused_for_a_limit_comes_again() {
        let mut rng = fastrand::Rng::with_seed(1);
        let clicks = clicks((1..=2_000).collect(), 1, 0, &mut rng);
        let clicks = hammered(clicks);
        assert_eq!(clicks.len(), 1_998 + 2 * HAMMERING_CLICKS);
        let limited = Answer::Limited { scope: "user" };
        let records = [
            (1, 1, limited),
            (1, 2, limited),
            (1, 2, Answer::Reserved(order(1))),
            (1, 3, Answer::None),
            (2, 4, limited),
        ]
        .map(|(wave, user, answer)| ClickRecord { wave, user, answer });
        assert_eq!(over_a_limit(&records, 1), [1]);
    }

    #[test]
    fn a_promise_outweighs_the_pending_answer_to_the_same_key() {
        let sold_out = Answer::Refused {
            status: 409,
            problem: "sold-out",
        };
        let records = [
            (1, Answer::Pending(order(1))),
            (1, Answer::Reserved(order(1))),
            (2, Answer::Pending(order(2))),
            (3, sold_out),
            (4, Answer::None),
        ]
        .map(|(user, answer)| ClickRecord {
            wave: 1,
            user,
            answer,
        });
        let outcome = outcome(&records, 1);
        assert_eq!(outcome.reserved, BTreeMap::from([(1, order(1))]));
        assert_eq!(outcome.pending, BTreeMap::from([(2, order(2))]));
        assert_eq!(empty_handed(&records, 5), [3, 4, 5]);
    }
}
