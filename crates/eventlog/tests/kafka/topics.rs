use seckill_eventlog::{TopicError, Topics, check_partitions, create_topics};

use crate::support::{Log, PARTITIONS};

#[tokio::test]
async fn the_number_of_partitions_is_a_contract() {
    let log = Log::create().await;
    check_partitions(&log.settings, &log.topics, PARTITIONS)
        .await
        .unwrap();
    let refusal = check_partitions(&log.settings, &log.topics, 12)
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
    check_partitions(&log.settings, &log.topics, PARTITIONS)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_topic_is_named_and_not_created() {
    let log = Log::create().await;
    let absent = Topics::new(&seckill_testkit::unique_prefix());
    for _ in 0..2 {
        let refusal = check_partitions(&log.settings, &absent, PARTITIONS)
            .await
            .unwrap_err();
        assert!(
            matches!(&refusal, TopicError::Missing { topic } if *topic == absent.events),
            "{refusal:?}"
        );
    }
}
