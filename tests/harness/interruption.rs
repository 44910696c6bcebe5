//! Measures how long a sale was not served to buyers.

use std::time::{Duration, Instant};

use anyhow::Result;
use seckill_domain::VoucherId;

use crate::client::{Answer, Client};

const DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// A fault of the servers that have a sale.
#[derive(Debug)]
pub struct Interruption {
    name: &'static str,
    began: Instant,
}

impl Interruption {
    /// Called when the fault happens.
    #[must_use]
    pub fn begins(name: &'static str) -> Self {
        Self {
            name,
            began: Instant::now(),
        }
    }

    /// Sends one buyer after the other, from user `first` on, until one is refused because the sale is not served, and
    /// then until another one gets an order again. Prints the times, and returns all answers.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn until_reopened(
        self,
        client: &Client,
        voucher: VoucherId,
        first: u64,
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        let mut stopped: Option<Duration> = None;
        for user in first.. {
            anyhow::ensure!(
                self.began.elapsed() < DEADLINE,
                "{}: not served after {stopped:?}, and not open again",
                self.name
            );
            if let Ok(answer) = client.order(voucher, user, None, 1).await {
                if answer.status == 503 {
                    stopped.get_or_insert(self.began.elapsed());
                }
                let accepted = answer.status == 202;
                answers.push(answer);
                if accepted && let Some(stopped) = stopped {
                    println!(
                        "case {}: stopped_ms={} reopened_ms={}",
                        self.name,
                        stopped.as_millis(),
                        self.began.elapsed().as_millis()
                    );
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(answers)
    }
}
