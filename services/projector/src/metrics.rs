//! The metrics of the projector.

use seckill_metrics::Metric;

seckill_metrics::catalogue! {
    CounterEntry FOLDED_EVENTS = "seckill_folded_events_total" [] "Events that were folded into PostgreSQL, with those of batches that did not commit.";
    HistogramEntry FOLD_BATCH_SIZE = "seckill_fold_batch_size" [] "Events of one transaction of the fold.";
    CounterEntry SKIPPED_RECORDS = "seckill_skipped_records_total" [] "Records that the fold passed over: malformed ones, and those that an operator skipped.";
    GaugeEntry FOLD_STANDS_STILL = "seckill_fold_stands_still" ["partition", "cause"] "1 while a partition waits for somebody to act (ops/runbooks/fold-stands-still.md), by cause.";
    GaugeEntry VIEW_LAG_EVENTS = "seckill_view_lag_events" ["view", "partition"] "Offsets between a view's position and the end of its partition. Views are orders, the fold's, and effects.";
    GaugeEntry VIEW_LAG_SECONDS = "seckill_view_lag_seconds" ["view", "partition"] "How long ago the oldest record was seen in the log that the view has not reached; 0 when there is none.";
    GaugeEntry VIEW_STALLED_SECONDS = "seckill_view_stalled_seconds" ["view", "partition"] "How long a view that has something to do has not moved.";
    CounterEntry EFFECTS_SET_ASIDE = "seckill_effects_set_aside_total" [] "Sales whose effects wait until Redis serves them again, while those of other sales go on.";
    CounterEntry DEAD_LETTERS = "seckill_dead_letters_total" [] "Dead letters that were published.";
    CounterEntry LOADS = "seckill_loads_total" ["end"] "Loads of a sale into Redis, by how they ended.";
    GaugeEntry LOADS_UNDER_WAY = "seckill_loads_under_way" [] "Sales that are being loaded into Redis.";
    GaugeEntry SALES_NOT_SERVED = "seckill_sales_not_served" [] "Sales that should be on sale and that Redis does not serve.";
    GaugeEntry AUDIT_SALES = "seckill_audit_sales" [] "Sales whose units were compared in the last look.";
    GaugeEntry AUDIT_VIOLATIONS = "seckill_audit_violations" ["invariant"] "Sales in which an invariant was broken in two looks, a second apart (ops/runbooks/reconcile.md).";
    GaugeEntry AUDIT_DRIFT_UNITS = "seckill_audit_drift_units" [] "Units by which Redis and the log differ, of all sales.";
    CounterEntry AUDIT_LOOKS = "seckill_audit_looks_total" ["result"] "Comparisons of the stores with the log: done, or failed because a store did not answer.";
    CounterEntry AUDIT_SCANNED_SALES = "seckill_audit_scanned_sales_total" [] "Sales that were compared hold by hold.";
    GaugeEntry EXPIRY_LATE_SECONDS = "seckill_expiry_late_seconds" [] "How long the oldest unpaid order is past its time to pay, whether a timeout service runs or not. It goes on growing while PostgreSQL does not answer.";
}

/// These, and those of the libraries that the service uses.
#[must_use]
pub fn all() -> Vec<&'static [Metric]> {
    vec![
        METRICS,
        seckill_ephemeral::metrics::METRICS,
        seckill_eventlog::metrics::METRICS,
        seckill_orderbook::metrics::METRICS,
    ]
}
