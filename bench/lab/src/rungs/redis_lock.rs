//! Locks in Redis without an owner.

use std::sync::Arc;

use redis::{Cmd, cmd};

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

const LOCK: &str = "lock";

fn set_if_absent(lab: &Lab) -> Cmd {
    cmd("SETNX").arg(lab.cache.key(LOCK)).arg(1).take()
}

/// Whoever holds the lock by now: that is the mistake of these rungs.
async fn release(lab: &Lab) -> Result<(), Failure> {
    let delete = cmd("DEL").arg(lab.cache.key(LOCK)).take();
    lab.cache.send(&delete).await
}

/// SETNX and DEL.
#[derive(Debug)]
pub(super) struct SetNx(Arc<Lab>);

impl Strategy for SetNx {
    const CARD: Card = Card {
        name: "setnx",
        step: 6,
        title: "SETNX, DEL",
        story: "The first lock everybody writes. It keeps others out, and if its holder dies it does so for ever: \
                the sale stands still until somebody deletes the key by hand.",
        diagram: "A: SETNX lock -> 1; dies\n\
                  B: SETNX lock -> 0, 0, 0, ...      nobody will ever DEL it",
        expected: Expected {
            death: Some(Verdict::Blocks),
            restart: Some(Verdict::Oversells),
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        lab.cache
            .take_lock(&set_if_absent(lab), lab.patience)
            .await?;
        let told = read_then_write(lab, buyer).await;
        release(lab).await?;
        told
    }
}

/// SETNX, then EXPIRE.
#[derive(Debug)]
pub(super) struct SetNxThenExpire(Arc<Lab>);

impl Strategy for SetNxThenExpire {
    const CARD: Card = Card {
        name: "setnx-expire",
        step: 6,
        title: "SETNX, then EXPIRE",
        story: "Two commands where one is needed: who dies between them leaves a lock without an end, as before, \
                only more rarely. (The gate stands between the two here. With the expiry in place it fails as \
                the next rung does.)",
        diagram: "A: SETNX lock -> 1\n\
                  A: dies                             PEXPIRE was never sent\n\
                  B: SETNX lock -> 0, 0, 0, ...",
        expected: Expected {
            death: Some(Verdict::Blocks),
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        lab.cache
            .take_lock(&set_if_absent(lab), lab.patience)
            .await?;
        lab.gate.pass().await;
        let mut expire = cmd("PEXPIRE");
        expire.arg(lab.cache.key(LOCK)).arg(lab.lease_ms());
        lab.cache.send::<()>(&expire).await?;
        let told = read_then_write(lab, buyer).await;
        release(lab).await?;
        told
    }
}

/// SET NX PX, then a plain DEL.
#[derive(Debug)]
pub(super) struct SetNxPx(Arc<Lab>);

impl Strategy for SetNxPx {
    const CARD: Card = Card {
        name: "set-nx-px",
        step: 6,
        title: "SET NX PX, DEL",
        story: "Lock and lease in one command: a death only costs the rest of the lease. But a lease also ends \
                under a holder who is merely slow (a pause of the collector, of the machine, of the network). \
                Two are inside then; and the slow one's DEL removes the other's lock and lets in a third.",
        diagram: "A: SET lock NX PX -> OK; SELECT left -> 2; stands still\n\
                  -- the lease ends --\n\
                  B: SET lock NX PX -> OK; SELECT left -> 2; UPDATE left = 1\n\
                  A: UPDATE left = 1                  B's unit is on sale again\n\
                  A: DEL lock                         B's, if B is still inside",
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
        let mut take = cmd("SET");
        take.arg(lab.cache.key(LOCK)).arg(1).arg("NX");
        take.arg("PX").arg(lab.lease_ms());
        lab.cache.take_lock(&take, lab.patience).await?;
        let told = read_then_write(lab, buyer).await;
        lab.exit.pass().await;
        release(lab).await?;
        told
    }
}
