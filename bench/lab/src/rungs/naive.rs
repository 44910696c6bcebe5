//! Read, then write.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::Expected;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// Reads what is left and writes one less.
#[derive(Debug)]
pub(super) struct Naive(Arc<Lab>);

impl Strategy for Naive {
    const CARD: Card = Card {
        name: "naive",
        step: 1,
        title: "read the stock, then write one less",
        story: "Two statements with nothing between them to keep others out. Everybody who reads before the \
                first one writes sells the same unit, and each write erases the others'.",
        diagram: "A: SELECT left        -> 1\n\
                  B: SELECT left        -> 1\n\
                  A: UPDATE left = 0; INSERT order\n\
                  B: UPDATE left = 0; INSERT order     the same unit, sold twice",
        expected: Expected::OVERSELLS,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        read_then_write(&self.0, buyer).await
    }
}

/// The naive sale, which other rungs put a lock around.
pub(super) async fn read_then_write(lab: &Lab, buyer: Buyer) -> Result<Answer, Failure> {
    let left = lab.database.number("SELECT left_units FROM stock", &[]);
    let left = left.await?.unwrap_or(0);
    if left <= 0 {
        return Ok(Answer::SoldOut);
    }
    lab.gate.pass().await;
    lab.database
        .execute("UPDATE stock SET left_units = $1", &[left - 1])
        .await?;
    lab.database
        .execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    Ok(Answer::Bought)
}
