//! What the project wants to reach, and whether it does.

use super::{Runs, of_sales, row};
use crate::throughput::BUSY;
use crate::throughput::report::{PacedMedian, Report};

/// Whether a figure is to be large or small.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    fn judge(self, figure: f64) -> String {
        let reached = match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        };
        if reached {
            format!("**{figure:.2}**")
        } else {
            format!("{figure:.2}")
        }
    }
}

/// A goal, what was wanted, and from which figure on it (or what must be) is reached.
struct Goal {
    name: &'static str,
    wanted: &'static str,
    reached: Wanted,
    figure: fn(&Report) -> Option<f64>,
}

const GOALS: [Goal; 9] = [
    Goal {
        name: "carried with 1 sale, of EVALSHA",
        wanted: "1.0; must 0.70",
        reached: Wanted::AtLeast(0.7),
        figure: |run| Some(of_sales(run, 1)?.ratio.ratio),
    },
    Goal {
        name: "carried with 4 sales, of EVALSHA",
        wanted: "0.9; must 0.60",
        reached: Wanted::AtLeast(0.6),
        figure: |run| Some(of_sales(run, 4)?.ratio.ratio),
    },
    Goal {
        name: "accepted with 4 sales, of 1 sale",
        wanted: "0.9",
        reached: Wanted::AtLeast(0.9),
        figure: |run| of_one_sale(run, 4),
    },
    Goal {
        name: "accepted with 1,000 sales, of 1 sale",
        wanted: "0.8",
        reached: Wanted::AtLeast(0.8),
        figure: |run| of_one_sale(run, 1_000),
    },
    Goal {
        name: "sold out, 1 sale, of refused tokens",
        wanted: "0.85",
        reached: Wanted::AtLeast(0.85),
        figure: |run| sold_out(run, 1),
    },
    Goal {
        name: "sold out, 4 sales, of refused tokens",
        wanted: "0.85",
        reached: Wanted::AtLeast(0.85),
        figure: |run| sold_out(run, 4),
    },
    Goal {
        name: "the last order settled after, s",
        wanted: "at most 1",
        reached: Wanted::AtMost(1.0),
        figure: settled_after,
    },
    Goal {
        name: "p50 at 70 % of the peak, ms",
        wanted: "at most 5",
        reached: Wanted::AtMost(5.0),
        figure: |run| Some(busy(run)?.accepted.p50_ms),
    },
    Goal {
        name: "p99 at 70 % of the peak, of those of EVALSHA and of an acknowledged event at that rate together",
        wanted: "at most 1.5",
        reached: Wanted::AtMost(1.5),
        figure: |run| {
            let stores = run.stores_when_busy;
            Some(busy(run)?.accepted.p99_ms / (stores.reserve.p99_ms + stores.produce.p99_ms))
        },
    },
];

/// Those that the runs say something about.
pub(super) fn table(runs: &Runs) -> String {
    let measured = GOALS
        .iter()
        .filter(|goal| runs.iter().any(|(_, run)| (goal.figure)(run).is_some()));
    let rows: Vec<_> = measured
        .map(|goal| {
            row(runs, &[goal.name, goal.wanted], |run| {
                Some(goal.reached.judge((goal.figure)(run)?))
            })
        })
        .collect();
    let title = "Goals, in bold where they (or what must be) are reached";
    super::table(runs, title, &["", "wanted"], &rows)
}

fn of_one_sale(run: &Report, vouchers: usize) -> Option<f64> {
    let several = of_sales(run, vouchers)?.accepted.per_second;
    Some(several / of_sales(run, 1)?.accepted.per_second)
}

fn sold_out(run: &Report, vouchers: usize) -> Option<f64> {
    let mut kinds = run.sold_out.iter();
    Some(kinds.find(|kind| kind.vouchers == vouchers)?.ratio.ratio)
}

fn settled_after(run: &Report) -> Option<f64> {
    let seconds = run.medians.iter().map(|kind| kind.settled_after_seconds);
    seconds.reduce(f64::max)
}

fn busy(run: &Report) -> Option<&PacedMedian> {
    run.paced.iter().find(|paced| paced.of_the_peak == BUSY)
}
