//! Transactions without an explicit lock.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::Expected;
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// One attempt, in one transaction. The write is relative, so that none is lost: what fails is the check.
async fn attempt(lab: &Lab, buyer: Buyer, isolation: Isolation) -> Result<Answer, Failure> {
    let mut tx = lab.database.begin(isolation).await?;
    let left = tx.number("SELECT left_units FROM stock", &[]).await?;
    if left.unwrap_or(0) <= 0 {
        return Ok(Answer::SoldOut);
    }
    lab.gate.pass().await;
    tx.execute("UPDATE stock SET left_units = left_units - 1", &[])
        .await?;
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    tx.commit().await?;
    Ok(Answer::Bought)
}

async fn with_retries(lab: &Lab, buyer: Buyer, isolation: Isolation) -> Result<Answer, Failure> {
    loop {
        match attempt(lab, buyer, isolation).await {
            Err(Failure::Serialization) => {}
            told => return told,
        }
    }
}

/// READ COMMITTED, the default.
#[derive(Debug)]
pub(super) struct ReadCommitted(Arc<Lab>);

impl Strategy for ReadCommitted {
    const CARD: Card = Card {
        name: "read-committed",
        step: 3,
        title: "a transaction, READ COMMITTED",
        story: "A transaction is all or nothing; it is not alone. At PostgreSQL's default level the UPDATE \
                waits for the other one's commit, then goes on with the new row, and nobody looks again \
                whether there is still a unit. The stock goes below zero.",
        diagram: "A: BEGIN; SELECT left -> 1\n\
                  B: BEGIN; SELECT left -> 1\n\
                  A: UPDATE left = left - 1; COMMIT    0\n\
                  B: UPDATE left = left - 1; COMMIT   -1",
        expected: Expected::OVERSELLS,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        attempt(&self.0, buyer, Isolation::ReadCommitted).await
    }
}

/// REPEATABLE READ with retries.
#[derive(Debug)]
pub(super) struct RepeatableRead(Arc<Lab>);

impl Strategy for RepeatableRead {
    const CARD: Card = Card {
        name: "repeatable-read",
        step: 3,
        title: "REPEATABLE READ, with retries",
        story: "PostgreSQL refuses to update a row that changed after the snapshot, so the check and the write \
                belong together after all. Of all who overlap, one gets through and the others start over: \
                correct, and the more buyers, the more work is thrown away.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        with_retries(&self.0, buyer, Isolation::RepeatableRead).await
    }
}

/// SERIALIZABLE with retries.
#[derive(Debug)]
pub(super) struct Serializable(Arc<Lab>);

impl Strategy for Serializable {
    const CARD: Card = Card {
        name: "serializable",
        step: 3,
        title: "SERIALIZABLE, with retries",
        story: "As REPEATABLE READ, and also right where the check and the write touch different rows. For one \
                hot row it buys nothing more, and it costs the book-keeping of what everybody has read.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        with_retries(&self.0, buyer, Isolation::Serializable).await
    }
}
