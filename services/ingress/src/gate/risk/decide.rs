//! The decision itself. It depends on the rules and the facts of the attempt only.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use seckill_domain::UserId;
use seckill_orderbook::RiskRule;

use crate::gate::sale_tokens::PageProof;

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// An operator has blocked the user.
    UserBlocked,
    /// An operator has blocked the address, or a network that it is in.
    AddressBlocked,
    /// More users than allowed have ordered from the address within the hour.
    CrowdedAddress,
    /// The user has not loaded the sale's page.
    PageNotSeen,
    /// The user loaded the page too short a time ago for a person, or so long ago that its token has expired, or
    /// its time is in the future.
    ImpossibleTiming,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::UserBlocked,
        Self::AddressBlocked,
        Self::CrowdedAddress,
        Self::PageNotSeen,
        Self::ImpossibleTiming,
    ];

    /// As the table, the API and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserBlocked => "user-blocked",
            Self::AddressBlocked => "address-blocked",
            Self::CrowdedAddress => "crowded-address",
            Self::PageNotSeen => "page-not-seen",
            Self::ImpossibleTiming => "impossible-timing",
        }
    }
}

/// The decision about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No rule refuses it.
    Allow,
    /// This rule refuses it: the first one in the order of [`Rule`].
    Deny(Rule),
}

/// One attempt to order.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The user.
    pub user: UserId,
    /// The client's address, as far as it is known or claimed.
    pub address: Option<IpAddr>,
    /// How many users have tried from that address within the hour, including this one.
    pub users_at_address: usize,
    /// Its proof that the buyer has loaded the sale's page.
    pub page: PageProof,
}

/// The rules that are in force.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    users: HashSet<UserId>,
    networks: Vec<IpNet>,
    users_per_address: Option<usize>,
    page_needed: bool,
    page_at_least: Option<Duration>,
}

impl Rules {
    /// Reads the table's rows. The second list has the rows that this version does not know.
    #[must_use]
    pub fn read(rows: &[RiskRule]) -> (Self, Vec<&RiskRule>) {
        let mut rules = Self::default();
        let unknown = rows.iter().filter(|row| !rules.add(row)).collect();
        (rules, unknown)
    }

    /// Whether an operator has blocked this user.
    #[must_use]
    pub fn blocks(&self, user: UserId) -> bool {
        self.users.contains(&user)
    }

    fn add(&mut self, row: &RiskRule) -> bool {
        match row.rule.as_str() {
            "user-blocked" => {
                let user = row.subject.parse().ok().and_then(|id| UserId::new(id).ok());
                user.map(|user| self.users.insert(user)).is_some()
            }
            "address-blocked" => {
                let network = row.subject.parse::<IpNet>();
                let network = network.or_else(|_| row.subject.parse::<IpAddr>().map(IpNet::from));
                network.map(|network| self.networks.push(network)).is_ok()
            }
            "crowded-address" => {
                self.users_per_address = usize::try_from(row.value).ok();
                self.users_per_address.is_some()
            }
            "page-not-seen" => {
                self.page_needed = true;
                true
            }
            "impossible-timing" => {
                let least = u64::try_from(row.value).ok();
                self.page_at_least = least.map(Duration::from_millis);
                self.page_at_least.is_some()
            }
            _ => false,
        }
    }

    /// How many users may order from one address in an hour, if that is limited.
    #[must_use]
    pub const fn users_per_address(&self) -> Option<usize> {
        self.users_per_address
    }
}

/// Whether an order is refused, and by which rule.
#[must_use]
pub fn decide(rules: &Rules, attempt: &Attempt) -> Decision {
    let blocked = |address: IpAddr| rules.networks.iter().any(|n| n.contains(&address));
    if rules.users.contains(&attempt.user) {
        Decision::Deny(Rule::UserBlocked)
    } else if attempt.address.is_some_and(blocked) {
        Decision::Deny(Rule::AddressBlocked)
    } else if rules
        .users_per_address
        .is_some_and(|most| attempt.users_at_address > most)
    {
        Decision::Deny(Rule::CrowdedAddress)
    } else if rules.page_needed && matches!(attempt.page, PageProof::Missing | PageProof::Invalid) {
        Decision::Deny(Rule::PageNotSeen)
    } else if rules
        .page_at_least
        .is_some_and(|least| is_impossible(attempt.page, least))
    {
        Decision::Deny(Rule::ImpossibleTiming)
    } else {
        Decision::Allow
    }
}

