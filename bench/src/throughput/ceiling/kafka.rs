//! What Kafka's own performance tests write and read, with one topic of one partition.

use std::time::Duration;

use anyhow::{Context, Result};
use seckill_testkit::kafka::{consumer_rate, run_kafka_program};

/// About as long as an order's event.
const RECORD_BYTES: &str = "200";
/// As many as are written in about a millisecond.
const RECORDS_PER_MS: u64 = 200;

/// Records a second.
#[derive(Debug, PartialEq)]
pub(in crate::throughput) struct KafkaRates {
    pub(in crate::throughput) produced: f64,
    pub(in crate::throughput) consumed: f64,
}

/// Writes records for about `time`, each acknowledged by all replicas, and reads them again. The topic is gone
/// afterwards.
pub(in crate::throughput) async fn measure(brokers: &str, time: Duration) -> Result<KafkaRates> {
    let records = RECORDS_PER_MS * u64::try_from(time.as_millis())?.max(1);
    let brokers = brokers.to_owned();
    tokio::task::spawn_blocking(move || {
        let topic = format!("seckill-bench-{:016x}", fastrand::u64(..));
        topic_command(&brokers, &topic, &["--create", "--partitions", "1"])?;
        let rates = both(&brokers, &topic, records);
        topic_command(&brokers, &topic, &["--delete"])?;
        rates
    })
    .await?
}

fn topic_command(brokers: &str, topic: &str, arguments: &[&str]) -> Result<()> {
    let to = ["--bootstrap-server", brokers, "--topic", topic];
    run_kafka_program(
        "org.apache.kafka.tools.TopicCommand",
        &[&to, arguments].concat(),
    )?;
    Ok(())
}

fn both(brokers: &str, topic: &str, records: u64) -> Result<KafkaRates> {
    let servers = format!("bootstrap.servers={brokers}");
    let printed = run_kafka_program(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            topic,
            "--num-records",
            &records.to_string(),
            "--record-size",
            RECORD_BYTES,
            "--throughput",
            "-1",
            "--producer-props",
            &servers,
            "acks=all",
        ],
    )?;
    let produced =
        produced(&printed).with_context(|| format!("kafka-producer-perf-test said {printed}"))?;
    let consumed = consumer_rate(brokers, topic, records)?;
    Ok(KafkaRates { produced, consumed })
}

/// The last line is `500000 records sent, 123456.7 records/sec (23.54 MB/sec), …`.
fn produced(printed: &str) -> Option<f64> {
    let line = printed
        .lines()
        .rfind(|line| line.contains(" records/sec"))?;
    let (_, after) = line.split_once("records sent, ")?;
    after.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producers_rate_is_that_of_the_last_line() {
        let printed = "249825 records sent, 49965.0 records/sec (9.53 MB/sec), 2.1 ms avg latency, 5.0 ms max latency.\n\
            500000 records sent, 61327.1 records/sec (11.70 MB/sec), 3.04 ms avg latency, 247.00 ms max latency, 2 ms \
            50th, 6 ms 95th, 21 ms 99th, 35 ms 99.9th.\n";
        assert_eq!(produced(printed), Some(61_327.1));
        assert_eq!(produced("no such topic"), None);
    }

    #[tokio::test]
    async fn a_broker_is_measured_and_no_topic_is_left() {
        let brokers = seckill_testkit::shared_kafka().unwrap();
        let rates = measure(&brokers, Duration::from_millis(10)).await.unwrap();
        assert!(rates.produced > 0.0 && rates.consumed > 0.0, "{rates:?}");
        let listed = tokio::task::spawn_blocking(move || {
            let arguments = ["--bootstrap-server", &brokers, "--list"];
            run_kafka_program("org.apache.kafka.tools.TopicCommand", &arguments)
        });
        let listed = listed.await.unwrap().unwrap();
        assert!(!listed.contains("seckill-bench-"), "{listed}");
    }
}
