//! A lock in Redis that its owner may take again, renewed by a watchdog.

use std::convert::Infallible;
use std::sync::Arc;

use redis::cmd;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// KEYS\[1\] the lock: a hash of its owner and how often it was taken; ARGV\[1\] who asks, ARGV\[2\] the lease in
/// milliseconds: how often it is theirs now, or 0.
const TAKE: &str = "if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local depth = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return depth";
/// KEYS\[1\] the lock, ARGV\[1\] who gives it back: how often it is still theirs.
const RELEASE: &str = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local depth = redis.call('HINCRBY', KEYS[1], ARGV[1], -1)
if depth == 0 then redis.call('DEL', KEYS[1]) end
return depth";
/// As [`TAKE`], only that it stays as often theirs as it was.
const RENEW: &str = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";
/// Renewals in each lease.
const RENEWALS: u32 = 3;

/// Counts how often its owner has taken it.
#[derive(Debug)]
pub(super) struct Reentrant(Arc<Lab>);

impl Strategy for Reentrant {
    const CARD: Card = Card {
        name: "reentrant",
        step: 6,
        title: "re-entrant, with a watchdog",
        story: "The lock as the well-known libraries have it: a hash of owner and depth, so that code that holds \
                it may call code that takes it (`buy` and `sell` below both do). That is comfort for the one \
                process; to the others it is the same lease, and breaks as every lease does.",
        diagram: "A: buy:  HINCRBY lock a 1 -> 1\n\
                  A: sell: HINCRBY lock a 1 -> 2; SELECT left -> 2; stands still, and its watchdog with it\n\
                  -- the lease ends --\n\
                  B: HINCRBY lock b 1 -> 1; SELECT left -> 2; UPDATE left = 1\n\
                  A: UPDATE left = 1                  B's unit is on sale again",
        expected: Expected {
            slow_work: Some(Verdict::Safe),
            ..Expected::LEASED
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let owner = fastrand::u64(..);
        take(lab, owner).await?;
        let told = tokio::select! {
            told = sell(lab, buyer, owner) => told,
            never = renew(lab, owner) => match never {},
        };
        lab.exit.pass().await;
        release(lab, owner).await?;
        told
    }
}

/// Takes the lock itself: it does not know who calls it.
async fn sell(lab: &Lab, buyer: Buyer, owner: u64) -> Result<Answer, Failure> {
    take(lab, owner).await?;
    let told = read_then_write(lab, buyer).await;
    release(lab, owner).await?;
    told
}

async fn take(lab: &Lab, owner: u64) -> Result<(), Failure> {
    let mut take = cmd("EVAL");
    take.arg(TAKE).arg(1).arg(lab.cache.key("lock"));
    take.arg(owner).arg(lab.lease_ms());
    lab.cache.take_lock(&take, lab.patience).await?;
    Ok(())
}

async fn release(lab: &Lab, owner: u64) -> Result<(), Failure> {
    let mut release = cmd("EVAL");
    release.arg(RELEASE).arg(1).arg(lab.cache.key("lock"));
    release.arg(owner);
    lab.cache.send(&release).await
}

/// As long as somebody waits for it.
async fn renew(lab: &Lab, owner: u64) -> Infallible {
    let mut renew = cmd("EVAL");
    renew.arg(RENEW).arg(1).arg(lab.cache.key("lock"));
    renew.arg(owner).arg(lab.lease_ms());
    loop {
        sleep(lab.lease / RENEWALS).await;
        // It is tried again before the lease ends.
        let _ = lab.cache.send::<i64>(&renew).await;
    }
}
