//! Everything that has to hold, checked by one script.

use std::sync::Arc;

use redis::cmd;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// KEYS\[1\] units left, KEYS\[2\] users who have bought, ARGV\[1\] the user: 1 taken, 0 sold out, -1 has one.
const TAKE: &str = "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 0 end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 1";

/// The script, then the order in the same request.
#[derive(Debug)]
pub(super) struct ThenInsert(Arc<Lab>);

impl Strategy for ThenInsert {
    const CARD: Card = Card {
        name: "lua-insert",
        step: 9,
        title: "a Lua script, then INSERT",
        story: "One script checks the user and the stock and takes the unit: no interleaving is left inside Redis. \
                The gap between the two stores is still there. A process that dies in it leaves a unit taken and \
                no order, and the buyer, who is in the set now, may not even try again.",
        diagram: "A: EVAL take -> 1                   unit taken, user noted\n\
                  A: dies                             no order\n\
                  A: clicks again -> -1               `you have one already`",
        expected: Expected {
            death: Some(Verdict::LosesUnits),
            restart: Some(Verdict::Oversells),
            double_click: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let mut set = cmd("SET");
        set.arg(lab.cache.key("units")).arg(lab.stock);
        lab.cache.send(&set).await
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let mut take = cmd("EVAL");
        take.arg(TAKE).arg(2);
        take.arg(lab.cache.key("units")).arg(lab.cache.key("users"));
        take.arg(buyer.user_id);
        match lab.cache.send::<i64>(&take).await? {
            1 => {}
            0 => return Ok(Answer::SoldOut),
            _ => return Ok(Answer::Already),
        }
        lab.gate.pass().await;
        lab.database
            .execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
            .await?;
        Ok(Answer::Bought)
    }
}
