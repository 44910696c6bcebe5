//! Latency percentiles of one run, from all of its samples.

use std::time::Duration;

/// Percentiles by nearest rank: each is a latency that was really measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// Half of the calls were at least this fast.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
    pub max: Duration,
}

impl Latencies {
    /// None without samples.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<Duration> = samples.into_iter().collect();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        // Nearest rank: the smallest value that at least `percent` of all are not above.
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
        Some(Self {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max,
        })
    }
}

/// Milliseconds with one decimal, as tables show a latency.
#[must_use]
pub fn milliseconds(latency: Duration) -> String {
    format!("{:.1}", latency.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_millis(millis: impl IntoIterator<Item = u64>) -> Option<[u128; 4]> {
        let latencies = Latencies::of(millis.into_iter().map(Duration::from_millis))?;
        let Latencies { p50, p90, p99, max } = latencies;
        Some([p50, p90, p99, max].map(|d| d.as_millis()))
    }

    #[test]
    fn percentiles_are_by_nearest_rank_in_any_order() {
        assert_eq!(of_millis((1..=100).rev()), Some([50, 90, 99, 100]));
        assert_eq!(of_millis(1..=1000), Some([500, 900, 990, 1000]));
        assert_eq!(of_millis([7]), Some([7, 7, 7, 7]));
        assert_eq!(of_millis([3, 1]), Some([1, 3, 3, 3]));
        assert_eq!(of_millis([]), None);
    }
}
