//! The check inside the write.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// An order and its unit, in one transaction.
pub(super) async fn take_one(lab: &Lab, buyer: Buyer) -> Result<Answer, Failure> {
    lab.gate.pass().await;
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    // The order first: the row that everybody wants is locked for as short as possible.
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    let sql = "UPDATE stock SET left_units = left_units - 1 WHERE left_units > 0";
    if tx.execute(sql, &[]).await? == 0 {
        return Ok(Answer::SoldOut);
    }
    tx.commit().await?;
    Ok(Answer::Bought)
}

/// UPDATE ... WHERE left > 0.
#[derive(Debug)]
pub(super) struct Conditional(Arc<Lab>);

impl Strategy for Conditional {
    const CARD: Card = Card {
        name: "conditional-update",
        step: 5,
        title: "UPDATE ... WHERE left_units > 0",
        story: "No read at all: the database checks and writes in one statement, and after waiting for a lock it \
                checks again with the new row. The simplest rung that is right about the stock. What it does not \
                see is the user who clicks twice.",
        diagram: "one user, click 1: INSERT order; UPDATE ... WHERE left > 0      bought\n\
                  one user, click 2: INSERT order; UPDATE ... WHERE left > 0      bought again",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        take_one(&self.0, buyer).await
    }
}

/// The same behind a unique index.
#[derive(Debug)]
pub(super) struct OnePerUser(Arc<Lab>);

impl Strategy for OnePerUser {
    const CARD: Card = Card {
        name: "unique-index",
        step: 5,
        title: "the same, with a unique index on the user",
        story: "The second click's INSERT waits for the first one's transaction and then fails, before it has \
                touched the stock. All that a sale needs, in one database, at the speed of one hot row. For \
                many sales this rung is enough, and none of the next ones is worth its trouble.",
        diagram: "",
        expected: Expected {
            double_click: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let sql = "CREATE UNIQUE INDEX ON orders (user_id)";
        lab.database.execute(sql, &[]).await?;
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        match take_one(&self.0, buyer).await {
            Err(Failure::DuplicateKey) => Ok(Answer::Already),
            told => told,
        }
    }
}
