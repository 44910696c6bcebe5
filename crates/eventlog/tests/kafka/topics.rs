use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use seckill_domain::partition_of;
use seckill_eventlog::{
    EventProducer, ReadError, TopicError, Topics, check_topics, create_topics, event_offset_ranges,
    offset_ranges, read_all, read_events,
};

use crate::harness::{Log, PARTITIONS, SOON, reservation};

#[tokio::test]
async fn the_number_of_partitions_is_a_contract() {
    let log = Log::create().await;
    check_topics(&log.settings, &log.topics, PARTITIONS)
        .await
        .unwrap();
    let refusal = check_topics(&log.settings, &log.topics, 12)
        .await
        .unwrap_err();
    let TopicError::Partitions {
        topic,
        actual: PARTITIONS,
        expected: 12,
    } = refusal
    else {
        panic!("{refusal:?}");
    };
    assert_eq!(topic, log.topics.events);
}

#[tokio::test]
async fn creating_again_changes_nothing() {
    let log = Log::create().await;
    create_topics(&log.settings, &log.topics, 12, 1)
        .await
        .unwrap();
    check_topics(&log.settings, &log.topics, PARTITIONS)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_topic_is_named_and_not_created() {
    let log = Log::create().await;
    let absent = Topics::new(&seckill_testkit::unique_prefix());
    for _ in 0..2 {
        let refusal = check_topics(&log.settings, &absent, PARTITIONS)
            .await
            .unwrap_err();
        assert!(
            matches!(&refusal, TopicError::Missing { topic } if *topic == absent.events),
            "{refusal:?}"
        );
    }
}

/// Adds partitions to the event topic, as somebody may who does not know what depends on their number.
async fn widen(log: &Log, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &log.settings.brokers)
        .create()
        .unwrap();
    let wider = [NewPartitions::new(&log.topics.events, partitions)];
    let altered = admin.create_partitions(&wider, &AdminOptions::new()).await;
    altered.unwrap().remove(0).unwrap();
    // Brokers learn of them a moment later.
    let deadline = Instant::now() + SOON;
    let found = async || offset_ranges(&log.settings, &log.topics.events).await;
    while !matches!(found().await, Ok(held) if held.len() == partitions) {
        assert!(Instant::now() < deadline, "never {partitions}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn partitions_that_were_added_stay_empty_and_what_is_there_is_read() {
    let log = Log::create().await;
    log.write(1, 1).await;
    widen(&log, 8).await;
    let knows_of_eight = EventProducer::new(&log.settings, &log.topics, PARTITIONS).unwrap();
    knows_of_eight.warm_up(SOON).await.unwrap();
    for voucher in 2..60 {
        for producer in [&log.producer, &knows_of_eight] {
            let sent = producer.send_event(&reservation(voucher, 1), None);
            let at = sent.unwrap().await.unwrap();
            let home = partition_of(voucher.to_string().as_bytes(), PARTITIONS);
            assert_eq!(at.partition, home, "voucher {voucher}");
        }
    }
    let copied = read_all(&log.settings, &log.topics.events, SOON)
        .await
        .unwrap();
    let copy = &copied[0];
    let at = knows_of_eight.send_copy(&log.topics.events, copy);
    assert_eq!(at.unwrap().await.unwrap().partition, copy.partition);

    let held = event_offset_ranges(&log.settings, &log.topics.events, PARTITIONS).await;
    let held = held.unwrap();
    assert_eq!(held.len(), 4);
    let topic = (log.topics.events.as_str(), PARTITIONS);
    let starts = held.iter().map(|h| (h.partition, h.from)).collect();
    let streams = read_events(&log.settings, topic, starts, 1_000, 1).await;
    for (mut stream, held) in streams.unwrap().into_iter().zip(&held) {
        let mut at = held.from;
        while at < held.to {
            let batch = stream.next().await.unwrap();
            assert!(batch.malformed.is_empty(), "{batch:?}");
            at = batch.to;
        }
    }
}

#[tokio::test]
async fn a_topic_that_was_divided_otherwise_is_not_read() {
    let log = Log::create().await;
    // In the last partition but one: two partitions beyond it are empty, and still it is not divided by
    // three, which would have put that voucher elsewhere.
    let voucher = (1..).find(|voucher: &i64| {
        let place = |partitions| partition_of(voucher.to_string().as_bytes(), partitions);
        place(PARTITIONS) == 2 && place(3) != 2
    });
    log.write(voucher.unwrap(), 1).await;
    for expected in [1, 2, 3, 5] {
        let read = event_offset_ranges(&log.settings, &log.topics.events, expected).await;
        assert!(
            matches!(
                &read,
                Err(ReadError::Topic(TopicError::Partitions { actual: 4, .. }))
            ),
            "{expected}: {read:?}"
        );
    }
}

/// A topic of our kind that somebody else has made, with one setting that is not ours; without a value it
/// is the broker's own.
async fn make(log: &Log, topic: &str, (setting, value): (&str, Option<&str>)) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &log.settings.brokers)
        .create()
        .unwrap();
    let ours = [
        ("retention.ms", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "2097152"),
    ];
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let kept = ours.into_iter().filter(|(name, _)| *name != setting);
    let changed = value.map(|value| (setting, value));
    let new = kept
        .chain(changed)
        .fold(new, |new, (name, value)| new.set(name, value));
    let made = admin.create_topics([&new], &AdminOptions::new()).await;
    made.unwrap().remove(0).unwrap();
}

