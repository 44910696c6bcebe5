//! A lock that a majority of five Redis servers has to grant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::cmd;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::rungs::owned_lock::DELETE_IF_MINE;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

pub(super) const NODES: usize = 5;
const LOCK: &str = "lock";
/// Two servers' clocks may run apart by so much of a lease.
const DRIFT_DIVISOR: u32 = 100;
/// Pause after a split vote, in milliseconds: random and longer than a vote, so that somebody wins the next.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1..=20;

/// The token of the lock that is ours now.
pub(super) async fn take(lab: &Lab) -> Result<u64, Failure> {
    let token = fastrand::u64(..);
    let deadline = Instant::now() + lab.patience;
    loop {
        let start = Instant::now();
        let votes = votes(lab, token).await;
        let used = start.elapsed() + lab.lease / DRIFT_DIVISOR;
        if votes > NODES / 2 && used < lab.lease {
            return Ok(token);
        }
        lab.cache.refused.add_one();
        release(lab, token).await;
        if Instant::now() >= deadline {
            return Err(Failure::LockTimeout);
        }
        sleep(Duration::from_millis(fastrand::u64(RETRY_MS))).await;
    }
}

/// How many servers have granted it; one that does not answer has not.
async fn votes(lab: &Lab, token: u64) -> usize {
    let ask = lab.caches.iter().map(async |node| {
        let mut take = cmd("SET");
        take.arg(node.key(LOCK)).arg(token).arg("NX");
        take.arg("PX").arg(lab.lease_ms());
        node.send::<Option<String>>(&take).await
    });
    let answers = join_all(ask).await;
    answers.iter().filter(|a| matches!(a, Ok(Some(_)))).count()
}

/// On every server: one may have granted it and its answer been lost.
pub(super) async fn release(lab: &Lab, token: u64) {
    let give_back = lab.caches.iter().map(async |node| {
        let mut delete = cmd("EVAL");
        delete.arg(DELETE_IF_MINE).arg(1);
        delete.arg(node.key(LOCK)).arg(token);
        // Who does not answer keeps it until the lease ends.
        let _ = node.send::<i64>(&delete).await;
    });
    join_all(give_back).await;
}

/// Three of five.
#[derive(Debug)]
pub(super) struct Redlock(Arc<Lab>);

impl Strategy for Redlock {
    const CARD: Card = Card {
        name: "redlock",
        step: 6,
        title: "Redlock: a majority of five servers",
        story: "The lock survives two of the five; with three dead, nobody gets in. It is still a lease, so what breaks the one-server lock breaks \
                this one: a holder that stands still longer than it lasts; three servers whose clocks step \
                forward; three servers that come back without their last second (the algorithm asks to keep a \
                restarted server out for a lease, which nobody's init script does). And a crowd splits its votes: \
                five round trips for an attempt, and most attempts win nothing.",
        diagram: "A: SET lock a NX PX on 1 2 3 4 5 -> 5 votes; SELECT left -> 2; stands still\n\
                  -- the lease ends; or the clocks of 1 2 3 step; or 1 2 3 restart --\n\
                  B: SET lock b NX PX on 1 2 3 4 5 -> 3 votes; SELECT left -> 2; UPDATE left = 1\n\
                  A: UPDATE left = 1                  B's unit is on sale again",
        expected: Expected {
            two_dead: Some(Verdict::Safe),
            three_dead: Some(Verdict::Blocks),
            ..Expected::LEASED
        },
    };

    const REDIS_SERVERS: usize = NODES;

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let token = take(&self.0).await?;
        let told = read_then_write(&self.0, buyer).await;
        self.0.exit.pass().await;
        release(&self.0, token).await;
        told
    }
}
