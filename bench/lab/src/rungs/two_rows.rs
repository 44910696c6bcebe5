//! An order that takes a unit of two rows.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

async fn make_parts(lab: &Lab) -> Result<(), Failure> {
    let table = "CREATE TABLE parts (part_id bigint PRIMARY KEY, left_units bigint NOT NULL)";
    lab.database.execute(table, &[]).await?;
    let rows = "INSERT INTO parts VALUES (1, $1), (2, $1)";
    lab.database.execute(rows, &[lab.stock]).await?;
    Ok(())
}

async fn buy_both(lab: &Lab, buyer: Buyer, order: [i64; 2]) -> Result<Answer, Failure> {
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    let lock = "SELECT left_units FROM parts WHERE part_id = $1 FOR UPDATE";
    if tx.number(lock, &order[..1]).await?.unwrap_or(0) <= 0 {
        return Ok(Answer::SoldOut);
    }
    lab.gate.pass().await;
    if tx.number(lock, &order[1..]).await?.unwrap_or(0) <= 0 {
        return Ok(Answer::SoldOut);
    }
    tx.execute("UPDATE parts SET left_units = left_units - 1", &[])
        .await?;
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    tx.commit().await?;
    Ok(Answer::Bought)
}

/// Each locks them in the order of its own basket.
#[derive(Debug)]
pub(super) struct AnyOrder(Arc<Lab>);

impl Strategy for AnyOrder {
    const CARD: Card = Card {
        name: "two-rows",
        step: 4,
        title: "FOR UPDATE on two rows, in the order of the basket",
        story: "An order that needs a unit of two things locks two rows, one after the other. Who has the voucher first \
                in the basket waits for who has the gift first, and the other way round: PostgreSQL kills one of \
                them after its deadlock timeout. Never oversold, and the more buyers, the more errors.",
        diagram: "A: SELECT ... part 1 FOR UPDATE\n\
                  B: SELECT ... part 2 FOR UPDATE\n\
                  A: SELECT ... part 2 FOR UPDATE     waits for B\n\
                  B: SELECT ... part 1 FOR UPDATE     waits for A: deadlock, one of them is killed",
        expected: Expected {
            race: Some(Verdict::Deadlocks),
            pause: Some(Verdict::Deadlocks),
            death: None,
            exact: None,
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        make_parts(lab).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let order = if buyer.click.is_multiple_of(2) {
            [1, 2]
        } else {
            [2, 1]
        };
        buy_both(&self.0, buyer, order).await
    }
}

/// All lock them in the same order.
#[derive(Debug)]
pub(super) struct SameOrder(Arc<Lab>);

impl Strategy for SameOrder {
    const CARD: Card = Card {
        name: "two-rows-in-order",
        step: 4,
        title: "FOR UPDATE on two rows, all in the same order",
        story: "Who has locked the first row has nobody before it at the second: no circle, no deadlock. It holds \
                while every piece of code that locks both keeps to the order.",
        diagram: "",
        expected: Expected::SAFE,
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        make_parts(lab).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        buy_both(&self.0, buyer, [1, 2]).await
    }
}
