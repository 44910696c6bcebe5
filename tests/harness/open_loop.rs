//! Buyers who come at a fixed rate, without waiting for the answers of others.

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use seckill_domain::VoucherId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Answer, Client};

/// The length of a tick. The buyers of one tick come together.
const TICK: Duration = Duration::from_millis(10);

/// Buyers who do not wait for others.
#[derive(Debug)]
pub struct OpenLoop {
    client: Client,
    voucher: VoucherId,
    next_user: u64,
}

/// The result of one order.
#[derive(Debug)]
pub struct Timed {
    /// The answer.
    pub answer: Answer,
    /// The time from the moment at which the order was due.
    pub latency: Duration,
    /// The time of the answer, from the beginning.
    pub at: Duration,
}

impl OpenLoop {
    /// Buyers of `voucher`: different users from `first_user` on.
    #[must_use]
    pub const fn new(client: Client, voucher: VoucherId, first_user: u64) -> Self {
        Self {
            client,
            voucher,
            next_user: first_user,
        }
    }

    /// Sends `per_second` orders a second for the time `lasting`. Returns all answers. If an order is sent late because
    /// this process was busy, its latency still counts from the time at which it was due.
    ///
    /// # Errors
    /// When one of them has no answer.
    pub async fn offer(&mut self, per_second: u64, lasting: Duration) -> Result<Vec<Timed>> {
        let count = per_second * lasting.as_secs();
        let users = self.next_user..self.next_user + count;
        self.next_user = users.end;
        // Sign the tokens before the clock starts, because a signature takes longer than a call.
        let tokens = users.map(|user| self.client.token(user));
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        let path = format!("/api/v1/vouchers/{}/orders", self.voucher);
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut buyers = JoinSet::new();
        let mut answers = Vec::with_capacity(tokens.len());
        for (number, token) in tokens.into_iter().enumerate() {
            let due = begun + Duration::from_secs_f64(number as f64 / per_second as f64);
            while Instant::now() < due {
                ticks.tick().await;
            }
            let request = self.client.request(Method::POST, &path).bearer_auth(token);
            let client = self.client.clone();
            buyers.spawn(async move {
                let answer = client.send(request).await?;
                anyhow::Ok(Timed {
                    answer,
                    latency: due.elapsed(),
                    at: begun.elapsed(),
                })
            });
            while let Some(answered) = buyers.try_join_next() {
                answers.push(answered??);
            }
        }
        while let Some(answered) = buyers.join_next().await {
            answers.push(answered??);
        }
        Ok(answers)
    }
}
