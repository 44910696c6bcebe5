//! The metrics of the timeout service.

use seckill_metrics::Metric;

seckill_metrics::catalogue! {
    CounterEntry EXPIRED_PUBLISHED = "seckill_expired_published_total" [] "OrderExpired events that Kafka acknowledged, with repeated ones.";
    GaugeEntry EXPIRY_LAG_SECONDS = "seckill_expiry_lag_seconds" [] "How late the oldest order of the last round was claimed, past its time to pay and the grace. seckill_expiry_late_seconds of the projector also shows what nobody claims.";
    GaugeEntry CLOCK_SKEW_SECONDS = "seckill_clock_skew_seconds" [] "The clock of PostgreSQL less that of Redis. Beyond EXPIRY_GRACE_SECONDS nothing expires.";
}

/// The metrics of this service and of the libraries that it uses.
#[must_use]
pub fn all() -> Vec<&'static [Metric]> {
    vec![
        METRICS,
        seckill_eventlog::metrics::METRICS,
        seckill_orderbook::metrics::METRICS,
    ]
}