#[tokio::test]
async fn a_topic_that_could_lose_or_refuse_records_is_refused_by_name_with_what_mends_it() {
    let log = Log::create().await;
    check_topics(&log.settings, &log.topics, PARTITIONS)
        .await
        .unwrap();
    let topic_of: [fn(&Topics) -> &String; 4] = [
        |t| &t.events,
        |t| &t.outcomes,
        |t| &t.states,
        |t| &t.dead_letters,
    ];
    let [events, outcomes, states, letters] = topic_of;
    for (topic, setting, value, needed) in [
        (events, "cleanup.policy", Some("compact"), "delete"),
        (outcomes, "cleanup.policy", Some("compact"), "delete"),
        (states, "cleanup.policy", Some("delete"), "compact"),
        (events, "retention.ms", Some("604800000"), "-1"),
        // The broker's default is a week.
        (events, "retention.ms", None, "-1"),
        (letters, "retention.ms", None, "-1"),
        (events, "retention.bytes", Some("1073741824"), "-1"),
        (
            events,
            "unclean.leader.election.enable",
            Some("true"),
            "false",
        ),
        (events, "min.insync.replicas", Some("2"), "1"),
        (events, "max.message.bytes", Some("1000"), "1048588"),
        // The broker's default holds less than a letter.
        (letters, "max.message.bytes", None, "2097152"),
        // The broker's default refuses a producer's time of tomorrow.
        (events, "message.timestamp.type", None, "LogAppendTime"),
    ] {
        let topics = Topics::new(&seckill_testkit::unique_prefix());
        make(&log, topic(&topics), (setting, value)).await;
        create_topics(&log.settings, &topics, PARTITIONS, 1)
            .await
            .unwrap();
        let refused = check_topics(&log.settings, &topics, PARTITIONS).await;
        let refused = refused.expect_err(setting);
        assert!(refused.is_lasting(), "{refused:?}");
        let TopicError::Settings { faults, .. } = &refused else {
            panic!("{refused:?}");
        };
        let [fault] = &faults[..] else {
            panic!("one is wrong: {refused}");
        };
        let told = (&fault.topic, fault.setting, fault.needed.as_str());
        assert_eq!(told, (topic(&topics), setting, needed));
        assert!(value.is_none_or(|value| fault.actual == value), "{refused}");
        let mends = format!(
            "--entity-name {} --add-config {setting}={needed}",
            topic(&topics)
        );
        assert!(refused.to_string().ends_with(&mends), "{refused}");
    }
}
