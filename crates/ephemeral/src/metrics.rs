//! The metrics of the shared cache.

seckill_metrics::catalogue! {
    CounterEntry CACHE_READS = "seckill_cache_reads_total" ["kind", "result"] "Reads of the shared cache by what was found: fresh, old, missing, or past where Redis did not answer.";
    CounterEntry CACHE_REBUILDS = "seckill_cache_rebuilds_total" ["kind"] "Entries of the shared cache that were read anew from their source.";
}
