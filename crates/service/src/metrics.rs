//! The metrics that every service has.

use seckill_metrics::{Kind, Metric};

seckill_metrics::catalogue! {
    GaugeEntry BUILD_INFO = "seckill_build_info" ["service", "version"] "1, with the service's name and version.";
}

/// What the process uses. Names, kinds and meanings are those of Prometheus' own client libraries.
pub const PROCESS_METRICS: &[Metric] = &[
    process(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Processor time, of the user and of the system, in seconds.",
    ),
    process(Kind::Gauge, "process_open_fds", "Open file descriptors."),
    process(
        Kind::Gauge,
        "process_max_fds",
        "The most file descriptors that may be open.",
    ),
    process(
        Kind::Gauge,
        "process_virtual_memory_bytes",
        "Virtual memory in bytes.",
    ),
    process(
        Kind::Gauge,
        "process_virtual_memory_max_bytes",
        "The most virtual memory in bytes, where it is limited.",
    ),
    process(
        Kind::Gauge,
        "process_resident_memory_bytes",
        "Resident memory in bytes.",
    ),
    process(
        Kind::Gauge,
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
    ),
    process(Kind::Gauge, "process_threads", "Threads of the process."),
];

const fn process(kind: Kind, name: &'static str, help: &'static str) -> Metric {
    let labels = &[];
    Metric {
        kind,
        name,
        labels,
        help,
    }
}
