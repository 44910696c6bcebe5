//! The statistics of a Kafka client, as metrics.

use rdkafka::statistics::{Broker, Statistics};

use crate::metrics;

/// How often a client reports them.
pub(crate) const INTERVAL_MS: &str = "5000";

/// Sets the metrics of one client of this process.
pub(crate) fn measure(client: &'static str, statistics: &Statistics) {
    let labels = [client];
    let queued = |metric: &seckill_metrics::GaugeEntry<1>, value: u64| {
        metric.with(labels).set(value as f64);
    };
    queued(&metrics::CLIENT_QUEUED_RECORDS, statistics.msg_cnt);
    queued(&metrics::CLIENT_QUEUED_BYTES, statistics.msg_size);
    let of_all = |count: fn(&Broker) -> u64| statistics.brokers.values().map(count).sum();
    let retries = metrics::CLIENT_RETRIES.with(labels);
    retries.absolute(of_all(|broker| broker.txretries));
    let timeouts = metrics::CLIENT_TIMEOUTS.with(labels);
    timeouts.absolute(of_all(|broker| broker.req_timeouts));
    // The bootstrap addresses are listed too. They are no further brokers, and have no number.
    let brokers = statistics.brokers.values();
    for broker in brokers.filter(|broker| broker.nodeid >= 0) {
        let labels = || [client.to_owned(), broker.nodeid.to_string()];
        if let Some(rtt) = &broker.rtt {
            let seconds = rtt.p99 as f64 / 1e6;
            metrics::BROKER_RTT_SECONDS.with(labels()).set(seconds);
        }
        if let Some(throttle) = &broker.throttle {
            let seconds = throttle.max as f64 / 1e3;
            metrics::BROKER_THROTTLE_SECONDS.with(labels()).set(seconds);
        }
    }
}
