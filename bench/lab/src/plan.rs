//! How each scenario is run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gate::Trap;
use crate::scenario::Scenario;

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
/// So long that a watchdog on a busy machine renews it in time, three times a lease.
const SLOW_WORK_LEASE: Duration = Duration::from_secs(1);
const SLOW_WORK: Duration = Duration::from_secs(3);
/// Fifty for each of twenty segments.
const THOUSAND: usize = 1_000;
const POOL_CLIENTS: usize = 200;
const POOL: PoolSize = PoolSize {
    connections: 20,
    patience: Duration::from_millis(250),
};
/// As many as the slowest of those that are compared can take.
pub const STEADY_PER_SECOND: u32 = 100;
/// No buyer waits for another one's answer.
const STEADY_CONCURRENCY: usize = 150;

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
    /// Nothing: it takes its time.
    SlowWork,
    /// The same user clicks in a second process.
    SecondProcess,
}

/// Connections that buyers share.
#[derive(Debug, Clone, Copy)]
pub struct PoolSize {
    pub connections: usize,
    /// How long a buyer waits for one.
    pub patience: Duration,
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
    /// What waits where a lease is given back.
    pub exit: Trap,
    /// How many of the rung's Redis servers are dead.
    pub dead_servers: usize,
    /// Connections to PostgreSQL, if others than one a buyer.
    pub pool: Option<PoolSize>,
    /// What happens while the first buyer, in a process of its own, is there.
    pub fault: Option<Fault>,
    /// How long a process stands still, or is dead before anybody notices.
    pub pause: Duration,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long a buyer waits for an answer.
    pub patience: Duration,
    /// Time between two buyers, if they come by the clock and not when others are answered.
    pub every: Option<Duration>,
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
    /// How long buyers come by the clock, in seconds.
    pub steady_s: usize,
}

impl Load {
    /// Buyers of [`Scenario::Steady`].
    fn steady(&self) -> usize {
        STEADY_PER_SECOND as usize * self.steady_s
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms)
    }
}

impl Scenario {
    /// How it is run.
    #[must_use]
    pub fn plan(self, load: &Load) -> Plan {
        let duel = duel(load.pause());
        match self {
            Self::Exact => Plan {
                stock: EXACT_STOCK,
                buyers: EXACT_STOCK,
                concurrency: EXACT_CONCURRENCY,
                patience: LOAD_PATIENCE,
                ..duel
            },
            Self::Thousand => Plan {
                stock: THOUSAND,
                buyers: THOUSAND,
                concurrency: EXACT_CONCURRENCY,
                patience: LOAD_PATIENCE,
                stop_after: LONG_LEASE * 4,
                ..duel
            },
            Self::Pool => Plan {
                stock: THOUSAND,
                buyers: THOUSAND,
                concurrency: POOL_CLIENTS,
                trap: Trap::Hold(0),
                pool: Some(POOL),
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
            Self::Steady => Plan {
                stock: load.steady(),
                buyers: load.steady(),
                concurrency: STEADY_CONCURRENCY,
                every: Some(Duration::from_secs(1) / STEADY_PER_SECOND),
                pool: Some(PoolSize {
                    patience: LOAD_PATIENCE,
                    ..POOL
                }),
                patience: LOAD_PATIENCE,
                ..duel
            },
            _ => self.struck(load.pause(), duel),
        }
    }

    /// Of those in which something strikes eight buyers of two units.
    fn struck(self, pause: Duration, duel: Plan) -> Plan {
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
            Self::TwoProcesses => struck_by(Fault::SecondProcess),
            Self::SlowWork => Plan {
                pause: SLOW_WORK,
                lease: SLOW_WORK_LEASE,
                patience: LOAD_PATIENCE,
                ..struck_by(Fault::SlowWork)
            },
            // The second to come to the critical point is held there: the first one has its lease no more.
            Self::LateRelease => Plan {
                trap: Trap::Hold(1),
                exit: Trap::Hold(0),
                ..duel
            },
            Self::TwoDead | Self::ThreeDead => Plan {
                trap: Trap::Meeting(DUEL_BUYERS),
                dead_servers: if self == Self::TwoDead { 2 } else { 3 },
                ..duel
            },
            Self::DoubleClick => Plan {
                stock: 4,
                buyers: 2,
                trap: Trap::Meeting(2),
                ..duel
            },
            _ => duel,
        }
    }
}

/// Eight buyers of two units, whom nothing strikes.
fn duel(pause: Duration) -> Plan {
    Plan {
        stock: DUEL_STOCK,
        buyers: DUEL_BUYERS,
        concurrency: DUEL_BUYERS,
        trap: Trap::None,
        exit: Trap::None,
        dead_servers: 0,
        pool: None,
        fault: None,
        pause,
        lease: LONG_LEASE,
        patience: PATIENCE_MIN.max(pause * PAUSES_OF_PATIENCE),
        every: None,
        stop_after: LONG_LEASE,
    }
}
