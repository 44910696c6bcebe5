//! The metrics of Kafka clients.

seckill_metrics::catalogue! {
    CounterEntry CLIENT_STUCK = "seckill_kafka_client_stuck_total" ["client"] "Clients that were given up: they made no progress while fresh ones got answers.";
    GaugeEntry CLIENT_QUEUED_RECORDS = "seckill_kafka_queued_records" ["client"] "Records that wait in the client for Kafka's acknowledgement.";
    GaugeEntry CLIENT_QUEUED_BYTES = "seckill_kafka_queued_bytes" ["client"] "Their bytes.";
    CounterEntry CLIENT_RETRIES = "seckill_kafka_retries_total" ["client"] "Requests that the client sent again.";
    CounterEntry CLIENT_TIMEOUTS = "seckill_kafka_request_timeouts_total" ["client"] "Requests without an answer in time.";
    GaugeEntry BROKER_RTT_SECONDS = "seckill_kafka_broker_rtt_seconds" ["client", "broker"] "The 99th percentile of a broker's answer times in the last five seconds. A fetch waits at the broker until there is something to fetch.";
    GaugeEntry BROKER_THROTTLE_SECONDS = "seckill_kafka_broker_throttle_seconds" ["client", "broker"] "How long the broker made the client wait for its quota, at most in the last five seconds.";
}
