//! Attempts to order, as the load generator makes them.

use std::sync::Arc;

use seckill_domain::VoucherId;

use crate::answer::Answer;
use crate::client::Endpoint;
use crate::load::{Calls, Reply};

/// One attempt to order one unit.
#[derive(Debug, Clone)]
pub struct Click {
    /// The buyer, from 1.
    pub user: u32,
    /// Which of the sales: an index into those that [`OrderCalls::new`] was given.
    pub sale: usize,
    /// The idempotency key, if the buyer's client sends one.
    pub key: Option<String>,
}

impl Click {
    /// Of a buyer without a key, for the sale whose turn it is with the buyer's number.
    #[must_use]
    pub fn of(user: u32, sales: usize) -> Self {
        Self {
            user,
            sale: user as usize % sales,
            key: None,
        }
    }
}

/// Attempts to order, in the order they are made.
#[derive(Debug)]
pub struct OrderCalls {
    heads: Vec<Vec<u8>>,
    bearers: Arc<[String]>,
    clicks: Vec<Click>,
}

impl OrderCalls {
    /// `bearers` are those of the users 1, 2, 3 and so on.
    #[must_use]
    pub fn new(
        endpoint: &Endpoint,
        sales: &[VoucherId],
        bearers: Arc<[String]>,
        clicks: Vec<Click>,
    ) -> Self {
        let head = |id: &VoucherId| {
            endpoint.request_head("POST", &format!("/api/v1/vouchers/{id}/orders"))
        };
        Self {
            heads: sales.iter().map(head).collect(),
            bearers,
            clicks,
        }
    }

    #[must_use]
    pub fn clicks(&self) -> &[Click] {
        &self.clicks
    }
}

impl Calls for OrderCalls {
    type Answer = Answer;

    fn len(&self) -> usize {
        self.clicks.len()
    }

    fn write(&self, index: usize, request: &mut Vec<u8>) {
        let click = &self.clicks[index];
        request.extend_from_slice(&self.heads[click.sale]);
        request.extend_from_slice(b"authorization: ");
        request.extend_from_slice(self.bearers[click.user as usize - 1].as_bytes());
        if let Some(key) = &click.key {
            request.extend_from_slice(b"\r\nidempotency-key: ");
            request.extend_from_slice(key.as_bytes());
        }
        request.extend_from_slice(b"\r\ncontent-length: 0\r\n\r\n");
    }

    fn answer(&self, _index: usize, reply: Option<&Reply<'_>>) -> Answer {
        Answer::read(reply)
    }
}
