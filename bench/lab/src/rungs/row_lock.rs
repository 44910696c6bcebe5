//! Locks on the row of the stock.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// One purchase in a transaction whose first statement reads the stock and locks something.
pub(super) async fn locked(
    lab: &Lab,
    buyer: Buyer,
    lock: Option<&'static str>,
    read: &'static str,
) -> Result<Answer, Failure> {
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    if let Some(lock) = lock {
        tx.execute(lock, &[]).await?;
    }
    if tx.number(read, &[]).await?.unwrap_or(0) <= 0 {
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

/// SELECT ... FOR UPDATE.
#[derive(Debug)]
pub(super) struct ForUpdate(Arc<Lab>);

impl Strategy for ForUpdate {
    const CARD: Card = Card {
        name: "for-update",
        step: 4,
        title: "SELECT ... FOR UPDATE",
        story: "The read takes the lock that the write needs, and everybody queues at the row. Correct, in any \
                number of processes, and a death gives the lock back with the connection. The price: one order \
                at a time for as long as a transaction takes, and a connection held by each one who waits: \
                while one buyer stands still, a pool of twenty is used up by the twenty-first, and everybody \
                after that is sent away, whatever the database could do.",
        diagram: "A:      SELECT ... FOR UPDATE      stands still, with connection 1\n\
                  B .. T: SELECT ... FOR UPDATE      wait for the row, with connections 2 to 20\n\
                  U ..:   no connection              503, with 1000 units left",
        expected: Expected {
            pool: Some(Verdict::Strands),
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let read = "SELECT left_units FROM stock FOR UPDATE";
        locked(&self.0, buyer, None, read).await
    }
}

/// SELECT ... FOR SHARE, then the update.
#[derive(Debug)]
pub(super) struct ForShare(Arc<Lab>);

impl Strategy for ForShare {
    const CARD: Card = Card {
        name: "for-share",
        step: 4,
        title: "SELECT ... FOR SHARE, then UPDATE",
        story: "Many may hold the share lock; each then wants it alone, and waits for the others to let go. \
                PostgreSQL finds the circle and kills transactions until one is left: never oversold, but the \
                crowd gets errors instead of answers, each after the server's deadlock timeout.",
        diagram: "A: SELECT ... FOR SHARE      holds the row, shared\n\
                  B: SELECT ... FOR SHARE      holds the row, shared\n\
                  A: UPDATE                    waits for B\n\
                  B: UPDATE                    waits for A: deadlock, one of them is killed",
        expected: Expected {
            race: Some(Verdict::Deadlocks),
            pause: Some(Verdict::Deadlocks),
            death: Some(Verdict::Deadlocks),
            exact: None,
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let read = "SELECT left_units FROM stock FOR SHARE";
        locked(&self.0, buyer, None, read).await
    }
}
