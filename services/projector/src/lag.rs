//! How far the views are behind the log, and whether they move. Every projector measures all partitions, not only its
//! own, so that a partition that no projector folds is noticed too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_domain::Offset;
use seckill_eventlog::{Log, ReadError};
use seckill_orderbook::View;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::metrics;
use crate::same_log;
use crate::standing::{STALL, Stand};

const PERIOD: Duration = Duration::from_secs(1);
/// After so long without a move it is asked whether the log has a record at the position at all: the last
/// offsets of a partition may belong to none.
const ASK_FOR_RECORD: Duration = Duration::from_secs(2);

/// How often the log is asked whether it still has the records that were folded last.
const SAME_LOG_PERIOD: Duration = Duration::from_secs(5);

/// Longer than a measurement whose stores do not answer. If its thread hangs, the measurement never ends, so
/// the monitor itself has a deadline.
const AGAIN_WITHIN: Duration = Duration::from_secs(20);

/// The readiness conditions.
const STALLED: &str = "fold-progress";
const EFFECTS: &str = "effects-progress";
const UNKNOWN: &str = "lag";

pub(crate) struct Monitor {
    shared: Arc<ProjectorContext>,
    fold: HashMap<i32, Followed>,
    effects: HashMap<i32, Followed>,
    /// Up to these ends, there is no record behind the position.
    empty: HashMap<i32, (Offset, Offset)>,
    measured: Instant,
    log_checked: Instant,
}

/// One view of one partition, as it follows another that is ahead of it.
#[derive(Debug)]
struct Followed {
    position: Offset,
    /// Since when it is there.
    since: Instant,
    /// Where the one ahead was, and when, for what is not reached.
    ahead: VecDeque<(Instant, Offset)>,
}

impl Followed {
    fn new(position: Offset, now: Instant) -> Self {
        Self {
            position,
            since: now,
            ahead: VecDeque::new(),
        }
    }

    fn see(&mut self, position: Offset, ahead: Offset, now: Instant) {
        if position != self.position || position >= ahead {
            self.position = position;
            self.since = now;
        }
        // What is ahead goes back where the log is another one that is shorter.
        while self.ahead.back().is_some_and(|(_, end)| *end > ahead) {
            self.ahead.pop_back();
        }
        if self.ahead.back().is_none_or(|(_, known)| *known < ahead) {
            self.ahead.push_back((now, ahead));
        }
        while self.ahead.front().is_some_and(|(_, end)| *end <= position) {
            self.ahead.pop_front();
        }
    }

    fn events(&self) -> u64 {
        let ahead = self.ahead.back().map_or(self.position, |(_, end)| *end);
        u64::try_from(ahead.get() - self.position.get()).unwrap_or(0)
    }

    /// For how long at least the oldest of what is missing has been there.
    fn age(&self, now: Instant) -> Duration {
        let oldest = self.ahead.front();
        oldest.map_or(Duration::ZERO, |(seen, _)| {
            now.saturating_duration_since(*seen)
        })
    }

    /// For how long it has had something to do and not moved.
    fn stalled(&self, now: Instant) -> Duration {
        if self.ahead.is_empty() {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.since).min(self.age(now))
    }
}

/// The result of one measurement.
struct Positions {
    fold: Vec<(i32, Offset)>,
    effects: Vec<(i32, Offset)>,
    ends: HashMap<i32, Offset>,
}

impl Monitor {
    pub(crate) fn new(shared: Arc<ProjectorContext>) -> Self {
        Self {
            shared,
            fold: HashMap::new(),
            effects: HashMap::new(),
            empty: HashMap::new(),
            measured: Instant::now(),
            log_checked: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            self.shared.health.beat(UNKNOWN, AGAIN_WITHIN);
            let Some(measured) = stop.run_until_cancelled(self.measure()).await else {
                return;
            };
            if let Err(error) = measured {
                tracing::warn!(error = format!("{error:#}"), "the lag is not known");
                let unknown_for = self.measured.elapsed();
                if unknown_for >= STALL {
                    let why = format!("not known for {} s: {error:#}", unknown_for.as_secs());
                    self.shared.health.problem(UNKNOWN, why);
                }
            } else {
                self.measured = Instant::now();
                self.shared.health.resolved(UNKNOWN);
            }
        }
    }

    async fn measure(&mut self) -> anyhow::Result<()> {
        let found = self.look().await?;
        let now = Instant::now();
        for (partition, position) in &found.fold {
            let end = found.ends.get(partition).copied().unwrap_or(*position);
            let end = match self.empty.get(partition) {
                Some((at, known)) if at == position && *known == end => *position,
                _ => end,
            };
            let fold = self.fold.entry(*partition);
            let fold = fold.or_insert_with(|| Followed::new(*position, now));
            fold.see(*position, end, now);
        }
        for ((partition, position), (_, fold)) in found.effects.iter().zip(&found.fold) {
            let effects = self.effects.entry(*partition);
            let effects = effects.or_insert_with(|| Followed::new(*position, now));
            effects.see(*position, *fold, now);
        }
        self.ask_for_records(&found.ends, now).await?;
        self.report(now);
        self.check_log().await
    }

    /// Whether the log is still the one that the folds of this process have taken. Here and not in the fold:
    /// a broker that does not answer must hold up no record that is there already.
    async fn check_log(&mut self) -> anyhow::Result<()> {
        if self.log_checked.elapsed() < SAME_LOG_PERIOD {
            return Ok(());
        }
        let shared = &self.shared;
        for partition in shared.standing.all().into_keys() {
            if let Log::Other(why) = same_log::look(shared, partition).await? {
                tracing::warn!(partition, why, "the log may be another one");
                shared.standing.doubt_log(partition, true);
            }
        }
        self.log_checked = Instant::now();
        Ok(())
    }

