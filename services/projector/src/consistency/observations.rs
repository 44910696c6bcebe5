//! What was found wrong, and whether it was found again: one observation is no alarm.

use std::collections::{BTreeMap, HashMap, HashSet};

use seckill_domain::VoucherId;
use seckill_orderbook::Finding;

/// As many as people look through before they call for `seckillctl reconcile`, which lists all.
const FINDINGS_OF_A_SALE: usize = 20;
const FINDINGS: usize = 1_000;

/// What a consistency check may find wrong, as the metric spells it.
pub(super) const INVARIANTS: [&str; 9] = [
    REDIS_STOCK,
    REDIS_HELD,
    "redis-unsettled",
    "redis-terms",
    "missing-hold",
    "wrong-hold",
    "orphan-hold",
    ORDER_SUMS,
    PAYMENTS,
];
/// The free units in Redis, and those in flight, are the free units in PostgreSQL.
pub(super) const REDIS_STOCK: &str = "redis-stock";
/// The held units in Redis, less those in flight, are the units of live orders in PostgreSQL.
pub(super) const REDIS_HELD: &str = "redis-held";
/// The units in a sale's row are those of its orders and adjustments.
pub(super) const ORDER_SUMS: &str = "order-sums";
/// No payment both paid an order and is to be refunded.
pub(super) const PAYMENTS: &str = "payments";

/// Something that is wrong with a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) invariant: &'static str,
    /// What it is about; two observations with the same are the same fault.
    pub(super) of: String,
    /// For people.
    pub(super) detail: String,
}

/// Which of the two checks saw it: each replaces only its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Units,
    Holds,
}

type Fault = (&'static str, String);

#[derive(Debug, Default)]
pub(super) struct Observations {
    last: HashMap<(Scope, VoucherId), HashSet<Fault>>,
    /// With what is said of them to people.
    alarms: HashMap<(Scope, VoucherId), BTreeMap<Fault, String>>,
}

impl Observations {
    /// Notes all that a check of a sale saw, which may be nothing.
    pub(super) fn note(&mut self, scope: Scope, voucher: VoucherId, seen: &[Observation]) {
        let key = (scope, voucher);
        let fault = |s: &Observation| (s.invariant, s.of.clone());
        let now: HashSet<Fault> = seen.iter().map(fault).collect();
        let before = self.last.remove(&key).unwrap_or_default();
        let alarms = self.alarms.remove(&key).unwrap_or_default();
        let again = seen.iter().map(|s| (fault(s), &s.detail));
        let again = again.filter(|(fault, _)| before.contains(fault));
        // What was said of a fault first stays, so that a fault that lasts is written once.
        let confirmed: BTreeMap<Fault, String> = again
            .map(|(fault, detail)| {
                let detail = alarms.get(&fault).unwrap_or(detail).clone();
                (fault, detail)
            })
            .collect();
        for (fault, detail) in &confirmed {
            let (invariant, of) = fault;
            if !alarms.contains_key(fault) {
                tracing::error!(%voucher, invariant, of, detail,
                    "the stores disagree: seckillctl reconcile says how to repair it");
            }
        }
        for (invariant, of) in alarms
            .keys()
            .filter(|fault| !confirmed.contains_key(*fault))
        {
            tracing::info!(%voucher, invariant, of, "the stores agree again");
        }
        if !confirmed.is_empty() {
            self.alarms.insert(key, confirmed);
        }
        if !now.is_empty() {
            self.last.insert(key, now);
        }
    }

    /// Forgets sales that are not checked any more.
    pub(super) fn retain(&mut self, checked: impl Fn(VoucherId) -> bool) {
        self.last.retain(|(_, voucher), _| checked(*voucher));
        self.alarms.retain(|(_, voucher), _| checked(*voucher));
    }

    /// Whether anything was seen in the sale's last check.
    pub(super) fn suspects(&self, voucher: VoucherId) -> bool {
        let scopes = [Scope::Units, Scope::Holds];
        scopes
            .iter()
            .any(|scope| self.last.contains_key(&(*scope, voucher)))
    }

    /// Sales in alarm, by invariant.
    pub(super) fn alarms(&self) -> BTreeMap<&'static str, usize> {
        let mut sales: BTreeMap<&'static str, HashSet<VoucherId>> = BTreeMap::new();
        for ((_, voucher), faults) in &self.alarms {
            for (invariant, _) in faults.keys() {
                sales.entry(invariant).or_default().insert(*voucher);
            }
        }
        let count = |(invariant, sales): (&'static str, HashSet<_>)| (invariant, sales.len());
        sales.into_iter().map(count).collect()
    }

    /// What is in alarm, of each sale the first few, in an order that is always the same.
    pub(super) fn findings(&self, partition_of: &HashMap<VoucherId, i32>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((_, voucher), faults) in &self.alarms {
            let Some(partition) = partition_of.get(voucher) else {
                continue;
            };
            let shown = faults.iter().take(FINDINGS_OF_A_SALE);
            findings.extend(shown.map(|((invariant, of), detail)| Finding {
                voucher_id: *voucher,
                partition: *partition,
                invariant: (*invariant).to_owned(),
                subject: of.clone(),
                detail: detail.clone(),
            }));
        }
        findings.sort_unstable();
        findings.truncate(FINDINGS);
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_findings_of_one_sale_hide_no_other_sale() {
        let [many, one] = [7, 8].map(|id| VoucherId::new(id).unwrap());
        let mut observations = Observations::default();
        let seen: Vec<_> = (0..30).map(|n| observation(&n.to_string())).collect();
        for _ in 0..2 {
            observations.note(Scope::Holds, many, &seen);
            observations.note(Scope::Units, one, &seen[..1]);
        }
        let partition_of = HashMap::from([(many, 0), (one, 1)]);
        let findings = observations.findings(&partition_of);
        let of = |voucher| findings.iter().filter(|f| f.voucher_id == voucher).count();
        assert_eq!((of(many), of(one)), (FINDINGS_OF_A_SALE, 1));
        let none = observations.findings(&HashMap::new());
        assert!(none.is_empty(), "sales of other projectors: {none:?}");
    }

    fn observation(of: &str) -> Observation {
        Observation {
            invariant: REDIS_STOCK,
            of: of.to_owned(),
            detail: String::new(),
        }
    }

    #[test]
    fn what_is_seen_once_is_no_alarm_and_what_is_gone_is_none_any_more() {
        let voucher = VoucherId::new(7).unwrap();
        let mut observations = Observations::default();
        let alarms = |s: &Observations| s.alarms().get(REDIS_STOCK).copied().unwrap_or(0);
        observations.note(Scope::Units, voucher, &[observation("-1")]);
        assert_eq!(
            (alarms(&observations), observations.suspects(voucher)),
            (0, true)
        );
        observations.note(Scope::Units, voucher, &[observation("-2")]);
        assert_eq!(
            alarms(&observations),
            0,
            "another fault than the one before"
        );
        observations.note(Scope::Units, voucher, &[observation("-2")]);
        observations.note(Scope::Holds, voucher, &[]);
        assert_eq!(alarms(&observations), 1);
        observations.note(Scope::Units, voucher, &[]);
        assert_eq!(
            (alarms(&observations), observations.suspects(voucher)),
            (0, false)
        );
    }
}