/// Whether the time since the page was loaded is impossible for a person. Without a page the time is not known.
fn is_impossible(page: PageProof, least: Duration) -> bool {
    match page {
        PageProof::Missing | PageProof::Invalid => false,
        PageProof::Expired | PageProof::Early => true,
        PageProof::Good { age, .. } => age < least,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn row(rule: &str, subject: &str, value: i64) -> RiskRule {
        RiskRule {
            rule: rule.to_owned(),
            subject: subject.to_owned(),
            value,
        }
    }

    fn attempt(user: i64, address: &str, users_at_address: usize) -> Attempt {
        Attempt {
            user: UserId::new(user).unwrap(),
            address: Some(address.parse().unwrap()),
            users_at_address,
            page: PageProof::Missing,
        }
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        let anybody = attempt(1, "203.0.113.5", usize::MAX);
        assert_eq!(decide(&Rules::default(), &anybody), Decision::Allow);
    }

    #[test]
    fn each_rule_denies_what_it_names_and_nothing_else() {
        let rows = [
            row("user-blocked", "7", 0),
            row("address-blocked", "198.51.100.0/24", 0),
            row("address-blocked", "203.0.113.9", 0),
            row("crowded-address", "*", 3),
        ];
        let (rules, unknown) = Rules::read(&rows);
        assert!(unknown.is_empty());
        let deny = Decision::Deny;
        let table = [
            (attempt(1, "203.0.113.5", 3), Decision::Allow),
            (attempt(7, "203.0.113.5", 1), deny(Rule::UserBlocked)),
            (attempt(7, "203.0.113.9", 9), deny(Rule::UserBlocked)),
            (attempt(1, "198.51.100.200", 1), deny(Rule::AddressBlocked)),
            (attempt(1, "203.0.113.9", 1), deny(Rule::AddressBlocked)),
            (attempt(1, "203.0.113.5", 4), deny(Rule::CrowdedAddress)),
        ];
        for (attempt, expected) in table {
            assert_eq!(decide(&rules, &attempt), expected, "{attempt:?}");
        }
    }

    #[test]
    fn what_is_known_of_the_page_is_judged_by_its_rules_only() {
        let age = |millis| PageProof::Good {
            nonce: Uuid::nil(),
            age: Duration::from_millis(millis),
        };
        let (unseen, timing) = (
            row("page-not-seen", "*", 0),
            row("impossible-timing", "*", 300),
        );
        let (unseen, timing) = (vec![unseen], vec![timing]);
        let both = [unseen.clone(), timing.clone()].concat();
        let denies = |rows: &[RiskRule], page| {
            let (rules, unknown) = Rules::read(rows);
            assert!(unknown.is_empty());
            let attempt = Attempt {
                page,
                ..attempt(1, "203.0.113.5", 1)
            };
            match decide(&rules, &attempt) {
                Decision::Allow => None,
                Decision::Deny(rule) => Some(rule),
            }
        };
        let (not_seen, impossible) = (Some(Rule::PageNotSeen), Some(Rule::ImpossibleTiming));
        // By the first rule, by the second, by both.
        let table = [
            (PageProof::Missing, [not_seen, None, not_seen]),
            (PageProof::Invalid, [not_seen, None, not_seen]),
            (PageProof::Expired, [None, impossible, impossible]),
            (PageProof::Early, [None, impossible, impossible]),
            (age(0), [None, impossible, impossible]),
            (age(299), [None, impossible, impossible]),
            (age(300), [None, None, None]),
        ];
        for (page, expected) in table {
            let found = [&unseen, &timing, &both].map(|rows| denies(rows, page));
            assert_eq!(found, expected, "{page:?}");
            assert_eq!(denies(&[], page), None, "{page:?}");
        }
    }

    #[test]
    fn a_row_of_a_later_version_is_named_and_the_others_hold() {
        let rows = [row("moon-phase", "*", 1), row("user-blocked", "7", 0)];
        let (rules, unknown) = Rules::read(&rows);
        assert_eq!(unknown, [&rows[0]]);
        let blocked = attempt(7, "203.0.113.5", 1);
        assert_eq!(decide(&rules, &blocked), Decision::Deny(Rule::UserBlocked));
    }
}
