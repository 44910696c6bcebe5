//! A mutex in the process.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::strategy::{Answer, Buyer, Card, Expected, Failure, Strategy};

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
                process: the next deployment is the next rung.",
        diagram: "",
        expected: Expected::SAFE,
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

/// Two processes behind one load balancer, each with a mutex of its own.
#[derive(Debug)]
pub(super) struct TwoProcesses {
    lab: Arc<Lab>,
    mutexes: [Mutex<()>; 2],
}

impl Strategy for TwoProcesses {
    const CARD: Card = Card {
        name: "two-mutexes",
        step: 2,
        title: "the same with two processes",
        story: "Each process lets in one buyer at a time; two processes let in two. It is the naive rung \
                again, only rarer, so that it passes the tests and fails on the day.",
        diagram: "process 1: lock; SELECT left -> 1\n\
                  process 2: lock; SELECT left -> 1      another mutex\n\
                  process 1: UPDATE left = 0; INSERT order; unlock\n\
                  process 2: UPDATE left = 0; INSERT order; unlock",
        expected: Expected::OVERSELLS,
    };

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        let mutexes = [Mutex::new(()), Mutex::new(())];
        Ok(Self { lab, mutexes })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let process = buyer.click % self.mutexes.len();
        let _guard = self.mutexes[process].lock().await;
        read_then_write(&self.lab, buyer).await
    }
}
