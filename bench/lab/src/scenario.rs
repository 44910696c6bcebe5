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
/// A process that stands still outlives so many leases.
const LEASES_A_PAUSE: u32 = 4;
/// Buyers wait so many times longer than a process stands still.
const PAUSES_OF_PATIENCE: u32 = 4;
/// And at least so long, also on a busy machine.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
const LOAD_PATIENCE: Duration = Duration::from_secs(30);

/// One thing done to every rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Eight buyers meet at the critical point, for two units.
    Race,
    /// The first buyer's process is stopped there (SIGSTOP) for four leases.
    Pause,
    /// The first buyer's process is killed there (SIGKILL).
    Death,
    /// While the first buyer is there, Redis is killed and comes back with what it held when the sale opened.
    Restart,
    /// While the first buyer is there, Redis' clock steps beyond the end of every lease.
    ClockStep,
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
    /// Buyers were told that they have an order, and there is no such order.
    LosesOrders,
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

/// What strikes while the first buyer is at the critical point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its process stands still.
    Pause,
    /// Its process is killed.
    Death,
    /// Redis loses what it was told since the sale opened.
    Restart,
    /// Every lease in Redis is over.
    ClockStep,
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
    /// What happens while the first buyer, in a process of its own, is there.
    pub fault: Option<Fault>,
    /// How long a process stands still, or is dead before anybody notices.
    pub pause: Duration,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long a buyer waits for an answer.
    pub patience: Duration,
    /// When no new buyer comes any more, after the first one.
    pub stop_after: Duration,
}

/// The size of [`Scenario::Load`], and the pace of the others.
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
    /// How long a process stands still, in milliseconds.
    pub pause_ms: u64,
}

impl Scenario {
    /// Those in which something is made to happen: all but the load.
    pub const DUELS: [Self; 7] = [
        Self::Race,
        Self::Pause,
        Self::Death,
        Self::Restart,
        Self::ClockStep,
        Self::DoubleClick,
        Self::Exact,
    ];

    /// How it is run.
    #[must_use]
    pub fn plan(self, load: &Load) -> Plan {
        let pause = Duration::from_millis(load.pause_ms);
        let duel = Plan {
            stock: DUEL_STOCK,
            buyers: DUEL_BUYERS,
            concurrency: DUEL_BUYERS,
            trap: Trap::None,
            fault: None,
            pause,
            lease: LONG_LEASE,
            patience: PATIENCE_MIN.max(pause * PAUSES_OF_PATIENCE),
            stop_after: LONG_LEASE,
        };
        let struck_by = |fault| Plan {
            fault: Some(fault),
            ..duel
        };
        match self {
            Self::Race => Plan {
                trap: Trap::Meeting(DUEL_BUYERS),
                ..duel
            },
            Self::Pause => Plan {
                lease: pause / LEASES_A_PAUSE,
                ..struck_by(Fault::Pause)
            },
            Self::Death => Plan {
                lease: pause / LEASES_A_PAUSE,
                ..struck_by(Fault::Death)
            },
            Self::Restart => struck_by(Fault::Restart),
            Self::ClockStep => struck_by(Fault::ClockStep),
            Self::DoubleClick => Plan {
                stock: 4,
                buyers: 2,
                trap: Trap::Meeting(2),
                ..duel
            },
            Self::Exact => Plan {
                stock: EXACT_STOCK,
                buyers: EXACT_STOCK,
                concurrency: EXACT_CONCURRENCY,
                patience: LOAD_PATIENCE,
                ..duel
            },
            Self::Load => Plan {
                stock: load.stock,
                buyers: load.buyers,
                concurrency: load.concurrency,
                patience: LOAD_PATIENCE,
                stop_after: Duration::from_secs(load.stop_after_s),
                ..duel
            },
        }
    }

    /// Whether it is done to a rung of which this is expected.
    #[must_use]
    pub fn concerns(self, expected: &Expected) -> bool {
        match self {
            Self::Restart => expected.restart.is_some(),
            Self::ClockStep => expected.clock_step.is_some(),
            _ => true,
        }
    }

    /// What it is expected to show; `None` where that depends on timing.
    #[must_use]
    pub fn expected(self, expected: &Expected) -> Option<Verdict> {
        match self {
            Self::Race => expected.race,
            Self::Pause => expected.pause,
            Self::Death => expected.death,
            Self::Restart => expected.restart,
            Self::ClockStep => expected.clock_step,
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
            Self::Restart => "restart",
            Self::ClockStep => "clock step",
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
            Self::LosesOrders => "loses orders",
            Self::Duplicates => "duplicates",
            Self::Deadlocks => "deadlocks",
            Self::Blocks => "blocks",
            Self::LosesUnits => "loses units",
            Self::Strands => "strands",
            Self::Safe => "safe",
        }
    }
}
