//! Optimistic: a version that has to be the one that was read.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

async fn attempt(lab: &Lab, buyer: Buyer) -> Result<Answer, Failure> {
    let read = "SELECT version FROM stock WHERE left_units > 0";
    let Some(version) = lab.database.number(read, &[]).await? else {
        return Ok(Answer::SoldOut);
    };
    lab.gate.pass().await;
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    let sql =
        "UPDATE stock SET left_units = left_units - 1, version = version + 1 WHERE version = $1";
    if tx.execute(sql, &[version]).await? == 0 {
        return Err(Failure::Conflict);
    }
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    tx.commit().await?;
    Ok(Answer::Bought)
}

/// Who loses is told to try again.
#[derive(Debug)]
pub(super) struct WithoutRetry(Arc<Lab>);

impl Strategy for WithoutRetry {
    const CARD: Card = Card {
        name: "version",
        step: 5,
        title: "a version column, no retry",
        story: "The write only counts if the version is still the one that was read. Of all who read the same \
                version one buys and the others get an error, while units are left. Under a crowd most of the \
                work ends like that.",
        diagram: "A: SELECT version -> 0\n\
                  B: SELECT version -> 0\n\
                  A: UPDATE ... WHERE version = 0      1 row\n\
                  B: UPDATE ... WHERE version = 0      0 rows: an error, with units left",
        expected: Expected {
            race: Some(Verdict::Strands),
            pause: None,
            death: None,
            exact: None,
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        attempt(&self.0, buyer).await
    }
}

/// Who loses tries again until there is nothing left.
#[derive(Debug)]
pub(super) struct WithRetry(Arc<Lab>);

impl Strategy for WithRetry {
    const CARD: Card = Card {
        name: "version-retry",
        step: 5,
        title: "a version column, with retries",
        story: "Correct, and it sells everything. Somebody always gets through, so it does not stand still; but \
                a crowd of n does up to n times the work for each unit.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        loop {
            match attempt(&self.0, buyer).await {
                Err(Failure::Conflict) => {}
                told => return told,
            }
        }
    }
}
