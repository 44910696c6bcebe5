//! The stock in Redis, taken by one command, and the order in PostgreSQL after that.

use std::sync::Arc;

use redis::cmd;

use crate::lab::Lab;
use crate::scenario::Verdict;
use crate::strategy::{Answer, Buyer, Card, Expected, Failure, Strategy};

const UNITS: &str = "units";
const EXPECTED: Expected = Expected {
    death: Some(Verdict::LosesUnits),
    restart: Some(Verdict::Oversells),
    ..Expected::SAFE
};

async fn insert_order(lab: &Lab, buyer: Buyer) -> Result<Answer, Failure> {
    lab.gate.pass().await;
    lab.database
        .execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    Ok(Answer::Bought)
}

/// A list with an element a unit.
#[derive(Debug)]
pub(super) struct Tokens(Arc<Lab>);

impl Strategy for Tokens {
    const CARD: Card = Card {
        name: "lpop",
        step: 8,
        title: "LPOP from a list of unit tokens, then INSERT",
        story: "Redis runs one command after the other, so each token goes to one buyer, and being sold out costs \
                one cheap round trip. But now there are two stores, and a process that dies between them has \
                taken a unit for nobody: no one will ever put that token back.",
        diagram: "A: LPOP units -> 17\n\
                  A: dies                             no order, and token 17 is gone",
        expected: EXPECTED,
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let mut push = cmd("RPUSH");
        push.arg(lab.cache.key(UNITS));
        push.arg((1..=lab.stock).collect::<Vec<_>>());
        lab.cache.send(&push).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let mut pop = cmd("LPOP");
        pop.arg(self.0.cache.key(UNITS));
        let token: Option<i64> = self.0.cache.send(&pop).await?;
        match token {
            Some(_) => insert_order(&self.0, buyer).await,
            None => Ok(Answer::SoldOut),
        }
    }
}

/// A counter, corrected when it falls below zero.
#[derive(Debug)]
pub(super) struct Decrement(Arc<Lab>);

impl Strategy for Decrement {
    const CARD: Card = Card {
        name: "decr",
        step: 8,
        title: "DECR, INCR when it falls below zero, then INSERT",
        story: "As the list, in constant space. The correction is a second command, so the counter is wrong in \
                between, and for good if the process dies there: a restock then sells that much less. A death \
                after DECR loses a unit as before.",
        diagram: "A: DECR units -> 0\n\
                  A: dies                             no order, and nobody will INCR",
        expected: EXPECTED,
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let mut set = cmd("SET");
        set.arg(lab.cache.key(UNITS)).arg(lab.stock);
        lab.cache.send(&set).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let mut decrement = cmd("DECR");
        decrement.arg(self.0.cache.key(UNITS));
        let left: i64 = self.0.cache.send(&decrement).await?;
        if left >= 0 {
            return insert_order(&self.0, buyer).await;
        }
        let mut give_back = cmd("INCR");
        give_back.arg(self.0.cache.key(UNITS));
        self.0.cache.send::<()>(&give_back).await?;
        Ok(Answer::SoldOut)
    }
}
