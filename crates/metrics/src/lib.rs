//! How a crate says which metrics it has: one list with name, labels and meaning, from which the services
//! describe them to Prometheus and `docs/metrics.md` is written.

use metrics::{Label, SharedString};

pub use metrics::{Counter, Gauge, Histogram};

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// One metric of a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// What it measures.
    pub kind: Kind,
    /// Its name in Prometheus, with its unit.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, for whoever looks at it.
    pub help: &'static str,
}

impl Metric {
    /// Tells the recorder of this process what the metric means.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, self.help),
        }
    }

    fn labels<const N: usize>(&self, values: [impl Into<SharedString>; N]) -> Vec<Label> {
        let pairs = self.labels.iter().zip(values);
        pairs
            .map(|(name, value)| Label::new(*name, value))
            .collect()
    }
}

macro_rules! entry {
    ($entry:ident, $handle:ident, $register:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $entry<const N: usize>(Metric);

        impl<const N: usize> $entry<N> {
            #[doc(hidden)]
            #[must_use]
            pub const fn new(
                name: &'static str,
                labels: &'static [&'static str; N],
                help: &'static str,
            ) -> Self {
                let kind = Kind::$handle;
                Self(Metric {
                    kind,
                    name,
                    labels,
                    help,
                })
            }

            #[doc(hidden)]
            #[must_use]
            pub const fn metric(&self) -> Metric {
                self.0
            }

            /// The series with these values of its labels, in their order. It is looked up: who needs it
            /// often keeps it.
            pub fn with(&self, values: [impl Into<SharedString>; N]) -> $handle {
                metrics::$register!(self.0.name, self.0.labels(values))
            }
        }

        impl $entry<0> {
            /// The one series of a metric without labels. It is looked up: who needs it often keeps it.
            pub fn only(&self) -> $handle {
                metrics::$register!(self.0.name)
            }
        }
    };
}

entry!(CounterEntry, Counter, counter, "A counter of a catalogue.");
entry!(GaugeEntry, Gauge, gauge, "A gauge of a catalogue.");
entry!(
    HistogramEntry,
    Histogram,
    histogram,
    "A histogram of a catalogue."
);

/// Lists the metrics of a crate: a constant for each, and `METRICS` with all.
///
/// ```
/// seckill_metrics::catalogue! {
///     CounterEntry ORDERS = "shop_orders_total" ["answer"] "Orders by what they were answered.";
///     GaugeEntry OPEN = "shop_open_carts" [] "Carts that are open.";
/// }
///
/// ORDERS.with(["taken"]).increment(1);
/// OPEN.only().set(3.0);
/// assert_eq!(METRICS[0].name, "shop_orders_total");
/// ```
#[macro_export]
macro_rules! catalogue {
    ($($entry:ident $constant:ident = $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: $crate::$entry<{ <[&str]>::len(&[$($label),*]) }> =
                $crate::$entry::new($name, &[$($label),*], $help);
        )+

        /// All of them.
        pub const METRICS: &[$crate::Metric] = &[$($constant.metric()),+];
    };
}
