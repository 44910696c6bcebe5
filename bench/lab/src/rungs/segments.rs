//! The stock in several rows.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::lab::Lab;
use crate::scenario::Verdict;
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Expected, Failure, Strategy};

const SEGMENTS_MAX: i64 = 20;

/// A buyer queues at one of up to twenty rows.
#[derive(Debug)]
pub(super) struct Segments {
    lab: Arc<Lab>,
    segments: i64,
}

impl Strategy for Segments {
    const CARD: Card = Card {
        name: "segments",
        step: 7,
        title: "the stock in twenty segments, a lock each",
        story: "Twenty short queues instead of a long one. The price is paid at the end of the sale: who comes to \
                an empty segment is told `sold out` while others still have units. Looking into the next segment \
                cures that, and gives back part of what the segments have won.",
        diagram: "A: SELECT left FROM segment 7 FOR UPDATE -> 0: told `sold out`\n\
                  segment 3 has 2 units left, and as many buyers as units have come",
        expected: Expected {
            double_click: None,
            exact: Some(Verdict::Strands),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: Arc<Lab>) -> Result<Self, Failure> {
        let segments = lab.stock.min(SEGMENTS_MAX);
        lab.database
            .execute(
                "CREATE TABLE segments (segment_id bigint PRIMARY KEY, left_units bigint NOT NULL)
                 WITH (fillfactor = 50)",
                &[],
            )
            .await?;
        lab.database
            .execute(
                "INSERT INTO segments
                 SELECT unit_id % $2, count(*) FROM generate_series(1, $1) AS unit_id GROUP BY 1",
                &[lab.stock, segments],
            )
            .await?;
        Ok(Self { lab, segments })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let segment = self.segment(buyer);
        let mut tx = self.lab.database.begin(Isolation::ReadCommitted).await?;
        let read = "SELECT left_units FROM segments WHERE segment_id = $1 FOR UPDATE";
        if tx.number(read, &[segment]).await?.unwrap_or(0) <= 0 {
            return Ok(Answer::SoldOut);
        }
        self.lab.gate.pass(buyer).await;
        let write = "UPDATE segments SET left_units = left_units - 1 WHERE segment_id = $1";
        tx.execute(write, &[segment]).await?;
        tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
            .await?;
        tx.commit().await?;
        Ok(Answer::Bought)
    }
}

impl Segments {
    /// As a load balancer spreads clicks: evenly on average only. Not random, so that a run can be repeated.
    fn segment(&self, buyer: Buyer) -> i64 {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(buyer.click);
        i64::try_from(hash >> 1).unwrap_or(0) % self.segments
    }
}
