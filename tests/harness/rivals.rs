//! Buyers who compete for a few units of one sale, and hold each answer against those before it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use seckill_domain::VoucherId;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::world::{SaleTerms, World};

const LANES: u64 = 16;
/// A user is in one lane only, which so knows all that the user was told.
const USERS_PER_LANE: u64 = 40;
/// Fewer than there are lanes: most requests find the sale sold out.
const UNITS: i64 = 8;
const TERMS: SaleTerms = SaleTerms {
    hold_seconds: 5,
    ..SaleTerms::of(UNITS)
};
/// Some units are never paid for, and come back again and again.
const MOST_PAYMENTS: i64 = UNITS / 2;

/// A sale of a few units, and users who order them, ask again, pay, cancel, or let the time to pay go by.
#[derive(Debug)]
pub struct Rivals {
    pub voucher: VoucherId,
    stop: Arc<AtomicBool>,
    lanes: JoinSet<Result<Told>>,
}

/// What the users were told.
#[derive(Debug, Default)]
pub struct Told {
    /// The answers to orders.
    pub answers: Vec<Answer>,
    /// User and order of every payment that was taken in time.
    pub paid: Vec<(u64, String)>,
}

impl Rivals {
    /// Puts the sale up, and sends the users. Each request goes to one of `clients`.
    ///
    /// # Errors
    /// When the sale is not served in time.
    pub async fn come(world: &World, clients: &[Client], random: &mut Rng) -> Result<Self> {
        let voucher = world.sale(TERMS).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let payments = Arc::new(AtomicI64::new(MOST_PAYMENTS));
        let mut lanes = JoinSet::new();
        for number in 0..LANES {
            let lane = Lane {
                clients: clients.to_vec(),
                voucher,
                stop: Arc::clone(&stop),
                payments: Arc::clone(&payments),
                random: random.fork(),
                told: Told::default(),
            };
            let first = 1 + number * USERS_PER_LANE;
            lanes.spawn(lane.run(first..first + USERS_PER_LANE));
        }
        Ok(Self {
            voucher,
            stop,
            lanes,
        })
    }

    /// Sends the users away.
    ///
    /// # Errors
    /// The first answer that did not agree with those before it, or when the sale was never sold out.
    pub async fn leave(mut self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        while let Some(told) = self.lanes.join_next().await {
            let told = told??;
            all.answers.extend(told.answers);
            all.paid.extend(told.paid);
        }
        let refused = all.answers.iter().any(|a| a.problem() == "sold-out");
        ensure!(refused, "nobody found the sale sold out");
        Ok(all)
    }
}

/// An order that was answered *reserved*.
#[derive(Debug)]
struct Promised {
    user: u64,
    key: String,
    order_id: String,
    /// Until then it cannot have expired.
    stands_until: Instant,
}

struct Lane {
    clients: Vec<Client>,
    voucher: VoucherId,
    stop: Arc<AtomicBool>,
    /// How many more payments are made.
    payments: Arc<AtomicI64>,
    random: Rng,
    told: Told,
}

impl Lane {
    async fn run(mut self, users: Range<u64>) -> Result<Told> {
        for order in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let user = self.random.u64(users.clone());
            if let Some(promised) = self.buy(user, format!("rival-{user}-{order}")).await? {
                self.keep_asking(&promised).await?;
                self.end(promised).await?;
            }
        }
        Ok(self.told)
    }

    fn client(&mut self) -> Client {
        let any = self.random.usize(..self.clients.len());
        self.clients[any].clone()
    }

    /// The time that a buyer takes until the next request. It spreads the requests over the faults, and nothing is
    /// expected to have happened after it.
    async fn think(&mut self, at_most_ms: u64) {
        let time = self.random.u64(10..at_most_ms);
        tokio::time::sleep(Duration::from_millis(time)).await;
    }

    /// Asks with one key until there is an answer.
    async fn buy(&mut self, user: u64, key: String) -> Result<Option<Promised>> {
        let hold = Duration::from_secs(TERMS.hold_seconds.into());
        let stands_until = Instant::now() + hold;
        while !self.stop.load(Ordering::Relaxed) {
            let client = self.client();
            let answer = client.order(self.voucher, user, Some(&key), 1).await;
            let Some(answer) = given(answer) else {
                self.think(300).await;
                continue;
            };
            // Of a key whose answer was lost the order may be over.
            let expected = ["sold-out", "already-ordered"].contains(&answer.problem());
            ensure!(answer.status == 202 || expected, "{user}: {answer:?}");
            self.told.answers.push(answer.clone());
            if !answer.is_reserved() {
                self.think(100).await;
                return Ok(None);
            }
            let order_id = answer.order_id().context("an order id")?.to_owned();
            return Ok(Some(Promised {
                user,
                key,
                order_id,
                stands_until,
            }));
        }
        Ok(None)
    }

    /// However the buyer asks, the answer is of the order that stands.
    async fn keep_asking(&mut self, promised: &Promised) -> Result<()> {
        let id = Some(promised.order_id.as_str());
        while self.random.u8(..8) != 0 {
            self.think(1_000).await;
            let (client, user) = (self.client(), promised.user);
            let order = async |key| client.order(self.voucher, user, Some(key), 1).await;
            let (answer, right): (_, fn(&Answer) -> bool) = match self.random.u8(..3) {
                0 => (order(&promised.key).await, |answer| {
                    answer.is_reserved() || answer.body["status"] == "pending"
                }),
                1 => {
                    let another = format!("{}-{}", promised.key, self.random.u32(..));
                    (order(&another).await, |answer| {
                        answer.problem() == "already-ordered"
                    })
                }
                _ => {
                    let path = format!("/api/v1/orders/{}", promised.order_id);
                    (client.get(user, &path).await, |answer| {
                        ["unpaid", "pending"]
                            .map(Into::into)
                            .contains(&answer.body["status"])
                    })
                }
            };
            if Instant::now() >= promised.stands_until {
                break;
            }
            if let Some(answer) = given(answer) {
                ensure!(
                    right(&answer) && answer.order_id() == id,
                    "{promised:?}: {answer:?}"
                );
            }
        }
        Ok(())
    }

    /// Pays, cancels, or does nothing.
    async fn end(&mut self, promised: Promised) -> Result<()> {
        match self.random.u8(..8) {
            0 if self.payments.fetch_sub(1, Ordering::Relaxed) > 0 => self.pay(promised).await,
            1..=4 => {
                let client = self.client();
                let answer = client.cancel(promised.user, &promised.order_id).await;
                let right = given(answer).is_none_or(|answer| [202, 409].contains(&answer.status));
                ensure!(right, "{promised:?} cannot be cancelled");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn pay(&mut self, promised: Promised) -> Result<()> {
        let payment = format!("of-{}", promised.order_id);
        while Instant::now() < promised.stands_until {
            let client = self.client();
            let answer = client.pay(&promised.order_id, &payment, 1_000).await;
            let Some(answer) = given(answer) else {
                self.think(300).await;
                continue;
            };
            ensure!(answer.status == 202, "{promised:?}: {answer:?}");
            if Instant::now() < promised.stands_until {
                self.told.paid.push((promised.user, promised.order_id));
            }
            break;
        }
        Ok(())
    }
}

/// The answer, if it is one: an ingress that is dead gives none, and one without its stores a planned refusal.
fn given(answer: Result<Answer>) -> Option<Answer> {
    answer.ok().filter(|answer| !answer.is_planned_503())
}
