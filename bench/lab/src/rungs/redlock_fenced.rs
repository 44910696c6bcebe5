//! Redlock, with a number from the database that the database checks.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::fencing::read_then_write_fenced;
use crate::rungs::redlock::{NODES, release, take};
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// Three of five, and a fencing token.
#[derive(Debug)]
pub(super) struct RedlockFenced(Arc<Lab>);

impl Strategy for RedlockFenced {
    const CARD: Card = Card {
        name: "redlock-fenced",
        step: 6,
        title: "Redlock with a fencing token, checked by the database",
        story: "Redlock's own token is random: it says who, not who came later, and five servers have no counter \
                in common. Here the number comes from a sequence in the database, drawn under the lock, and the \
                database refuses an older one. It holds through everything that breaks the lock, which says \
                what the five servers were for: nothing that the database's condition does not do alone.",
        diagram: "A: 5 votes; nextval -> 1; UPDATE fence = 1 RETURNING left -> 2; stands still\n\
                  -- the lease ends; or the clocks of 1 2 3 step; or 1 2 3 restart --\n\
                  B: 3 votes; nextval -> 2; UPDATE fence = 2 RETURNING left -> 2; UPDATE left = 1 WHERE fence = 2\n\
                  A: UPDATE left = 1 WHERE fence = 1     0 rows: refused, A starts over",
        expected: Expected {
            restart: Some(Verdict::Safe),
            clock_step: Some(Verdict::Safe),
            slow_work: Some(Verdict::Safe),
            late_release: Some(Verdict::Safe),
            two_dead: Some(Verdict::Safe),
            three_dead: Some(Verdict::Blocks),
            ..Expected::SAFE
        },
    };

    const REDIS_SERVERS: usize = NODES;

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        lab.database.execute("CREATE SEQUENCE fences", &[]).await?;
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        loop {
            let lock = take(lab).await?;
            let told = async {
                let next = lab.database.number("SELECT nextval('fences')", &[]);
                let token = next.await?.unwrap_or(0);
                read_then_write_fenced(lab, buyer, token).await
            };
            let told = told.await;
            lab.exit.pass().await;
            release(lab, lock).await;
            match told {
                Err(Failure::StaleToken) => {}
                told => return told,
            }
        }
    }
}
