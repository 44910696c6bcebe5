//! Kafka clients are supervised by their progress. A client can lose a leader for ever without an error
//! (confluentinc/librdkafka#5430). A client is stuck if it makes no progress while a new client gets answers.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataPartition;

use crate::kafka::settings::{KafkaSettings, watermarks};
use crate::metrics;

/// How often a client is checked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// If a client was not checked for this long, the check itself was delayed, and its result proves nothing.
const LOOK_LOST: Duration = Duration::from_secs(3);
/// The time from one new client to the next, while nothing is wrong and while something may be.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_AGAIN: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many new clients in a row have to get an answer.
const ANSWERS: u32 = 3;

/// What progress is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A record that is there was read.
    Reads,
    /// A member that its group has dropped is given partitions again.
    Joins,
    /// A record was acknowledged, or refused.
    Writes,
}

impl Kind {
    /// How long a partition has to make no progress before a new client is asked, and then before it is given up.
    const fn patience(self) -> (Duration, Duration) {
        match self {
            Self::Reads => (Duration::from_secs(1), Duration::from_secs(3)),
            // A broker that has just come back loads the group first, and waits for its other members.
            Self::Joins => (Duration::from_secs(1), Duration::from_secs(15)),
            // A broker's disk may take a while.
            Self::Writes => (Duration::from_secs(1), Duration::from_secs(5)),
        }
    }
}

/// The state of a client, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Fine,
    /// A new client makes progress and this one does not: it is checked more often.
    Doubtful,
    Stuck,
}

/// The progress of one partition.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    at: i64,
    /// Since when it has made no progress.
    stands_since: Instant,
    /// The first of the answers.
    answered_since: Instant,
    /// How many new clients would have got further.
    answers: u32,
}

/// How far a new client would get, by partition. A partition about which it learns nothing is missing.
type Ends = HashMap<i32, i64>;

/// The supervision of one client in one topic.
pub(crate) struct Watch {
    client: &'static str,
    kind: Kind,
    settings: KafkaSettings,
    topic: String,
    suspects: HashMap<i32, Suspect>,
    looked_at: Instant,
    /// When the new client was started, and its answer.
    probe: Option<(Instant, Receiver<Option<Ends>>)>,
    probe_due: Instant,
}

impl Watch {
    pub(crate) fn new(
        client: &'static str,
        kind: Kind,
        settings: &KafkaSettings,
        topic: &str,
    ) -> Self {
        let now = Instant::now();
        // The metric exists before anything goes wrong.
        metrics::CLIENT_STUCK.with([client]).increment(0);
        Self {
            client,
            kind,
            settings: KafkaSettings {
                client_id: format!("{}-probe", settings.client_id),
                ..settings.clone()
            },
            topic: topic.to_owned(),
            suspects: HashMap::new(),
            looked_at: now,
            probe: None,
            probe_due: now,
        }
    }

    /// To be called every [`LOOK_EVERY`] with the partitions that wait for something, and a number each
    /// that grows with every progress; for a reader its position. Never blocks. A client that is found
    /// stuck is counted and logged.
    pub(crate) fn look(&mut self, waiting: &[(i32, i64)]) -> Verdict {
        let now = Instant::now();
        self.follow(waiting, now);
        self.take_answer();
        self.ask(now);
        let verdict = self.verdict(now);
        if verdict == Verdict::Stuck {
            let client = self.client;
            metrics::CLIENT_STUCK.with([client]).increment(1);
            let stuck = self.suspects.iter().filter(|(_, s)| self.is_proved(s, now));
            let stuck: Vec<_> = stuck.map(|(partition, s)| (*partition, s.at)).collect();
            tracing::error!(
                client,
                topic = self.topic,
                partitions_and_offsets = ?stuck,
                "a Kafka client makes no progress while a fresh one gets answers: it is given up"
            );
        }
        verdict
    }

