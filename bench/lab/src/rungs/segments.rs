//! The stock in several rows.

use std::sync::Arc;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

const SEGMENTS_MAX: i64 = 20;

pub(super) fn segments(lab: &Lab) -> i64 {
    lab.stock.min(SEGMENTS_MAX)
}

/// Chosen at random: evenly on average only. The click is the seed, so that a run can be repeated.
pub(super) fn random_segment(lab: &Lab, buyer: Buyer) -> i64 {
    let mut random = fastrand::Rng::with_seed(buyer.click as u64);
    random.i64(0..segments(lab))
}

async fn make_segments(lab: &Lab) -> Result<(), Failure> {
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
            &[lab.stock, segments(lab)],
        )
        .await?;
    Ok(())
}

async fn buy_from(lab: &Lab, buyer: Buyer, segment: i64) -> Result<Answer, Failure> {
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    let read = "SELECT left_units FROM segments WHERE segment_id = $1 FOR UPDATE";
    if tx.number(read, &[segment]).await?.unwrap_or(0) <= 0 {
        return Ok(Answer::SoldOut);
    }
    lab.gate.pass().await;
    let write = "UPDATE segments SET left_units = left_units - 1 WHERE segment_id = $1";
    tx.execute(write, &[segment]).await?;
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    tx.commit().await?;
    Ok(Answer::Bought)
}

/// A buyer queues at one of up to twenty rows.
#[derive(Debug)]
pub(super) struct Segments(Arc<Lab>);

impl Strategy for Segments {
    const CARD: Card = Card {
        name: "segments",
        step: 7,
        title: "the stock in twenty segments, a lock each",
        story: "Twenty short queues instead of a long one. The price is paid at the end of the sale: who comes to \
                an empty segment is told `sold out` while others still have units: of a thousand units in twenty \
                segments, chosen at random by a thousand buyers, some fifty are left over.",
        diagram: "A: SELECT left FROM segment 7 FOR UPDATE -> 0: told `sold out`\n\
                  segment 3 has 2 units left, and as many buyers as units have come",
        expected: Expected {
            double_click: None,
            exact: Some(Verdict::Strands),
            thousand: Some(Verdict::Strands),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        make_segments(lab).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        buy_from(lab, buyer, random_segment(lab, buyer)).await
    }
}

/// Who finds it empty looks into the next one.
#[derive(Debug)]
pub(super) struct NextSegment(Arc<Lab>);

impl Strategy for NextSegment {
    const CARD: Card = Card {
        name: "next-segment",
        step: 7,
        title: "the same, then the next segment",
        story: "Nobody is sent away before every segment was seen empty, so nothing is stranded. Each look is a \
                transaction of its own: who kept the lock on one while waiting for the next would meet \
                somebody who does so the other way round. The price: when all is sold, every buyer knocks at twenty doors.",
        diagram: "",
        expected: Expected {
            thousand: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        make_segments(lab).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let first = random_segment(lab, buyer);
        for step in 0..segments(lab) {
            let segment = (first + step) % segments(lab);
            let told = buy_from(lab, buyer, segment).await?;
            if told != Answer::SoldOut {
                return Ok(told);
            }
        }
        Ok(Answer::SoldOut)
    }
}
