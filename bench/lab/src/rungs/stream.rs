//! A script that also writes the order down, and a consumer that carries it to the database.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Accepted, Answer, Buyer, Card, Strategy};

/// KEYS\[1\] units left, KEYS\[2\] users who have bought, KEYS\[3\] the stream, ARGV\[1\] the user: 1 taken,
/// 0 sold out, -1 has one.
const TAKE: &str = "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 0 end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], '*', 'user', ARGV[1])
return 1";
const BATCH: usize = 500;
const POLL: Duration = Duration::from_millis(5);

/// Its id, and its one field: name and value.
type Entry = (String, (String, i64));

/// The script, a stream, and a consumer in the background.
#[derive(Debug)]
pub(super) struct Stream(Arc<Lab>);

impl Strategy for Stream {
    const CARD: Card = Card {
        name: "lua-stream",
        step: 9,
        title: "a Lua script with a stream, and a consumer",
        story: "Unit, user and order in one atomic step, so a buyer's process may die where it likes; the consumer \
                inserts in batches and deletes an entry only when its row is there, and the unique index makes \
                a repetition harmless. The buyer is told `bought` before there is a row. What is left is the \
                store itself: the order exists in one Redis, and a failover that loses its last writes loses \
                orders that were confirmed, and sells their units again.",
        diagram: "A: EVAL take -> 1                   unit, user and stream entry\n\
                  A: told `bought`\n\
                  Redis dies; the replica has not seen A's script\n\
                  B: EVAL take -> 1                   A's unit; A's order is nowhere",
        expected: Expected {
            restart: Some(Verdict::LosesOrders),
            double_click: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    const ACCEPTED: Accepted = Accepted::Entry;

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let mut set = cmd("SET");
        set.arg(lab.cache.key("units")).arg(lab.stock);
        lab.cache.send::<()>(&set).await?;
        let index = "CREATE UNIQUE INDEX ON orders (user_id)";
        lab.database.execute(index, &[]).await?;
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        Ok(Self(lab))
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let cache = &self.0.cache;
        let mut take = cmd("EVAL");
        take.arg(TAKE).arg(3).arg(cache.key("units"));
        take.arg(cache.key("users")).arg(cache.key("orders"));
        take.arg(buyer.user_id);
        let told = match cache.send::<i64>(&take).await? {
            1 => Answer::Bought,
            0 => Answer::SoldOut,
            _ => Answer::Already,
        };
        if told == Answer::Bought {
            self.0.gate.pass().await;
        }
        Ok(told)
    }

    async fn work(&self) -> Failure {
        loop {
            match carry_batch(&self.0).await {
                Ok(0) => sleep(POLL).await,
                Ok(_) => {}
                Err(failure) => return failure,
            }
        }
    }

    async fn settle(&self) -> Result<(), Failure> {
        let mut length = cmd("XLEN");
        length.arg(self.0.cache.key("orders"));
        while self.0.cache.send::<u64>(&length).await? > 0 {
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// From the beginning of the stream, as what has become a row is not in it any more: how many.
async fn carry_batch(lab: &Lab) -> Result<usize, Failure> {
    let stream = lab.cache.key("orders");
    let mut range = cmd("XRANGE");
    range.arg(&stream).arg("-").arg("+").arg("COUNT").arg(BATCH);
    let entries: Vec<Entry> = lab.cache.send(&range).await?;
    if entries.is_empty() {
        return Ok(0);
    }
    let users: Vec<i64> = entries.iter().map(|(_, (_, user_id))| *user_id).collect();
    let insert = "INSERT INTO orders SELECT unnest($1) ON CONFLICT DO NOTHING";
    lab.database.execute_many(insert, &users).await?;
    let mut delete = cmd("XDEL");
    delete.arg(&stream);
    for (id, _) in &entries {
        delete.arg(id);
    }
    lab.cache.send::<()>(&delete).await?;
    Ok(users.len())
}
