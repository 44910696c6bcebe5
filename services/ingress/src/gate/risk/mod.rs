//! Risk rules: operators write them into PostgreSQL, and they are evaluated here from memory. While PostgreSQL is
//! unavailable, the last known rules stay in force.

mod decide;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use seckill_domain::{TraceParent, UserId, VoucherId};
use seckill_metrics::Counter;
use seckill_orderbook::{Orderbook, OrderbookError};
use tokio::time::{MissedTickBehavior, interval};

pub use self::decide::{Attempt, Decision, Rule, Rules, decide};
use crate::gate::sale_tokens::PageProof;
use crate::http::address::subscriber;
use crate::http::problem::Problem;
use crate::metrics;

/// How soon a changed rule is in force.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// The time, from the first user on, during which users are counted at an address.
const CROWD_WINDOW: Duration = Duration::from_secs(3_600);
/// The most addresses that are counted. Beyond that, those that called longest ago are deleted.
const ADDRESSES_MAX: u64 = 10_000;

type Users = Arc<Mutex<HashSet<UserId>>>;

/// The buyer of an order, its sale, and where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Whose.
    pub user: UserId,
    /// Of which sale.
    pub voucher: VoucherId,
    /// From where, if that is known.
    pub address: Option<IpAddr>,
    /// The same, or, if it is not known, the address that the request claims.
    pub claimed: Option<IpAddr>,
    /// The request's trace.
    pub trace: TraceParent,
}

impl Origin {
    /// A refusal that was decided elsewhere, by the sale's own terms. It is counted and logged like one of
    /// these rules.
    #[must_use]
    pub fn denied(&self, problem: Problem) -> Problem {
        self.deny(problem.name());
        problem
    }

    fn deny(&self, rule: &'static str) {
        let Self {
            user,
            voucher,
            claimed: address,
            trace,
            ..
        } = self;
        count("deny", rule);
        tracing::info!(%trace, %user, %voucher, ?address, rule, "order denied");
    }
}

impl From<Rule> for Problem {
    fn from(rule: Rule) -> Self {
        let detail = match rule {
            Rule::UserBlocked | Rule::AddressBlocked | Rule::CrowdedAddress => {
                "Orders are not taken from you here: ask the shop, and name rule."
            }
            Rule::PageNotSeen => {
                "Orders come from the sale's page: open it, and send its token as X-Sale-Token."
            }
            Rule::ImpossibleTiming => {
                "The order came too soon after its page was opened, or too late: order from the page once more."
            }
        };
        Self::denied(rule.as_str(), detail)
    }
}

thread_local! {
    /// Counters are stored here, because a look-up by name takes longer than counting.
    static DECISIONS: RefCell<HashMap<(&'static str, &'static str), Counter>> = RefCell::default();
}

fn count(decision: &'static str, rule: &'static str) {
    DECISIONS.with_borrow_mut(|decisions| {
        let counter = || metrics::RISK_DECISIONS.with([decision, rule]);
        let found = decisions.entry((decision, rule));
        found.or_insert_with(counter).increment(1);
    });
}

/// The rules, and the users that were seen at each address.
pub struct Risk {
    rules: RwLock<Arc<Rules>>,
    /// The table's version of them; 0 before they were read.
    version: AtomicI64,
    crowds: Cache<IpAddr, Users>,
}

impl Default for Risk {
    fn default() -> Self {
        let crowds = Cache::builder()
            .max_capacity(ADDRESSES_MAX)
            .time_to_live(CROWD_WINDOW)
            .eviction_policy(EvictionPolicy::lru());
        Self {
            rules: RwLock::default(),
            version: AtomicI64::new(0),
            crowds: crowds.build(),
        }
    }
}

impl Risk {
    /// Decides about one attempt, counts the decision and logs a denial.
    ///
    /// # Errors
    /// `denied`.
    pub fn admit(&self, origin: Origin, page: PageProof) -> Result<(), Problem> {
        let Origin {
            user,
            address,
            claimed,
            ..
        } = origin;
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let counted = rules.users_per_address().zip(address);
        let attempt = Attempt {
            user,
            address: claimed,
            users_at_address: counted.map_or(0, |(most, at)| self.count(user, at, most)),
            page,
        };
        match decide(&rules, &attempt) {
            Decision::Allow => {
                count("allow", "none");
                let Origin { voucher, trace, .. } = origin;
                tracing::debug!(%trace, %user, %voucher, ?address, "order allowed");
                Ok(())
            }
            Decision::Deny(rule) => {
                origin.deny(rule.as_str());
                Err(Problem::from(rule))
            }
        }
    }

    /// Refuses every request of a user whom an operator has blocked.
    ///
    /// # Errors
    /// `denied`.
    pub fn check_user(&self, user: UserId) -> Result<(), Problem> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        if rules.blocks(user) {
            Err(Problem::from(Rule::UserBlocked))
        } else {
            Ok(())
        }
    }

    /// How many users were seen at an address, this one included; no more than one over `most` are kept.
    fn count(&self, user: UserId, address: IpAddr, most: usize) -> usize {
        let users = self.crowds.get_with(subscriber(address), Users::default);
        let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.contains(&user) {
            // A user who was counted before the address became crowded is not refused.
            return users.len().min(most);
        }
        if users.len() < most {
            users.insert(user);
            return users.len();
        }
        most + 1
    }

    /// Reads the rules whenever they have changed.
    pub async fn follow(&self, orderbook: Orderbook) {
        let mut ticks = interval(RELOAD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_up = true;
        loop {
            ticks.tick().await;
            let reloaded = self.refresh(&orderbook).await;
            if reloaded.is_ok() != was_up {
                was_up = reloaded.is_ok();
                let error = reloaded.err().map(|error| error.to_string());
                tracing::warn!(
                    up = was_up,
                    error,
                    "reading the risk rules; the last ones hold"
                );
            }
        }
    }

    /// Reads the rules, if they have changed since.
    ///
    /// # Errors
    /// When the database fails; the last rules hold.
    pub async fn refresh(&self, orderbook: &Orderbook) -> Result<(), OrderbookError> {
        // The version is read before the rules: a change in between is then read twice, and never missed.
        let version = orderbook.risk_version().await?;
        if self.version.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        let rows = orderbook.risk_rules().await?;
        let (rules, unknown) = Rules::read(&rows);
        for row in unknown {
            tracing::warn!(
                rule = row.rule,
                subject = row.subject,
                "a risk rule that says nothing here"
            );
        }
        tracing::info!(version, rules = rows.len(), "risk rules hold");
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.version.store(version, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_at_one_address_are_counted_once_each() {
        let risk = Risk::default();
        let count = |user, last| {
            let address = IpAddr::from([203, 0, 113, last]);
            risk.count(UserId::new(user).unwrap(), address, 2)
        };
        assert_eq!([count(1, 1), count(1, 1), count(2, 1)], [1, 1, 2]);
        assert_eq!(count(3, 1), 3, "one too many");
        assert_eq!(count(1, 1), 2, "who was there first");
        assert_eq!(count(3, 2), 1, "elsewhere");
    }
}
