//! Shows the progress of a load: a bar on a terminal, and otherwise a line from time to time.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use seckill_rebuild::Progress as Folded;
use tokio::task::JoinHandle;

use crate::output::tell;

const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const STYLE: &str = "{bar:40} {percent:>3} %  {pos} of {len} records  {per_sec}  {eta} left";

/// Watches a load until it ends.
pub(super) struct Progress {
    shown: Shown,
    total: u64,
    began: Instant,
    folded: Arc<Folded>,
    watch: JoinHandle<()>,
}

#[derive(Clone)]
enum Shown {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    pub(super) fn begin(total: u64, folded: &Arc<Folded>) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(STYLE);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            Shown::Bar(ProgressBar::new(total).with_style(style))
        } else {
            Shown::Lines
        };
        let began = Instant::now();
        let watch = tokio::spawn(watch(shown.clone(), total, began, Arc::clone(folded)));
        Self {
            shown,
            total,
            began,
            folded: Arc::clone(folded),
            watch,
        }
    }

    /// Called when everything is folded, or after an error.
    pub(super) fn end(self, succeeded: bool) {
        self.watch.abort();
        let done = self.folded.done();
        debug_assert!(!succeeded || done == self.total);
        match self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.abandon();
            }
            Shown::Lines => tell(line(done, self.total, self.began.elapsed())),
        }
    }
}

async fn watch(shown: Shown, total: u64, began: Instant, folded: Arc<Folded>) {
    let period = match shown {
        Shown::Bar(_) => REDRAW,
        Shown::Lines => LINE_EVERY,
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    loop {
        ticks.tick().await;
        match &shown {
            Shown::Bar(bar) => bar.set_position(folded.done()),
            Shown::Lines => tell(line(folded.done(), total, began.elapsed())),
        }
    }
}

fn line(done: u64, total: u64, elapsed: Duration) -> String {
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (total - done.min(total)) as f64 / rate.max(1.0);
    format!("{percent:>3} %  {done} of {total} records  {rate:.0}/s  {left:.0} s left\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_a_hundred_and_never_divides_by_nothing() {
        let second = Duration::from_secs(1);
        let half = line(50, 100, second);
        assert_eq!(half, " 50 %  50 of 100 records  50/s  1 s left\n");
        assert!(line(100, 100, second).starts_with("100 %"));
        assert!(line(0, 0, Duration::ZERO).starts_with("100 %"));
    }
}
