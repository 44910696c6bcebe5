//! A lock in Redis whose token the database checks.

use std::sync::Arc;

use redis::cmd;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::owned_lock::DELETE_IF_MINE;
use crate::scenario::{Expected, Verdict};
use crate::store::Isolation;
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// KEYS\[1\] the lock, KEYS\[2\] the last token, ARGV\[1\] the lease in milliseconds: a new token, or 0.
const TAKE: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token";

/// Tokens only grow, and the database refuses the older one.
#[derive(Debug)]
pub(super) struct Fencing(Arc<Lab>);

impl Strategy for Fencing {
    const CARD: Card = Card {
        name: "fencing-token",
        step: 6,
        title: "a fencing token, checked by the database",
        story: "The lock gives out growing numbers; the holder leaves its number in the database when it reads, \
                and writes only if it is still there. A late write is refused, however late. It has to be left \
                at the *read*: checked at the write alone, a slow holder may write between a newer one's read \
                and write. And then it is the database's conditional update that keeps the sale right; the lock \
                only thins out the crowd. The numbers have to outlive Redis, too: after a restart they begin again, \
                are refused until they have caught up, and the sale stands still as long.",
        diagram: "A: token 1; UPDATE fence = 1 RETURNING left -> 2; stands still\n\
                  -- the lease ends --\n\
                  B: token 2; UPDATE fence = 2 RETURNING left -> 2; UPDATE left = 1 WHERE fence = 2\n\
                  A: UPDATE left = 1 WHERE fence = 1     0 rows: refused, A starts over",
        expected: Expected {
            restart: Some(Verdict::Safe),
            clock_step: Some(Verdict::Safe),
            slow_work: Some(Verdict::Safe),
            late_release: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let lab = &*self.0;
        let (lock, last) = (lab.cache.key("lock"), lab.cache.key("token"));
        let mut take = cmd("EVAL");
        take.arg(TAKE).arg(2).arg(&lock).arg(&last);
        take.arg(lab.lease_ms());
        loop {
            let token = lab.cache.take_lock(&take, lab.patience).await?;
            let told = read_then_write_fenced(lab, buyer, token).await;
            lab.exit.pass().await;
            let mut release = cmd("EVAL");
            release.arg(DELETE_IF_MINE).arg(1).arg(&lock).arg(token);
            lab.cache.send::<()>(&release).await?;
            match told {
                Err(Failure::StaleToken) => {}
                told => return told,
            }
        }
    }
}

/// The naive sale, that only the newest token's holder may finish.
pub(super) async fn read_then_write_fenced(
    lab: &Lab,
    buyer: Buyer,
    token: i64,
) -> Result<Answer, Failure> {
    let read = "UPDATE stock SET fence = $1 WHERE fence < $1 RETURNING left_units";
    let left = lab.database.number(read, &[token]).await?;
    let left = left.ok_or(Failure::StaleToken)?;
    if left <= 0 {
        return Ok(Answer::SoldOut);
    }
    lab.gate.pass().await;
    let mut tx = lab.database.begin(Isolation::ReadCommitted).await?;
    let write = "UPDATE stock SET left_units = $1 WHERE fence = $2";
    if tx.execute(write, &[left - 1, token]).await? == 0 {
        return Err(Failure::StaleToken);
    }
    tx.execute("INSERT INTO orders VALUES ($1)", &[buyer.user_id])
        .await?;
    tx.commit().await?;
    Ok(Answer::Bought)
}
