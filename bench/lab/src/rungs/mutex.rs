//! A mutex in the process.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::conditional::take_one;
use crate::rungs::naive::read_then_write;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// One process, one mutex.
#[derive(Debug)]
pub(super) struct OneProcess {
    lab: Arc<Lab>,
    mutex: Mutex<()>,
}

impl Strategy for OneProcess {
    const CARD: Card = Card {
        name: "mutex",
        step: 2,
        title: "a mutex around it, in one process",
        story: "Correct as long as there is one process, and it sells one order after the other for as long \
                as the stores' round trips take. Nothing in the stores says that there may be no second \
                process, and each has a mutex of its own: two processes let in two. It is the naive rung again \
                then, only rarer, so that it passes the tests and fails on the day.",
        diagram: "process 1: lock; SELECT left -> 1\n\
                  process 2: lock; SELECT left -> 1      another mutex\n\
                  process 1: UPDATE left = 0; INSERT order; unlock\n\
                  process 2: UPDATE left = 0; INSERT order; unlock",
        expected: Expected {
            two_processes: Some(Verdict::Oversells),
            ..Expected::SAFE
        },
    };

    const ONE_PROCESS: bool = true;

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        let mutex = Mutex::new(());
        Ok(Self { lab, mutex })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let _guard = self.mutex.lock().await;
        read_then_write(&self.lab, buyer).await
    }
}

/// One process, and a mutex for each user.
#[derive(Debug)]
pub(super) struct OnePerUser {
    lab: Arc<Lab>,
    mutexes: std::sync::Mutex<HashMap<i64, Arc<Mutex<()>>>>,
}

impl OnePerUser {
    fn of(&self, user_id: i64) -> Arc<Mutex<()>> {
        let mut mutexes = self.mutexes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mutexes.entry(user_id).or_default())
    }
}

impl Strategy for OnePerUser {
    const CARD: Card = Card {
        name: "mutex-per-user",
        step: 2,
        title: "one user, one order: a mutex for each user, in one process",
        story: "What `synchronized (userId.toString().intern())` does: one user's clicks follow each other, different \
                users do not wait, and the stock is kept by a conditional update. Inside the mutex the user's orders \
                are looked for, then written: right while there is one process. In two, the same user is in two \
                mutexes at once. And the map of mutexes only grows.",
        diagram: "process 1: lock user 7; SELECT count(*) of 7's orders -> 0\n\
                  process 2: lock user 7; SELECT count(*) of 7's orders -> 0      another mutex\n\
                  process 1: UPDATE ... WHERE left > 0; INSERT order of 7\n\
                  process 2: UPDATE ... WHERE left > 0; INSERT order of 7",
        expected: Expected {
            double_click: Some(Verdict::Safe),
            two_processes: Some(Verdict::Duplicates),
            ..Expected::SAFE
        },
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        let mutexes = std::sync::Mutex::default();
        Ok(Self { lab, mutexes })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let mutex = self.of(buyer.user_id);
        let _guard = mutex.lock().await;
        let mine = "SELECT count(*) FROM orders WHERE user_id = $1";
        let mine = self.lab.database.number(mine, &[buyer.user_id]).await?;
        if mine.unwrap_or(0) > 0 {
            return Ok(Answer::Already);
        }
        take_one(&self.lab, buyer).await
    }
}
