//! Locks in Redis that know their owner.

use std::convert::Infallible;
use std::sync::Arc;

use redis::cmd;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

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
        self.0.exit.pass().await;
        release(&self.0, token).await?;
        told
    }
}

/// Released by its owner, in two commands.
#[derive(Debug)]
pub(super) struct GetThenDelete(Arc<Lab>);

impl Strategy for GetThenDelete {
    const CARD: Card = Card {
        name: "get-then-del",
        step: 6,
        title: "SET NX PX with a token, GET and then DEL",
        story: "The owner is asked for before the lock is deleted, as everybody writes it at first. But there are two \
                commands, and the lease may end between them: the DEL then removes the next one's lock, and a \
                third gets in beside the second. What is compared and what is deleted have to be one step, \
                which in Redis is a script.",
        diagram: "A: SET lock a NX PX -> OK; SELECT left -> 2; UPDATE left = 1\n\
                  A: GET lock -> a                    mine\n\
                  -- the lease ends --\n\
                  B: SET lock b NX PX -> OK; SELECT left -> 1\n\
                  A: DEL lock                         B's\n\
                  C: SET lock c NX PX -> OK; SELECT left -> 1: the last unit, twice",
        expected: Expected {
            late_release: Some(Verdict::Oversells),
            ..Expected::LEASED
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let token = take(lab).await?;
        let told = read_then_write(lab, buyer).await;
        let get = cmd("GET").arg(lab.cache.key(LOCK)).take();
        let owner: Option<u64> = lab.cache.send(&get).await?;
        lab.exit.pass().await;
        if owner == Some(token) {
            let delete = cmd("DEL").arg(lab.cache.key(LOCK)).take();
            lab.cache.send::<()>(&delete).await?;
        }
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
        expected: Expected {
            slow_work: Some(Verdict::Safe),
            ..Expected::LEASED
        },
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
        self.0.exit.pass().await;
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
