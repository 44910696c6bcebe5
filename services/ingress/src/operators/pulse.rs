//! The last ten minutes of all instances, for the operators' plots.
//!
//! Each instance adds its counts to the current slot in Redis. So the list of instances need not be known, and the
//! counts of an instance stay when it dies. The counts are read from the instance's own metrics, so that an order costs
//! nothing more. The first instance in each slot reads lag and stock for all.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Pipeline;
use seckill_domain::Timestamp;
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_service::ops::Ops;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gate::admission::ORDERS_ROUTE;
use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::rfc3339;
use crate::operators::operations::{Lag, Operations};
use crate::reads::Reads;

const SLOT_SECONDS: u32 = 5;
const SLOT_MICROS: i64 = SLOT_SECONDS as i64 * 1_000_000;
/// Ten minutes.
const SLOTS: i64 = 120;
/// Two minutes longer than it is needed.
const KEPT_SECONDS: i64 = 720;
/// The number of the newest sales. The plot has a line for each of them.
const SALES: u32 = 10;
/// The field of a slot with lag and stock, for all instances.
const LOOK: &str = "look";
const ANSWER: &str = "answer ";
const WITHIN: &str = "within ";

/// What all instances answered to orders in five seconds, and how the pipeline stood.
#[derive(Debug, Serialize, ToSchema)]
pub struct Slot {
    /// Its beginning, by the instances' clocks.
    #[schema(format = DateTime)]
    at: String,
    /// Requests for an order, by answer: reserved, pending, or the problem's name.
    answers: BTreeMap<String, u64>,
    /// Half of them were answered within so many seconds. None: there were none, or it took more than 10 s.
    #[schema(required = true)]
    p50_seconds: Option<f64>,
    /// All but one in a hundred.
    #[schema(required = true)]
    p99_seconds: Option<f64>,
    /// Of PostgreSQL and what follows from it. None: Kafka or PostgreSQL did not answer.
    #[schema(required = true)]
    lag: Option<Views>,
    /// Free units in Redis of the newest sales, by id.
    stock: BTreeMap<String, i64>,
}

/// How far the views are behind.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Views {
    fold: Lag,
    effects: Lag,
}

/// The last ten minutes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pulse {
    /// How long a slot is.
    slot_seconds: u32,
    /// The oldest first; without those of which nobody reported, and the one that is not over.
    slots: Vec<Slot>,
}

/// The data that are read once in each slot.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Look {
    lag: Option<Views>,
    stock: BTreeMap<String, i64>,
}

type Counts = BTreeMap<String, u64>;

/// The slots in Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots(Ephemeral);

impl Slots {
    /// The slots in this Redis.
    #[must_use]
    pub const fn new(redis: Ephemeral) -> Self {
        Self(redis)
    }

    /// All data of the last ten minutes.
    ///
    /// # Errors
    /// `unavailable` when Redis does not answer.
    pub async fn read(&self) -> Result<Pulse, Problem> {
        let now = slot_now();
        let numbers = now - SLOTS..now;
        let mut commands = Pipeline::new();
        for number in numbers.clone() {
            commands.hgetall(self.key(number));
        }
        let found: Vec<BTreeMap<String, String>> =
            self.0.pipeline(&commands).await.map_err(|error| {
                Problem::unavailable("Redis does not answer: try again in a moment.").because(error)
            })?;
        let known = numbers.zip(found).filter(|(_, fields)| !fields.is_empty());
        Ok(Pulse {
            slot_seconds: SLOT_SECONDS,
            slots: known
                .map(|(number, fields)| slot(number, &fields))
                .collect(),
        })
    }

    /// The key of a slot. It has braces, so that all slots can be read with one command, also from a Cluster.
    fn key(&self, slot: i64) -> String {
        self.0.name(&format!("cache:{{operators}}:{slot}"))
    }

    /// Adds counts to a slot. Returns whether this instance has to read lag and stock for all.
    async fn add(&self, slot: i64, grown: &Counts) -> Result<bool, EphemeralError> {
        let key = self.key(slot);
        let mut commands = Pipeline::new();
        commands.hset_nx(&key, LOOK, "");
        for (name, count) in grown {
            commands.hincr(&key, name, *count).ignore();
        }
        commands.expire(&key, KEPT_SECONDS).ignore();
        let (first,): (bool,) = self.0.pipeline(&commands).await?;
        Ok(first)
    }

    async fn note(&self, slot: i64, look: &Look) -> Result<(), EphemeralError> {
        let json = serde_json::to_string(look).unwrap_or_default();
        let mut commands = Pipeline::new();
        commands.hset(self.key(slot), LOOK, json).ignore();
        self.0.pipeline(&commands).await
    }
}

/// Reports the counts of one instance.
pub(crate) struct Reporter {
    pub(crate) slots: Slots,
    pub(crate) operations: Operations,
    pub(crate) reads: Reads,
    pub(crate) ops: Ops,
}

