//! What the person at the terminal sees while it runs: a bar a stage; without a terminal, one line
//! when the stage is over. All of it goes to standard error: results alone are on standard output.
//! And waiting for a condition, always with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One stage of a run.
#[derive(Debug)]
pub struct Stage {
    label: String,
    bar: ProgressBar,
    started: Instant,
}

impl Stage {
    /// Begins a stage of `length` steps.
    ///
    /// # Panics
    /// Never: the bar's template is a constant that parses.
    #[must_use]
    pub fn begin(label: &str, length: u64) -> Self {
        // Hidden by itself where standard error is not a terminal.
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("  {spinner} {msg:<34} {bar:28} {pos}/{len}")
            .expect("the template parses");
        bar.set_style(style);
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(POLL_INTERVAL);
        Self {
            label: label.to_owned(),
            bar,
            started: Instant::now(),
        }
    }

    /// The stage's bar.
    #[must_use]
    pub const fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Ends it and says what came of it.
    pub fn done(self, result: &str) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        eprintln!("  {seconds:5.1} s  {}: {result}", self.label);
    }
}

/// How far a condition is.
#[derive(Debug)]
pub enum Wait<T> {
    /// It holds.
    Over(T),
    /// It does not hold yet, and why.
    On(String),
}

/// Asks until the condition holds.
///
/// # Errors
/// When it does not hold within `deadline`, with the last reason; or when asking fails.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Wait<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        let why = match probe().await? {
            Wait::Over(value) => return Ok(value),
            Wait::On(why) => why,
        };
        if started.elapsed() >= deadline {
            bail!("gave up after {deadline:?} of waiting for {what}: {why}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_never_holds_ends_with_its_reason() {
        let never = async || Ok(Wait::<()>::On("3 orders are unpaid".into()));
        let error = wait_for("quiet", Duration::ZERO, never)
            .await
            .expect_err("it never holds");
        assert!(
            error.to_string().ends_with("3 orders are unpaid"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_condition_is_asked_until_it_holds() {
        let mut asked = 0;
        let third = async || {
            asked += 1;
            Ok(if asked == 3 {
                Wait::Over(asked)
            } else {
                Wait::On(String::new())
            })
        };
        assert_eq!(
            wait_for("the third", Duration::from_secs(60), third)
                .await
                .unwrap(),
            3
        );
    }
}