    /// A partition that has moved, or waits for nothing, is not suspected.
    fn follow(&mut self, waiting: &[(i32, i64)], now: Instant) {
        if now.saturating_duration_since(self.looked_at) > LOOK_LOST {
            self.suspects.clear();
            self.probe = None;
        }
        self.looked_at = now;
        self.suspects
            .retain(|partition, suspect| waiting.contains(&(*partition, suspect.at)));
        for (partition, at) in waiting {
            self.suspects.entry(*partition).or_insert(Suspect {
                at: *at,
                stands_since: now,
                answered_since: now,
                answers: 0,
            });
        }
    }

    fn take_answer(&mut self) {
        let Some((asked_at, answer)) = &self.probe else {
            return;
        };
        let (asked_at, answer) = (*asked_at, answer.try_recv());
        let ends = match answer {
            Ok(ends) => ends.unwrap_or_default(),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Ends::new(),
        };
        self.probe = None;
        self.judge(asked_at, &ends);
    }

    /// Only answers in a row count: while no client gets one, Kafka is unavailable.
    fn judge(&mut self, asked_at: Instant, ends: &Ends) {
        for (partition, suspect) in &mut self.suspects {
            let stood_then = suspect.stands_since < asked_at;
            let gets_further = ends.get(partition).is_some_and(|end| *end > suspect.at);
            if !(stood_then && gets_further) {
                suspect.answers = 0;
                continue;
            }
            if suspect.answers == 0 {
                suspect.answered_since = asked_at;
            }
            suspect.answers += 1;
        }
    }

    fn ask(&mut self, now: Instant) {
        let (quiet, _) = self.kind.patience();
        let stands =
            |suspect: &Suspect| now.saturating_duration_since(suspect.stands_since) >= quiet;
        let asked: Vec<i32> = self
            .suspects
            .iter()
            .filter(|(_, suspect)| stands(suspect))
            .map(|(partition, _)| *partition)
            .collect();
        if asked.is_empty() || self.probe.is_some() || now < self.probe_due {
            return;
        }
        let doubt = self.kind == Kind::Writes || self.suspects.values().any(|s| s.answers > 0);
        self.probe_due = now + if doubt { PROBE_AGAIN } else { PROBE_EVERY };
        let (settings, topic, kind) = (self.settings.clone(), self.topic.clone(), self.kind);
        let (sender, answer) = channel();
        let started = std::thread::Builder::new()
            .name("kafka-probe".to_owned())
            .spawn(move || {
                let ends = ask_fresh_client(&settings, &topic, &asked, kind);
                if let Err(error) = &ends {
                    tracing::debug!(%error, topic, "a fresh Kafka client gets no answer");
                }
                // If the supervised client is gone, nobody needs the answer.
                let _ = sender.send(ends.ok());
            });
        if started.is_ok() {
            self.probe = Some((now, answer));
        }
    }

    fn is_proved(&self, suspect: &Suspect, now: Instant) -> bool {
        let (_, give_up_after) = self.kind.patience();
        let stuck_for = now.saturating_duration_since(suspect.answered_since);
        suspect.answers >= ANSWERS && stuck_for >= give_up_after
    }

    fn verdict(&self, now: Instant) -> Verdict {
        if self.suspects.values().any(|s| self.is_proved(s, now)) {
            Verdict::Stuck
        } else if self.suspects.values().any(|suspect| suspect.answers > 1) {
            Verdict::Doubtful
        } else {
            Verdict::Fine
        }
    }
}