impl Reporter {
    /// Reports in the middle of each slot, so that a timer that is a little early or late is still in the right slot.
    pub(crate) async fn run(self) {
        let mut reported = Counts::new();
        loop {
            tokio::time::sleep(until_next_middle(timestamp_now())).await;
            let counted = counts(&self.ops.render());
            let slot = slot_now();
            match self.slots.add(slot, &grown(&counted, &reported)).await {
                Ok(first) => {
                    reported = counted;
                    if first {
                        self.look(slot).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "the operators' plots have a gap"),
            }
        }
    }

    async fn look(&self, slot: i64) {
        let lag = self.operations.overview().await.ok();
        let sales = self.reads.vouchers(SALES, None).await;
        let stock = sales.iter().flat_map(|sales| sales.iter());
        let stock = stock.filter_map(|sale| {
            let free = sale.served.as_ref()?.stock;
            Some((sale.card.voucher_id.to_string(), free))
        });
        let look = Look {
            lag: lag.map(|lag| Views {
                fold: lag.fold,
                effects: lag.effects,
            }),
            stock: stock.collect(),
        };
        if let Err(error) = self.slots.note(slot, &look).await {
            tracing::debug!(%error, "the operators' plots have a gap");
        }
    }
}

fn slot_now() -> i64 {
    timestamp_now().as_micros().div_euclid(SLOT_MICROS)
}

fn until_next_middle(now: Timestamp) -> Duration {
    let since_middle = (now.as_micros() - SLOT_MICROS / 2).rem_euclid(SLOT_MICROS);
    Duration::from_micros((SLOT_MICROS - since_middle).unsigned_abs())
}

/// The answers to orders, and how many were given within each bucket's bound, from the text of `/metrics`.
fn counts(metrics: &str) -> Counts {
    let bucket = format!("seckill_http_request_seconds_bucket{{route=\"{ORDERS_ROUTE}\",le=\"");
    let count = |line: &str| {
        let (kind, rest) = if let Some(rest) = line.strip_prefix("seckill_orders_total{answer=\"") {
            (ANSWER, rest)
        } else {
            (WITHIN, line.strip_prefix(&bucket)?)
        };
        let (name, count) = rest.split_once("\"} ")?;
        Some((format!("{kind}{name}"), count.parse().ok()?))
    };
    metrics.lines().filter_map(count).collect()
}

fn grown(counted: &Counts, reported: &Counts) -> Counts {
    let grown = counted.iter().map(|(name, count)| {
        let before = reported.get(name).copied().unwrap_or(0);
        (name.clone(), count.saturating_sub(before))
    });
    grown.filter(|(_, count)| *count > 0).collect()
}

fn slot(number: i64, fields: &BTreeMap<String, String>) -> Slot {
    let of = |kind: &'static str| {
        fields.iter().filter_map(move |(name, count)| {
            Some((name.strip_prefix(kind)?, count.parse::<u64>().ok()?))
        })
    };
    let look = fields.get(LOOK).map(|json| serde_json::from_str(json));
    let Look { lag, stock } = look.and_then(Result::ok).unwrap_or_default();
    let mut within: Vec<(f64, u64)> = of(WITHIN)
        .filter_map(|(bound, count)| Some((bound.parse().ok()?, count)))
        .collect();
    within.sort_by(|a, b| a.0.total_cmp(&b.0));
    Slot {
        at: rfc3339::format(Timestamp::from_micros(number * SLOT_MICROS)),
        answers: of(ANSWER)
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        p50_seconds: quantile(&within, 0.5),
        p99_seconds: quantile(&within, 0.99),
        lag,
        stock,
    }
}

/// The least bound within which this part of the requests was answered.
fn quantile(within: &[(f64, u64)], part: f64) -> Option<f64> {
    let all = within.last().filter(|(bound, _)| bound.is_infinite())?.1;
    let enough = |(_, count): &&(f64, u64)| *count as f64 >= part * all as f64;
    let (bound, _) = within.iter().find(enough)?;
    bound.is_finite().then_some(*bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_since_the_last_report_is_counted_once() {
        let metrics = |reserved: u64, within: u64| {
            format!(
                "# HELP x\nseckill_orders_total{{answer=\"reserved\"}} {reserved}\n\
                 seckill_http_request_seconds_bucket{{route=\"{ORDERS_ROUTE}\",le=\"0.01\"}} {within}\n\
                 seckill_http_request_seconds_bucket{{route=\"/\",le=\"0.01\"}} 7\n"
            )
        };
        let (before, now) = (counts(&metrics(2, 1)), counts(&metrics(5, 1)));
        assert_eq!(before.len(), 2, "{before:?}");
        let grown = grown(&now, &before);
        assert_eq!(grown, Counts::from([("answer reserved".to_owned(), 3)]));
    }

    #[test]
    fn a_quantile_is_the_least_bound_that_holds_so_many() {
        let within = [(0.01, 50), (0.1, 98), (10.0, 99), (f64::INFINITY, 100)];
        assert_eq!(quantile(&within, 0.5), Some(0.01));
        assert_eq!(quantile(&within, 0.99), Some(10.0));
        assert_eq!(quantile(&within, 1.0), None, "more than the last bound");
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&within[..2], 0.5), None, "how many is not known");
    }

    #[test]
    fn a_report_comes_in_the_middle_of_a_slot() {
        let wait = |micros| until_next_middle(Timestamp::from_micros(micros)).as_micros();
        assert_eq!(wait(0), 2_500_000);
        assert_eq!(wait(2_500_000), 5_000_000);
        assert_eq!(wait(4_900_000), 2_600_000);
    }
}
