//! The settings that the design needs of each topic: with which ones a topic is created, and why an existing
//! topic is refused. A value from the broker's defaults counts like one of the topic itself.

use std::collections::HashMap;
use std::fmt;

use crate::kafka::topics::Topics;

/// A dead letter is larger than the refused record: it has the original, and headers with the reason.
pub(crate) const DEAD_LETTER_MAX_BYTES: &str = "2097152";
/// Kafka's own default. A batch of our producers has up to 1,000,000 bytes.
const RECORD_MAX_BYTES: &str = "1048588";
const WEEK_MS: &str = "604800000";
const FOR_EVER: &str = "-1";

/// A topic's settings by name, as the broker tells them.
pub(crate) type Values = HashMap<String, String>;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Events,
    Outcomes,
    States,
    DeadLetters,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [
        Self::Events,
        Self::Outcomes,
        Self::States,
        Self::DeadLetters,
    ];

    pub(crate) fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Events => &topics.events,
            Self::Outcomes => &topics.outcomes,
            Self::States => &topics.states,
            Self::DeadLetters => &topics.dead_letters,
        }
    }
}

/// A setting that could lose records, or refuse them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFault {
    /// The topic's name.
    pub topic: String,
    /// The setting's name.
    pub setting: &'static str,
    /// Its value.
    pub actual: String,
    /// The value that repairs it.
    pub needed: String,
    /// What would happen.
    pub danger: &'static str,
}

impl TopicFault {
    /// What repairs it.
    #[must_use]
    pub fn command(&self, brokers: &str) -> String {
        alter(brokers, std::slice::from_ref(self))
    }
}

impl fmt::Display for TopicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            setting,
            actual,
            needed,
            danger,
        } = self;
        write!(
            f,
            "{topic}: {setting} is {actual}, and has to be {needed}: {danger}"
        )
    }
}

/// Every fault, and the commands that repair them.
pub(crate) fn describe(brokers: &str, faults: &[TopicFault]) -> String {
    let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.push("Run:".to_owned());
    for one_topic in faults.chunk_by(|a, b| a.topic == b.topic) {
        lines.push(alter(brokers, one_topic));
    }
    lines.join("\n")
}

/// The command that repairs the faults of one topic.
fn alter(brokers: &str, faults: &[TopicFault]) -> String {
    let set = |fault: &TopicFault| format!("{}={}", fault.setting, fault.needed);
    let set: Vec<String> = faults.iter().map(set).collect();
    let topic = faults.first().map_or("", |fault| &fault.topic);
    format!(
        "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics \
         --entity-name {topic} --add-config {}",
        set.join(",")
    )
}

/// Whether a value is as good as the pinned one. Its arguments are all settings of the topic, and the number
/// of its replicas.
type Fits = fn(&str, &Values, usize) -> bool;

/// One setting of one topic.
struct Need {
    setting: &'static str,
    /// What a new topic gets, and a refused one should.
    value: String,
    fits: Fits,
    danger: &'static str,
}

/// The settings with which a new topic is created.
pub(crate) fn pinned(role: Role, replicas: usize) -> Vec<(&'static str, String)> {
    let needs = needs(role, replicas).into_iter();
    needs.map(|need| (need.setting, need.value)).collect()
}

/// What is wrong with a topic that has `replicas` replicas of each partition. A setting that the broker
/// does not know has no effect.
pub(crate) fn faults(role: Role, topic: &str, values: &Values, replicas: usize) -> Vec<TopicFault> {
    let mut faults = Vec::new();
    for need in needs(role, replicas) {
        let Some(actual) = values.get(need.setting) else {
            continue;
        };
        if *actual == need.value || (need.fits)(actual, values, replicas) {
            continue;
        }
        faults.push(TopicFault {
            topic: topic.to_owned(),
            setting: need.setting,
            actual: actual.clone(),
            needed: need.value,
            danger: need.danger,
        });
    }
    faults
}

fn needs(role: Role, replicas: usize) -> Vec<Need> {
    let (size, size_fits): (_, Fits) = match role {
        Role::DeadLetters => (DEAD_LETTER_MAX_BYTES, holds_a_letter),
        Role::Events | Role::Outcomes | Role::States => (RECORD_MAX_BYTES, holds_a_batch),
    };
    // How long outcomes are kept is for their consumers to say.
    let (kept, kept_fits): (_, Fits) = match role {
        Role::Outcomes => (WEEK_MS, any),
        Role::Events | Role::DeadLetters | Role::States => (FOR_EVER, only),
    };
    let (policy, policy_danger) = match role {
        Role::States => (
            "compact",
            "without compaction it has every state that there was, and with deletion orders are missing",
        ),
        Role::Events | Role::Outcomes | Role::DeadLetters => {
            ("delete", "compaction removes records that count")
        }
    };
    let mut needs = vec![
        need("cleanup.policy", policy, only, policy_danger),
        need(
            "unclean.leader.election.enable",
            "false",
            only,
            "a copy that lacks acknowledged records may become the leader, and they are lost",
        ),
        need(
            "min.insync.replicas",
            &replicas.saturating_sub(1).max(1).to_string(),
            enough_in_sync,
            "with fewer, acknowledged records are lost with one broker; with more than there are \
             copies, nothing can be written",
        ),
        need(
            "max.message.bytes",
            size,
            size_fits,
            "larger batches of records are refused",
        ),
        need(
            "message.timestamp.type",
            "LogAppendTime",
            no_time_is_refused,
            "records of a producer whose clock is wrong are refused, and times in the log are not of \
             one clock",
        ),
    ];
    let danger = "the oldest records are removed";
    needs.push(need("retention.ms", kept, kept_fits, danger));
    needs.push(need("retention.bytes", FOR_EVER, kept_fits, danger));
    needs
}

