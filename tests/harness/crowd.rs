//! Buyers that keep coming while a test breaks things.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::waits::eventually;

const LANES: usize = 4;
/// The pause between two buyers of a lane while a test waits for orders, and between two attempts of one buyer.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause between two buyers of a lane while no test waits: orders keep coming, and leave the processor to what the
/// test does meanwhile.
const LEISURE: Duration = Duration::from_millis(60);

/// Users who order one unit each, with one key each, and try again after a 503 or without an answer.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    /// Whether a test waits for orders.
    hurries: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    /// The number of refusals that were not planned.
    failed: Arc<AtomicUsize>,
    lanes: JoinSet<Vec<Answer>>,
}

impl Crowd {
    /// Sends the users one after the other, in four lanes, spread over all `clients`.
    #[must_use]
    pub fn come(clients: &[Client], voucher: VoucherId, users: Range<u64>) -> Self {
        let mut crowd = Self {
            stop: Arc::default(),
            hurries: Arc::default(),
            accepted: Arc::default(),
            refused: Arc::default(),
            failed: Arc::default(),
            lanes: JoinSet::new(),
        };
        for (lane, client) in clients.iter().cycle().take(LANES).enumerate() {
            let (client, users) = (client.clone(), users.clone().skip(lane).step_by(LANES));
            let (stop, accepted) = (Arc::clone(&crowd.stop), Arc::clone(&crowd.accepted));
            let hurries = Arc::clone(&crowd.hurries);
            let counts = [&crowd.refused, &crowd.failed].map(Arc::clone);
            crowd.lanes.spawn(async move {
                let mut answers = Vec::new();
                for user in users {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    answers.extend(insist(&client, voucher, user, &stop, &counts).await);
                    let last = answers.last();
                    if last.is_some_and(|answer: &Answer| answer.status == 202) {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    let hurries = hurries.load(Ordering::Relaxed);
                    tokio::time::sleep(if hurries { PAUSE } else { LEISURE }).await;
                }
                answers
            });
        }
        crowd
    }

    /// Waits until this many more users have got an order.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn flows(&self, more: usize) -> Result<()> {
        let enough = self.accepted.load(Ordering::Relaxed) + more;
        self.hurries.store(true, Ordering::Relaxed);
        let flowed = eventually("orders flow", || async {
            Ok(self.accepted.load(Ordering::Relaxed) >= enough)
        })
        .await;
        self.hurries.store(false, Ordering::Relaxed);
        flowed
    }

    /// How many users have got an order.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many attempts got a 503 or no answer.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many attempts got no answer, or a 503 that is not planned.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the crowd. Returns all answers.
    ///
    /// # Errors
    /// When none of them got an order: nothing would have been tested.
    pub async fn leave(self) -> Result<Vec<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        let answers: Vec<Answer> = self.lanes.join_all().await.into_iter().flatten().collect();
        let any = answers.iter().any(|answer| answer.status == 202);
        any.then_some(answers).context("nobody got an order")
    }
}

/// Repeats the order of one buyer until there is a final answer.
async fn insist(
    client: &Client,
    voucher: VoucherId,
    user: u64,
    stop: &AtomicBool,
    [refused, failed]: &[Arc<AtomicUsize>; 2],
) -> Option<Answer> {
    let key = format!("crowd-{user}");
    while !stop.load(Ordering::Relaxed) {
        match client.order(voucher, user, Some(&key), 1).await {
            Ok(answer) if answer.status != 503 => return Some(answer),
            answer => {
                refused.fetch_add(1, Ordering::Relaxed);
                if !answer.is_ok_and(|answer| answer.is_planned_503()) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    None
}
