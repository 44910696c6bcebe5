//! The stock in Redis, taken by one command, and the order in PostgreSQL after that.

use std::sync::Arc;

use redis::cmd;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::segments::{random_segment, segments};
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

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
        decrement_then_insert(&self.0, buyer, &self.0.cache.key(UNITS)).await
    }
}

async fn decrement_then_insert(lab: &Lab, buyer: Buyer, key: &str) -> Result<Answer, Failure> {
    let decrement = cmd("DECR").arg(key).take();
    let left: i64 = lab.cache.send(&decrement).await?;
    if left >= 0 {
        return insert_order(lab, buyer).await;
    }
    let give_back = cmd("INCR").arg(key).take();
    lab.cache.send::<()>(&give_back).await?;
    Ok(Answer::SoldOut)
}

/// A buyer decrements one of up to twenty counters.
#[derive(Debug)]
pub(super) struct Segments(Arc<Lab>);

fn segment_key(lab: &Lab, segment: i64) -> String {
    lab.cache.key(&format!("{UNITS}:{segment}"))
}

impl Strategy for Segments {
    const CARD: Card = Card {
        name: "decr-segments",
        step: 8,
        title: "the same with twenty counters, one chosen at random",
        story: "Meant for counters on several Redis servers, so that one hot key is no limit. It is stranded as the \
                rows in segments are: who comes to an empty counter is told `sold out` while others have units. \
                And on one server it wins nothing, as one command there follows the other anyway.",
        diagram: "A: DECR units:7 -> -1; INCR units:7     told `sold out`\n\
                  units:3 is 2, and as many buyers as units have come",
        expected: Expected {
            double_click: None,
            exact: Some(Verdict::Strands),
            thousand: Some(Verdict::Strands),
            ..EXPECTED
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        for unit in 0..lab.stock {
            let key = segment_key(lab, unit % segments(lab));
            lab.cache.send::<()>(&cmd("INCR").arg(key).take()).await?;
        }
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let key = segment_key(lab, random_segment(lab, buyer));
        decrement_then_insert(lab, buyer, &key).await
    }
}
