//! A queue in the process, and one task that sells.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::rungs::naive::read_then_write;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Answer, Buyer, Card, Strategy};

/// Longer than any crowd here: what a full queue does to buyers is not the subject.
const QUEUE_LENGTH: usize = 100_000;

struct Request {
    buyer: Buyer,
    answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// One task sells to everybody, in the order of arrival.
#[derive(Debug)]
pub(super) struct Actor {
    requests: mpsc::Sender<Request>,
    _seller: AbortOnDropHandle<()>,
}

impl Strategy for Actor {
    const CARD: Card = Card {
        name: "actor",
        step: 2,
        title: "a queue in memory and a single seller",
        story: "As the mutex, but fair, and the place to batch. It has the mutex's limit, one process, and the \
                queue is that process' memory: when it dies, everybody who waits in it is left without an \
                answer, and may or may not have an order. While the seller hangs, the queue goes on taking \
                buyers whom nobody will answer.",
        diagram: "seller:  SELECT left -> 2 ... dies\n\
                  buyers:  queued, queued, queued      two units left, and no answer until somebody starts it again",
        expected: Expected {
            two_processes: Some(Verdict::Oversells),
            ..Expected::SAFE
        },
    };

    const ONE_PROCESS: bool = true;

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let seller = AbortOnDropHandle::new(tokio::spawn(sell(lab, queue)));
        Ok(Self {
            requests,
            _seller: seller,
        })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let (answer, told) = oneshot::channel();
        let request = Request { buyer, answer };
        self.requests
            .send(request)
            .await
            .map_err(|_| Failure::NoAnswer)?;
        told.await.map_err(|_| Failure::NoAnswer)?
    }
}

async fn sell(lab: Arc<Lab>, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.recv().await {
        let answer = read_then_write(&lab, request.buyer).await;
        // A buyer who has gone keeps the order: nobody can tell how far the answer came.
        let _ = request.answer.send(answer);
    }
}
