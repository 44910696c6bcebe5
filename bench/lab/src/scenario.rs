//! What is done to a rung, and what can come of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gate::Trap;
use crate::strategy::Expected;

/// So many buyers meet, for [`DUEL_STOCK`] units.
const DUEL_BUYERS: usize = 8;
const DUEL_STOCK: usize = 2;
const EXACT_STOCK: usize = 40;
const EXACT_CONCURRENCY: usize = 10;
/// A lease that nothing outlives.
const LONG_LEASE: Duration = Duration::from_secs(30);
/// A lease as a paused process outlives it.
const SHORT_LEASE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(400);
const DUEL_PATIENCE: Duration = Duration::from_millis(1_500);
const LOAD_PATIENCE: Duration = Duration::from_secs(30);

/// One thing done to every rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Eight buyers meet at the critical point, for two units.
    Race,
    /// The first buyer's process stops there for four leases.
    Pause,
    /// The first buyer's process dies there.
    Death,
    /// One user clicks twice at once, and then again.
    DoubleClick,
    /// As many buyers as units.
    Exact,
    /// Many buyers, no trap: for the speed.
    Load,
}

/// What came of a scenario, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// More units were sold than there were.
    Oversells,
    /// One user has several orders.
    Duplicates,
    /// Buyers got an error because PostgreSQL had to break a deadlock.
    Deadlocks,
    /// Units are left, and nobody can buy them because nobody gets in.
    Blocks,
    /// Units are left that the rung will never sell.
    LosesUnits,
    /// Buyers were turned away while units were left; who comes later gets them.
    Strands,
    /// All units sold, once each.
    Safe,
}

/// How a scenario is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Units on sale.
    pub stock: usize,
    /// Buyers, each of whom clicks once.
    pub buyers: usize,
    /// How many of them at a time.
    pub concurrency: usize,
    /// What waits at the critical point.
    pub trap: Trap,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long a buyer waits for an answer.
    pub patience: Duration,
    /// When no new buyer comes any more, after the first one.
    pub stop_after: Duration,
}

/// The size of [`Scenario::Load`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Load {
    /// Units on sale.
    pub stock: usize,
    /// Buyers, each of whom clicks once.
    pub buyers: usize,
    /// How many of them at a time.
    pub concurrency: usize,
    /// When no new buyer comes any more, after the first one.
    pub stop_after_s: u64,
}

impl Scenario {
    /// Those in which something is made to happen: all but the load.
    pub const DUELS: [Self; 5] = [
        Self::Race,
        Self::Pause,
        Self::Death,
        Self::DoubleClick,
        Self::Exact,
    ];

    /// How it is run.
    #[must_use]
    pub fn plan(self, load: &Load) -> Plan {
        let duel = Plan {
            stock: DUEL_STOCK,
            buyers: DUEL_BUYERS,
            concurrency: DUEL_BUYERS,
            trap: Trap::None,
            lease: SHORT_LEASE,
            patience: DUEL_PATIENCE,
            stop_after: LONG_LEASE,
        };
        match self {
            Self::Race => Plan {
                trap: Trap::Meeting(DUEL_BUYERS),
                lease: LONG_LEASE,
                ..duel
            },
            Self::Pause => Plan {
                trap: Trap::Pause(PAUSE),
                ..duel
            },
            Self::Death => Plan {
                trap: Trap::Death,
                ..duel
            },
            Self::DoubleClick => Plan {
                stock: 4,
                buyers: 2,
                trap: Trap::Meeting(2),
                lease: LONG_LEASE,
                ..duel
            },
            Self::Exact => Plan {
                stock: EXACT_STOCK,
                buyers: EXACT_STOCK,
                concurrency: EXACT_CONCURRENCY,
                lease: LONG_LEASE,
                patience: LOAD_PATIENCE,
                ..duel
            },
            Self::Load => Plan {
                stock: load.stock,
                buyers: load.buyers,
                concurrency: load.concurrency,
                lease: LONG_LEASE,
                patience: LOAD_PATIENCE,
                stop_after: Duration::from_secs(load.stop_after_s),
                ..duel
            },
        }
    }

    /// What it is expected to show; `None` where that depends on timing.
    #[must_use]
    pub fn expected(self, expected: &Expected) -> Option<Verdict> {
        match self {
            Self::Race => expected.race,
            Self::Pause => expected.pause,
            Self::Death => expected.death,
            Self::DoubleClick => expected.double_click,
            Self::Exact => expected.exact,
            Self::Load => None,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Race => "race",
            Self::Pause => "pause",
            Self::Death => "death",
            Self::DoubleClick => "double click",
            Self::Exact => "exact",
            Self::Load => "load",
        }
    }
}

impl Verdict {
    /// Its name, for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Oversells => "oversells",
            Self::Duplicates => "duplicates",
            Self::Deadlocks => "deadlocks",
            Self::Blocks => "blocks",
            Self::LosesUnits => "loses units",
            Self::Strands => "strands",
            Self::Safe => "safe",
        }
    }
}
