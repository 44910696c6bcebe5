//! What is done to a rung, and what can come of it.

use serde::{Deserialize, Serialize};

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
    /// One user's clicks in two processes meet there.
    TwoProcesses,
    /// The first buyer's process works there for three leases, and is alive.
    SlowWork,
    /// The first buyer's lease ends between its work and its release of the lock, when the second is inside.
    LateRelease,
    /// As the race, with two of five Redis servers dead.
    TwoDead,
    /// As the race, with three of five Redis servers dead.
    ThreeDead,
    /// As many buyers as units, a thousand.
    Thousand,
    /// 200 clients over HTTP, twenty connections to PostgreSQL, and the first buyer stands still.
    Pool,
    /// One user clicks twice at once, and then again.
    DoubleClick,
    /// As many buyers as units.
    Exact,
    /// Many buyers, no trap: for the speed.
    Load,
    /// Over HTTP, so many a second whatever the answers are: for how long an answer takes at the same load.
    Steady,
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

/// What each scenario is expected to show; `None` where it depends on timing.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Everybody meets at the critical point.
    pub race: Option<Verdict>,
    /// One buyer's process stops there for longer than a lease.
    pub pause: Option<Verdict>,
    /// One buyer's process is killed there.
    pub death: Option<Verdict>,
    /// Redis comes back without what it was last told, while one buyer is there; `None` where that
    /// says nothing, and it is not run.
    pub restart: Option<Verdict>,
    /// Redis' clock steps beyond every lease, while one buyer is there; `None` where that says
    /// nothing, and it is not run.
    pub clock_step: Option<Verdict>,
    /// One user clicks in two processes at once; `None` where two processes are nothing special, and
    /// it is not run. So it is with all that follow down to [`Expected::pool`].
    pub two_processes: Option<Verdict>,
    /// One buyer's process works there for longer than a lease, and is alive.
    pub slow_work: Option<Verdict>,
    /// One buyer's lease ends between its work and its release of the lock.
    pub late_release: Option<Verdict>,
    /// Two of the rung's five Redis servers are dead.
    pub two_dead: Option<Verdict>,
    /// Three of them are.
    pub three_dead: Option<Verdict>,
    /// As many buyers as units, a thousand.
    pub thousand: Option<Verdict>,
    /// 200 clients over HTTP, twenty connections to PostgreSQL, and one buyer who stands still.
    pub pool: Option<Verdict>,
    /// One user clicks twice at once, and then again.
    pub double_click: Option<Verdict>,
    /// As many buyers as units.
    pub exact: Option<Verdict>,
}

impl Expected {
    /// Sells all units once each, but knows no user: who clicks twice buys twice.
    pub const SAFE: Self = Self {
        race: Some(Verdict::Safe),
        pause: Some(Verdict::Safe),
        death: Some(Verdict::Safe),
        restart: None,
        clock_step: None,
        two_processes: None,
        slow_work: None,
        late_release: None,
        two_dead: None,
        three_dead: None,
        thousand: None,
        pool: None,
        double_click: Some(Verdict::Duplicates),
        exact: Some(Verdict::Safe),
    };

    /// Fails where buyers overlap; whether they do without help is luck.
    pub const OVERSELLS: Self = Self {
        race: Some(Verdict::Oversells),
        pause: Some(Verdict::Oversells),
        death: None,
        exact: None,
        ..Self::SAFE
    };

    /// A lock in Redis that nothing but Redis keeps: who holds it while Redis forgets it sells on.
    pub const LEASED: Self = Self {
        pause: Some(Verdict::Oversells),
        restart: Some(Verdict::Oversells),
        clock_step: Some(Verdict::Oversells),
        slow_work: Some(Verdict::Oversells),
        late_release: Some(Verdict::Safe),
        ..Self::SAFE
    };
}

impl Scenario {
    /// Those in which something is made to happen: all that are not for a speed.
    pub const DUELS: [Self; 14] = [
        Self::Race,
        Self::Pause,
        Self::Death,
        Self::Restart,
        Self::ClockStep,
        Self::TwoProcesses,
        Self::SlowWork,
        Self::LateRelease,
        Self::TwoDead,
        Self::ThreeDead,
        Self::Thousand,
        Self::Pool,
        Self::DoubleClick,
        Self::Exact,
    ];

    /// Whether it is one of those that are done to a rung of which this is expected.
    #[must_use]
    pub fn concerns(self, expected: &Expected) -> bool {
        match self {
            Self::Race | Self::Pause | Self::Death | Self::DoubleClick | Self::Exact => true,
            _ => self.expected(expected).is_some(),
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
            Self::TwoProcesses => expected.two_processes,
            Self::SlowWork => expected.slow_work,
            Self::LateRelease => expected.late_release,
            Self::TwoDead => expected.two_dead,
            Self::ThreeDead => expected.three_dead,
            Self::Thousand => expected.thousand,
            Self::Pool => expected.pool,
            Self::DoubleClick => expected.double_click,
            Self::Exact => expected.exact,
            Self::Load | Self::Steady => None,
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
            Self::TwoProcesses => "two processes",
            Self::SlowWork => "slow work",
            Self::LateRelease => "late release",
            Self::TwoDead => "two dead",
            Self::ThreeDead => "three dead",
            Self::Thousand => "thousand",
            Self::Pool => "pool",
            Self::DoubleClick => "double click",
            Self::Exact => "exact",
            Self::Load => "load",
            Self::Steady => "steady",
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
