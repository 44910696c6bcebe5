//! When a token renews itself. Busy clients renew early and soon only late, so that a stolen token's
//! session has an end: no chain of renewals outlives eleven lives of a token.

use std::time::Duration;

/// Renewals of one session, in all.
pub const RENEWALS_MAX: u32 = 10;

/// How eagerly a token renews itself. It only ever becomes less eager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Any request renews.
    Always,
    /// A request renews when at most three quarters of the life remain.
    ThreeQuarters,
    /// A request renews when at most half of the life remains.
    Half,
}

impl Level {
    /// As the claim has it: 0, 1 or 2.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Always => 0,
            Self::ThreeQuarters => 1,
            Self::Half => 2,
        }
    }

    /// Reads [`Self::number`] back. A level of a later version is taken for the least eager.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Always,
            1 => Self::ThreeQuarters,
            _ => Self::Half,
        }
    }

    /// What it becomes with a renewal.
    const fn next(self) -> Self {
        match self {
            Self::Always => Self::ThreeQuarters,
            Self::ThreeQuarters | Self::Half => Self::Half,
        }
    }

    /// Whether a request renews while so much of the life remains. The edges belong to the later part:
    /// "3/4 or less".
    const fn permits(self, remaining: Duration, life: Duration) -> bool {
        let (left, whole) = (remaining.as_nanos(), life.as_nanos());
        match self {
            Self::Always => true,
            Self::ThreeQuarters => left.saturating_mul(4) <= whole.saturating_mul(3),
            Self::Half => left.saturating_mul(2) <= whole,
        }
    }
}

/// What a token has become by its renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// How eagerly it renews.
    pub level: Level,
    /// How many renewals led to it.
    pub count: u32,
}

impl Renewal {
    /// Of a token that a sign-in gave out.
    pub const SIGNED_IN: Self = Self {
        level: Level::Always,
        count: 0,
    };
}

/// What the token becomes if a request with it renews it now: `remaining` of its `life` is left. One step a
/// renewal, whenever it comes: who waits is never worse off than who hurries. None: this request does not renew it.
#[must_use]
pub fn renew(token: Renewal, remaining: Duration, life: Duration) -> Option<Renewal> {
    let renews =
        !remaining.is_zero() && token.count < RENEWALS_MAX && token.level.permits(remaining, life);
    renews.then(|| Renewal {
        level: token.level.next(),
        count: token.count + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFE_MS: u64 = 1000;

    fn after(level: Level, count: u32, remaining_ms: u64) -> Option<(Level, u32)> {
        let token = Renewal { level, count };
        let (remaining, life) = (
            Duration::from_millis(remaining_ms),
            Duration::from_millis(LIFE_MS),
        );
        renew(token, remaining, life).map(|renewed| (renewed.level, renewed.count))
    }

    /// The table of docs/sign-in.md, at its edges.
    #[test]
    fn the_table() {
        use Level::{Always, Half, ThreeQuarters};
        let table = [
            // level, remaining of 1000, and what it becomes
            (Always, 1000, Some(ThreeQuarters)),
            (Always, 751, Some(ThreeQuarters)),
            (Always, 750, Some(ThreeQuarters)),
            (Always, 501, Some(ThreeQuarters)),
            (Always, 500, Some(ThreeQuarters)),
            (Always, 1, Some(ThreeQuarters)),
            (Always, 0, None),
            (ThreeQuarters, 1000, None),
            (ThreeQuarters, 751, None),
            (ThreeQuarters, 750, Some(Half)),
            (ThreeQuarters, 501, Some(Half)),
            (ThreeQuarters, 500, Some(Half)),
            (ThreeQuarters, 1, Some(Half)),
            (ThreeQuarters, 0, None),
            (Half, 1000, None),
            (Half, 751, None),
            (Half, 750, None),
            (Half, 501, None),
            (Half, 500, Some(Half)),
            (Half, 1, Some(Half)),
            (Half, 0, None),
        ];
        for (level, remaining, becomes) in table {
            for count in [0, 1, RENEWALS_MAX - 1] {
                let expected = becomes.map(|level| (level, count + 1));
                assert_eq!(
                    after(level, count, remaining),
                    expected,
                    "{level:?} {remaining}"
                );
            }
            for count in [RENEWALS_MAX, RENEWALS_MAX + 1, u32::MAX] {
                assert_eq!(
                    after(level, count, remaining),
                    None,
                    "{level:?} {remaining}"
                );
            }
        }
    }

    #[test]
    fn a_level_survives_the_claim() {
        for level in [Level::Always, Level::ThreeQuarters, Level::Half] {
            assert_eq!(Level::from_number(level.number()), level);
        }
        assert_eq!(Level::from_number(99), Level::Half);
    }

    proptest! {
        /// Whenever a client asks, the session ends after ten renewals and eleven lives at most,
        /// the level never falls, and two renewals at one level above `Always` are a quarter of a
        /// life apart at least.
        #[test]
        fn a_session_ends(
            life_ms in 4_u64..100_000,
            pauses in proptest::collection::vec(0_u64..100_000, 1..200),
        ) {
            let life = Duration::from_millis(life_ms);
            let (mut token, mut issued, mut now) = (Renewal::SIGNED_IN, 0_u64, 0_u64);
            let mut renewals = 0_u32;
            for pause in pauses {
                now += pause % (life_ms + 2);
                let remaining = (issued + life_ms).saturating_sub(now);
                let Some(renewed) = renew(token, Duration::from_millis(remaining), life) else {
                    continue;
                };
                prop_assert!(remaining > 0, "an expired token does not renew");
                prop_assert!(renewed.level >= token.level);
                prop_assert_eq!(renewed.count, token.count + 1);
                if token.level >= Level::ThreeQuarters {
                    prop_assert!(4 * (now - issued) >= life_ms);
                }
                (token, issued, renewals) = (renewed, now, renewals + 1);
            }
            prop_assert!(renewals <= RENEWALS_MAX);
            prop_assert!(issued + life_ms <= u64::from(RENEWALS_MAX + 1) * life_ms);
        }

        /// The rule is monotone: of two clients, who asks later in the life of equal tokens renews whenever the
        /// other one does, and has the same token then.
        #[test]
        fn who_waits_is_never_worse_off_than_who_hurries(
            life_ms in 1_u64..100_000,
            level in 0_u8..3,
            count in 0..RENEWALS_MAX + 2,
            remaining in (1_u64..100_000, 1_u64..100_000),
        ) {
            let token = Renewal { level: Level::from_number(level), count };
            let (one, other) = (remaining.0.min(life_ms), remaining.1.min(life_ms));
            let at = |remaining| renew(token, Duration::from_millis(remaining), Duration::from_millis(life_ms));
            let (hasty, patient) = (at(one.max(other)), at(one.min(other)));
            prop_assert!(hasty.is_none() || patient == hasty, "{hasty:?} {patient:?}");
        }
    }
}
