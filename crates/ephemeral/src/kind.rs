//! What is cached, under which keys, and how each kind is rebuilt.

use std::time::Duration;

use seckill_domain::VoucherId;

/// How an entry that has expired is rebuilt. In both there is one rebuilder, behind a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Everybody else waits for it: for what must not be shown once it is known to be wrong.
    Mutex,
    /// Everybody gets the old value at once, and it is rebuilt behind them: for what everybody asks
    /// for and may be a little old. What is missing altogether is waited for.
    LogicalExpiry,
}

/// A kind of entry.
#[derive(Debug)]
pub struct Kind {
    /// As metrics call it.
    pub name: &'static str,
    /// How it is rebuilt.
    pub strategy: Strategy,
    /// How long it is good in Redis.
    pub fresh: Duration,
    /// How much longer it is answered while it is rebuilt: of [`Strategy::LogicalExpiry`] only.
    pub old: Duration,
    /// How long *there is no such thing* is remembered, in Redis and once more in the process.
    pub null: Duration,
    /// How long a process keeps its own copy.
    pub local: Duration,
    /// How many copies a process keeps.
    pub local_entries: u64,
}

impl Kind {
    /// How long Redis keeps it.
    pub(crate) fn kept(&self, is_null: bool) -> Duration {
        match self.strategy {
            _ if is_null => self.null,
            Strategy::Mutex => self.fresh,
            Strategy::LogicalExpiry => self.fresh + self.old,
        }
    }

    /// Whether an entry that Redis keeps for `left` longer is still good. Ages by Redis' clock only.
    pub(crate) fn is_fresh(&self, left: Duration, is_null: bool) -> bool {
        is_null || self.strategy == Strategy::Mutex || left > self.old
    }
}

/// One sale as buyers see it, without its stock. Rebuilt by one while the others wait: a sale that
/// was closed must not be shown as open by anybody who asks afterwards.
pub static CARD: Kind = Kind {
    name: "card",
    strategy: Strategy::Mutex,
    fresh: Duration::from_secs(30),
    old: Duration::ZERO,
    null: Duration::from_millis(500),
    local: Duration::from_secs(1),
    local_entries: 10_000,
};

/// The newest sales, without their stock: the one entry that every visitor asks for.
pub static SHELF: Kind = Kind {
    name: "shelf",
    strategy: Strategy::LogicalExpiry,
    fresh: Duration::from_secs(1),
    old: Duration::from_secs(9),
    null: Duration::from_millis(500),
    local: Duration::from_millis(500),
    local_entries: 1,
};

/// The name of an entry behind the deployment's prefix: `cache:{…}`, the braces because it shares a slot with its lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// Of a sale's [`CARD`].
    #[must_use]
    pub fn card(voucher: VoucherId) -> Self {
        Self(format!("cache:{{card:{voucher}}}"))
    }

    /// Of the [`SHELF`].
    #[must_use]
    pub fn shelf() -> Self {
        Self("cache:{shelf}".to_owned())
    }

    /// In Redis, behind the prefix.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.0
    }

    /// Of the lock of whoever rebuilds it, behind the prefix.
    #[must_use]
    pub fn lock(&self) -> String {
        format!("{}:lock", self.0)
    }
}