    async fn look(&self) -> anyhow::Result<Positions> {
        let shared = &self.shared;
        let (topic, partitions) = (&shared.topics.events, shared.config.stores.kafka.partitions);
        let numbers: Vec<i32> = (0..partitions).collect();
        let effects = shared.orderbook.positions(topic, &numbers, View::Effects);
        let effects = effects.await?;
        let fold = shared.orderbook.positions(topic, &numbers, View::Orders);
        let fold = fold.await?;
        let held = shared.records.held(partitions).await?;
        Ok(Positions {
            fold,
            effects,
            ends: held.iter().map(|held| (held.partition, held.to)).collect(),
        })
    }

    async fn ask_for_records(
        &mut self,
        ends: &HashMap<i32, Offset>,
        now: Instant,
    ) -> anyhow::Result<()> {
        for (partition, fold) in &mut self.fold {
            if fold.stalled(now) < ASK_FOR_RECORD {
                continue;
            }
            let (position, end) = (fold.position, ends.get(partition).copied());
            // One that knows why it stands still needs no question.
            if self.shared.standing.stands_still(*partition) {
                continue;
            }
            let first = match self.shared.records.first_from(*partition, position).await {
                // It is another log. The projector that has the partition reports that.
                Err(ReadError::NotInLog { .. }) => continue,
                first => first?,
            };
            if let (None, Some(end)) = (first, end) {
                fold.ahead.clear();
                self.empty.insert(*partition, (position, end));
            }
        }
        Ok(())
    }

    fn report(&self, now: Instant) {
        gauges("orders", &self.fold, now);
        gauges("effects", &self.effects, now);
        let own = self.shared.standing.all();
        let mut stalled = Vec::new();
        for (partition, fold) in self.fold.iter().collect::<BTreeMap<_, _>>() {
            stalled.extend(problem(*partition, fold, own.get(partition), now));
        }
        let health = &self.shared.health;
        set(health, STALLED, &stalled);
        let late = self.effects.iter().filter(|(partition, effects)| {
            own.contains_key(partition) && effects.stalled(now) >= STALL
        });
        let late: Vec<_> = late
            .map(|(partition, effects)| {
                format!(
                    "partition {partition}: {} decisions after {} are not carried out for {} s",
                    effects.events(),
                    effects.position.get(),
                    effects.stalled(now).as_secs()
                )
            })
            .collect();
        set(health, EFFECTS, &late);
    }
}

/// Why this partition's fold does not do its work, if it does not.
fn problem(partition: i32, fold: &Followed, own: Option<&Stand>, now: Instant) -> Option<String> {
    if let Some((_, why)) = own.and_then(|stand| stand.stops.as_ref()) {
        let (position, since) = (fold.position.get(), fold.since.elapsed().as_secs());
        return Some(format!(
            "partition {partition} stands still at {position} since {since} s: {why}"
        ));
    }
    let stalled = fold.stalled(now);
    (stalled >= STALL).then(|| {
        let whose = match own {
            Some(stand) if stand.reads_ahead => {
                "it reads the log ahead for decisions to skip a record"
            }
            Some(_) => "its records are not folded",
            None => "no projector folds it, or its projector stands still",
        };
        format!(
            "partition {partition} has not moved from {} for {} s, {} behind the log: {whose}",
            fold.position.get(),
            stalled.as_secs(),
            fold.events()
        )
    })
}

fn set(health: &seckill_service::health::Health, condition: &'static str, problems: &[String]) {
    if problems.is_empty() {
        health.resolved(condition);
    } else {
        health.problem(condition, problems.join("; "));
    }
}

fn gauges(view: &'static str, followed: &HashMap<i32, Followed>, now: Instant) {
    for (partition, followed) in followed {
        let labels = || [view.to_owned(), partition.to_string()];
        let (late, stalled) = (followed.age(now), followed.stalled(now));
        metrics::VIEW_LAG_EVENTS
            .with(labels())
            .set(followed.events() as f64);
        metrics::VIEW_LAG_SECONDS
            .with(labels())
            .set(late.as_secs_f64());
        metrics::VIEW_STALLED_SECONDS
            .with(labels())
            .set(stalled.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: i64) -> Offset {
        Offset::new(number)
    }

    #[test]
    fn a_view_is_as_late_as_the_oldest_record_that_it_has_not_reached() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut view = Followed::new(at(0), start);
        view.see(at(0), at(0), start);
        assert_eq!((view.events(), view.age(later(9))), (0, Duration::ZERO));

        view.see(at(0), at(10), later(10));
        view.see(at(0), at(20), later(12));
        assert_eq!(view.events(), 20);
        assert_eq!(view.age(later(15)), Duration::from_secs(5));
        assert_eq!(view.stalled(later(15)), Duration::from_secs(5));

        view.see(at(10), at(20), later(16));
        assert_eq!(view.events(), 10);
        assert_eq!(
            view.age(later(18)),
            Duration::from_secs(6),
            "seen after 12 s"
        );
        assert_eq!(
            view.stalled(later(18)),
            Duration::from_secs(2),
            "moved after 16 s"
        );

        view.see(at(20), at(20), later(20));
        assert_eq!(
            (view.events(), view.stalled(later(99))),
            (0, Duration::ZERO)
        );
    }

    #[test]
    fn a_view_that_moves_is_never_stalled_however_late() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut view = Followed::new(at(0), start);
        for second in 0..60 {
            let n = i64::try_from(second).unwrap();
            view.see(at(n), at(10_000), later(second));
            assert!(view.stalled(later(second)) < STALL);
        }
        assert_eq!(view.age(later(60)), Duration::from_secs(60));
    }
}
