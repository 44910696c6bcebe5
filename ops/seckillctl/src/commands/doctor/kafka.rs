//! Checks the brokers and the topics, like every start of a service.

use seckill_eventlog::{TopicError, check_topics, cluster_id};

use super::{Findings, State, Stores, causes};

const SETTINGS: &str =
    "KAFKA_BROKERS, KAFKA_SECURITY_PROTOCOL and what follows it: docs/configuration.md";

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("kafka");
    let log = &stores.log;
    let client = &log.client;
    let checked = check_topics(client, &log.topics, log.partitions).await;
    if let Err(error @ (TopicError::Away { .. } | TopicError::Client(_))) = &checked {
        findings.wrong("answer", causes(error), SETTINGS);
        return findings;
    }
    findings.ok("answer", client.brokers.clone());
    match cluster_id(client).await {
        Ok(Some(id)) => findings.ok("cluster id", id),
        Ok(None) => findings.wrong(
            "cluster id",
            "none: a Redis of another deployment would not be noticed",
            "brokers that tell it",
        ),
        Err(error) => findings.wrong("cluster id", causes(&error), SETTINGS),
    }
    topics(&mut findings, stores, checked);
    findings.add(
        State::Unknown,
        "version, right to write",
        "brokers tell clients neither",
        "",
    );
    findings
}

fn topics(findings: &mut Findings, stores: &Stores, checked: Result<(), TopicError>) {
    let log = &stores.log;
    let what = "topics";
    match checked {
        Ok(()) => {
            let found = format!("{} partitions, no setting loses records", log.partitions);
            findings.ok(what, found);
        }
        Err(TopicError::Settings { brokers, faults }) => {
            for fault in faults {
                let found = format!("{} is {}: {}", fault.setting, fault.actual, fault.danger);
                findings.wrong(&fault.topic, found, fault.command(&brokers));
            }
        }
        Err(TopicError::Missing { topic }) => {
            findings.wrong(
                &topic,
                "missing",
                "seckillctl topics create --replication COPIES",
            );
        }
        Err(TopicError::Partitions { topic, actual, .. }) => {
            let found = format!(
                "{actual} partitions, and EVENT_PARTITIONS is {}",
                log.partitions
            );
            let mend =
                format!("EVENT_PARTITIONS={actual}, or docs/topics.md where some were added");
            findings.wrong(&topic, found, mend);
        }
        Err(TopicError::SettingsUnknown { topic, code }) => {
            let mend = format!(
                "kafka-acls --bootstrap-server {} --add --allow-principal User:NAME \
                 --operation DescribeConfigs --topic {topic}",
                log.client.brokers
            );
            findings.wrong(&topic, format!("its settings are not told: {code}"), mend);
        }
        Err(other) => findings.wrong(what, causes(&other), SETTINGS),
    }
}
