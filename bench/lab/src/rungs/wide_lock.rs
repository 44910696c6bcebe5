//! Locks on more, or less, than the row: the whole table, and a number that stands for the sale.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::row_lock::locked;
use crate::scenario::Expected;
use crate::strategy::{Answer, Buyer, Card, Strategy};

const READ: &str = "SELECT left_units FROM stock";

/// LOCK TABLE.
#[derive(Debug)]
pub(super) struct Table(Arc<Lab>);

impl Strategy for Table {
    const CARD: Card = Card {
        name: "table-lock",
        step: 4,
        title: "LOCK TABLE",
        story: "FOR UPDATE with a statement more, and for all sales at once: a buyer of anything else that has \
                its stock in this table waits, too.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lock = "LOCK TABLE stock IN EXCLUSIVE MODE";
        locked(&self.0, buyer, Some(lock), READ).await
    }
}

/// An advisory lock that ends with the transaction.
#[derive(Debug)]
pub(super) struct Advisory(Arc<Lab>);

impl Strategy for Advisory {
    const CARD: Card = Card {
        name: "advisory-lock",
        step: 4,
        title: "an advisory lock in the transaction",
        story: "A lock on a number, by agreement: right only while every piece of code that touches the stock \
                takes it. The form that ends with the transaction is released by COMMIT, by ROLLBACK and by a \
                death; the form that ends with the session would stay in a pooled connection.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        // Per sale: schemas of several sales share the database, and advisory locks know no schema.
        let lock = "SELECT pg_advisory_xact_lock(hashtext(current_schema()))";
        locked(&self.0, buyer, Some(lock), READ).await
    }
}