/// What a new client finds. Partition -1 means any partition of the topic.
fn ask_fresh_client(
    settings: &KafkaSettings,
    topic: &str,
    partitions: &[i32],
    kind: Kind,
) -> KafkaResult<Ends> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let client: BaseConsumer = settings.consumer_config().create()?;
    let metadata = client.fetch_metadata(Some(topic), PROBE_TIMEOUT)?;
    let described = metadata.topics().iter().find(|t| t.name() == topic);
    let described = described.map_or(&[][..], |t| t.partitions());
    let mut ends = Ends::new();
    for partition in partitions {
        let mut meant = described
            .iter()
            .filter(|p| *partition < 0 || p.id() == *partition);
        if kind == Kind::Writes && !meant.all(takes_writes) {
            continue;
        }
        let (_, end) = watermarks(client.client(), topic, (*partition).max(0), deadline)?;
        ends.insert(
            *partition,
            if kind == Kind::Writes { i64::MAX } else { end },
        );
    }
    Ok(ends)
}

/// Whether it has a leader, and as many in-sync replicas as a write needs.
fn takes_writes(partition: &MetadataPartition) -> bool {
    let needed = partition.replicas().len().saturating_sub(1).max(1);
    partition.leader() >= 0 && partition.error().is_none() && partition.isr().len() >= needed
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch(kind: Kind) -> Watch {
        Watch::new(
            "test",
            kind,
            &KafkaSettings::new("127.0.0.1:1", "test"),
            "t",
        )
    }

    /// Looks at one partition each second, for so long, while fresh clients find these ends.
    fn after(
        watch: &mut Watch,
        seconds: u32,
        mut waits_at: impl FnMut(u32) -> Option<i64>,
        mut end: impl FnMut(u32) -> Option<i64>,
    ) -> Verdict {
        let began = watch.looked_at;
        let mut verdict = Verdict::Fine;
        for second in 0..seconds {
            let now = began + SECOND * second;
            let waiting: Vec<_> = waits_at(second).map(|at| (0, at)).into_iter().collect();
            watch.follow(&waiting, now);
            let ends = end(second).map(|end| (0, end)).into_iter().collect();
            watch.judge(now, &ends);
            verdict = watch.verdict(now);
        }
        verdict
    }

    #[test]
    fn who_stands_still_while_a_fresh_client_would_get_on_is_stuck() {
        let mut reader = watch(Kind::Reads);
        assert_eq!(
            after(&mut reader, 4, |_| Some(7), |_| Some(8)),
            Verdict::Doubtful
        );
        let mut reader = watch(Kind::Reads);
        assert_eq!(
            after(&mut reader, 5, |_| Some(7), |_| Some(8)),
            Verdict::Stuck
        );
        let mut writer = watch(Kind::Writes);
        assert_eq!(
            after(&mut writer, 6, |_| Some(7), |_| Some(i64::MAX)),
            Verdict::Doubtful
        );
        let mut writer = watch(Kind::Writes);
        assert_eq!(
            after(&mut writer, 7, |_| Some(7), |_| Some(i64::MAX)),
            Verdict::Stuck
        );
    }

    #[test]
    fn who_moves_or_has_nothing_to_do_or_gets_as_far_as_anybody_is_not() {
        let never_stuck = |waits_at: fn(u32) -> Option<i64>, end: fn(u32) -> Option<i64>| {
            for seconds in 1..60 {
                let verdict = after(&mut watch(Kind::Reads), seconds, waits_at, end);
                assert_ne!(verdict, Verdict::Stuck, "after {seconds} s");
            }
        };
        never_stuck(|second| Some(i64::from(second)), |_| Some(99));
        never_stuck(|_| None, |_| Some(99));
        never_stuck(|_| Some(7), |_| Some(7));
        // Kafka is unavailable, or available only from time to time.
        never_stuck(|_| Some(7), |_| None);
        never_stuck(|_| Some(7), |second| (second % 3 > 0).then_some(99));
    }

    #[test]
    fn time_in_which_nobody_looked_proves_nothing() {
        let mut reader = watch(Kind::Reads);
        after(&mut reader, 4, |_| Some(7), |_| Some(8));
        let woken = reader.looked_at + SECOND * 60;
        reader.follow(&[(0, 7)], woken);
        assert_eq!(reader.verdict(woken), Verdict::Fine);
    }
}
