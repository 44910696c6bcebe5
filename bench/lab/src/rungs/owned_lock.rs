//! Locks in Redis that know their owner.

use std::convert::Infallible;
use std::sync::Arc;

use redis::cmd;
use tokio::time::sleep;

use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::strategy::{Answer, Buyer, Card, Expected, Failure, Strategy};

const LOCK: &str = "lock";
/// KEYS\[1\] the lock, ARGV\[1\] the owner's token.
pub(super) const DELETE_IF_MINE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
/// KEYS\[1\] the lock, ARGV\[1\] the owner's token, ARGV\[2\] the lease in milliseconds.
const RENEW_IF_MINE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Renewals in each lease.
const RENEWALS: u32 = 3;

/// The token of the lock that is ours now.
async fn take(lab: &Lab) -> Result<u64, Failure> {
    let token = fastrand::u64(..);
    let mut take = cmd("SET");
    take.arg(lab.cache.key(LOCK)).arg(token).arg("NX");
    take.arg("PX").arg(lab.lease_ms());
    lab.cache.take_lock(&take, lab.patience).await?;
    Ok(token)
}

async fn release(lab: &Lab, token: u64) -> Result<(), Failure> {
    let mut delete = cmd("EVAL");
    delete.arg(DELETE_IF_MINE).arg(1);
    delete.arg(lab.cache.key(LOCK)).arg(token);
    lab.cache.send(&delete).await
}

/// Released only by its owner.
#[derive(Debug)]
pub(super) struct Owned(Arc<Lab>);

impl Strategy for Owned {
    const CARD: Card = Card {
        name: "owner-token",
        step: 6,
        title: "SET NX PX with a token, compare and delete",
        story: "The token keeps a slow holder from removing somebody else's lock. It does not keep the slow \
                holder from writing: by then two have read the same stock, and nothing that the stores know \
                tells their writes apart.",
        diagram: "A: SET lock a NX PX -> OK; SELECT left -> 2; stands still\n\
                  -- the lease ends --\n\
                  B: SET lock b NX PX -> OK; SELECT left -> 2; UPDATE left = 1; DEL if b\n\
                  A: UPDATE left = 1                  B's unit is on sale again\n\
                  A: DEL if a -> 0                    tells A, too late",
        expected: Expected::LEASED,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let token = take(&self.0).await?;
        let told = read_then_write(&self.0, buyer).await;
        release(&self.0, token).await?;
        told
    }
}

/// Renewed as long as its owner works.
#[derive(Debug)]
pub(super) struct Watchdog(Arc<Lab>);

impl Strategy for Watchdog {
    const CARD: Card = Card {
        name: "watchdog",
        step: 6,
        title: "the same, renewed by a watchdog",
        story: "Cures slow work, but not a slow process: the watchdog is in the same process as the work, and \
                what stops the one stops the other. It may find out that the lock is gone and call the work \
                off; it finds out when it runs again, and the work runs again in the same moment.",
        diagram: "A: SET lock a NX PX -> OK; SELECT left -> 2\n\
                  A and its watchdog stand still\n\
                  -- the lease ends --\n\
                  B: SET lock b NX PX -> OK; SELECT left -> 2; UPDATE left = 1\n\
                  A: UPDATE left = 1                  before the watchdog finds out",
        expected: Expected::LEASED,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let token = take(&self.0).await?;
        let told = tokio::select! {
            told = read_then_write(&self.0, buyer) => told,
            never = renew(&self.0, token) => match never {},
        };
        release(&self.0, token).await?;
        told
    }
}

/// As long as somebody waits for it.
async fn renew(lab: &Lab, token: u64) -> Infallible {
    let mut renew = cmd("EVAL");
    renew.arg(RENEW_IF_MINE).arg(1);
    renew
        .arg(lab.cache.key(LOCK))
        .arg(token)
        .arg(lab.lease_ms());
    loop {
        sleep(lab.lease / RENEWALS).await;
        // Whether it was still ours, or Redis was there: it is tried again before the lease ends.
        let _ = lab.cache.send::<i64>(&renew).await;
    }
}