fn need(setting: &'static str, value: &str, fits: Fits, danger: &'static str) -> Need {
    Need {
        setting,
        value: value.to_owned(),
        fits,
        danger,
    }
}

fn any(_: &str, _: &Values, _: usize) -> bool {
    true
}

fn only(_: &str, _: &Values, _: usize) -> bool {
    false
}

fn holds_a_batch(text: &str, _: &Values, _: usize) -> bool {
    is_at_least(text, RECORD_MAX_BYTES)
}

fn holds_a_letter(text: &str, _: &Values, _: usize) -> bool {
    is_at_least(text, DEAD_LETTER_MAX_BYTES)
}

fn is_at_least(text: &str, least: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    number(text) >= number(least)
}

/// Two at the least where there are three copies or more.
fn enough_in_sync(text: &str, _: &Values, replicas: usize) -> bool {
    let least = if replicas >= 3 { 2 } else { 1 };
    text.parse()
        .is_ok_and(|n: usize| (least..=replicas).contains(&n))
}

/// With the producers' times, if none is too early or too late for the broker.
fn no_time_is_refused(_: &str, values: &Values, _: usize) -> bool {
    let limits = [
        "message.timestamp.before.max.ms",
        "message.timestamp.after.max.ms",
    ];
    let mut limits = limits.iter().filter_map(|limit| values.get(*limit));
    limits.all(|limit| limit.parse() == Ok(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(role: Role, replicas: usize, changes: &[(&str, &str)]) -> Values {
        let pinned = pinned(role, replicas).into_iter();
        let mut values: Values = pinned
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for (name, value) in changes {
            values.insert((*name).to_owned(), (*value).to_owned());
        }
        values
    }

    fn found(role: Role, replicas: usize, changes: &[(&str, &str)]) -> Vec<&'static str> {
        let faults = faults(role, "t", &values(role, replicas, changes), replicas);
        faults.into_iter().map(|fault| fault.setting).collect()
    }

    #[test]
    fn a_topic_that_we_made_is_accepted() {
        for role in Role::ALL {
            for replicas in 1..6 {
                assert!(found(role, replicas, &[]).is_empty(), "{role:?} {replicas}");
            }
        }
    }

    #[test]
    fn what_could_lose_a_record_or_refuse_it_is_found() {
        use Role::{DeadLetters, Events, Outcomes, States};
        for (role, setting, value, is_fault) in [
            (Events, "cleanup.policy", "compact", true),
            (Events, "cleanup.policy", "compact,delete", true),
            (Outcomes, "cleanup.policy", "compact", true),
            (States, "cleanup.policy", "delete", true),
            (States, "cleanup.policy", "compact,delete", true),
            (Events, "retention.ms", "604800000", true),
            (DeadLetters, "retention.ms", "604800000", true),
            (Outcomes, "retention.ms", "86400000", false),
            (Events, "retention.bytes", "1073741824", true),
            (Events, "unclean.leader.election.enable", "true", true),
            (Events, "max.message.bytes", "1000", true),
            (Events, "max.message.bytes", "5000000", false),
            (DeadLetters, "max.message.bytes", "1048588", true),
            (DeadLetters, "max.message.bytes", "2097152", false),
            (Events, "message.timestamp.type", "CreateTime", false),
        ] {
            let expected = if is_fault { vec![setting] } else { Vec::new() };
            let found = found(role, 1, &[(setting, value)]);
            assert_eq!(found, expected, "{role:?} {setting}={value}");
        }
    }

    #[test]
    fn a_write_counts_on_two_of_three_copies_and_on_no_more_than_there_are() {
        for (replicas, in_sync, is_fault) in [
            (1, "1", false),
            (1, "2", true),
            (2, "1", false),
            (3, "1", true),
            (3, "3", false),
            (3, "4", true),
            (5, "2", false),
        ] {
            let found = found(Role::Events, replicas, &[("min.insync.replicas", in_sync)]);
            assert_eq!(!found.is_empty(), is_fault, "{in_sync} of {replicas}");
        }
    }

    #[test]
    fn a_producers_time_may_be_taken_if_none_is_refused() {
        let create = ("message.timestamp.type", "CreateTime");
        let hour = ("message.timestamp.after.max.ms", "3600000");
        let ever = ("message.timestamp.after.max.ms", "9223372036854775807");
        assert_eq!(found(Role::Events, 1, &[create, hour]), [create.0]);
        assert!(found(Role::Events, 1, &[create, ever]).is_empty());
        assert!(
            found(Role::Events, 1, &[hour]).is_empty(),
            "the broker's time"
        );
    }

    #[test]
    fn one_command_a_topic_mends_all_that_is_wrong_with_it() {
        let wrong = [("cleanup.policy", "compact"), ("retention.ms", "1")];
        let mut all = faults(Role::Events, "e", &values(Role::Events, 1, &wrong), 1);
        all.extend(faults(
            Role::DeadLetters,
            "d",
            &values(Role::DeadLetters, 1, &wrong[1..]),
            1,
        ));
        let told = describe("b:9092", &all);
        let commands: Vec<&str> = told
            .lines()
            .filter(|l| l.starts_with("kafka-configs"))
            .collect();
        assert_eq!(commands.len(), 2, "{told}");
        let set = "--entity-name e --add-config cleanup.policy=delete,retention.ms=-1";
        assert!(commands[0].ends_with(set), "{told}");
    }
}
