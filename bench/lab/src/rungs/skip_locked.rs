//! A row for each unit.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// Takes any row that nobody else has locked.
#[derive(Debug)]
pub(super) struct SkipLocked(Arc<Lab>);

impl Strategy for SkipLocked {
    const CARD: Card = Card {
        name: "skip-locked",
        step: 4,
        title: "one row a unit, FOR UPDATE SKIP LOCKED",
        story: "Buyers do not queue: each takes a row of its own. Never oversold and parallel, but `no free row` \
                does not mean `sold out`: it means that each unit is sold or in somebody's hands. If that \
                somebody dies, the unit is there again and all who asked have been sent away.",
        diagram: "A: SELECT ... SKIP LOCKED   -> unit 1\n\
                  B: SELECT ... SKIP LOCKED   -> no row: told `sold out`, goes home\n\
                  A: dies, ROLLBACK              unit 1 is free, and nobody is there",
        expected: Expected {
            death: Some(Verdict::Strands),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        lab.database
            .execute(
                "CREATE TABLE units (unit_id bigint PRIMARY KEY, sold boolean NOT NULL)",
                &[],
            )
            .await?;
        let sql = "INSERT INTO units SELECT unit_id, false FROM generate_series(1, $1) AS unit_id";
        lab.database.execute(sql, &[lab.stock]).await?;
        let index = "CREATE INDEX ON units (unit_id) WHERE NOT sold";
        lab.database.execute(index, &[]).await?;
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let mut tx = self.0.database.begin(Isolation::ReadCommitted).await?;
        let free = "SELECT unit_id FROM units WHERE NOT sold LIMIT 1 FOR UPDATE SKIP LOCKED";
        let Some(unit) = tx.number(free, &[]).await? else {
            return Ok(Answer::SoldOut);
        };
        self.0.gate.pass().await;
        tx.execute("UPDATE units SET sold = true WHERE unit_id = $1", &[unit])
            .await?;
        tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
            .await?;
        tx.commit().await?;
        Ok(Answer::Bought)
    }
}
