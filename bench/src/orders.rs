//! Attempts to order, as the load client makes them.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use seckill_domain::VoucherId;

use crate::answer::Answer;
use crate::client::{Call, Calls, Endpoint, Reply};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One attempt to order one unit.
#[derive(Debug, Clone)]
pub struct Click {
    /// The buyer, from 1.
    pub user: u32,
    /// Which of the sales: an index into those that [`OrderCalls::new`] was given.
    pub sale: usize,
    /// The idempotency key, if the buyer's client sends one.
    pub key: Option<HeaderValue>,
}

/// Attempts to order, in the order they are made.
#[derive(Debug)]
pub struct OrderCalls {
    endpoint: Arc<Endpoint>,
    paths: Vec<Uri>,
    bearers: Arc<[HeaderValue]>,
    clicks: Vec<Click>,
}

impl OrderCalls {
    /// `bearers` are those of the users 1, 2, 3 and so on.
    ///
    /// # Errors
    /// Never: a voucher's path is a valid one.
    pub fn new(
        endpoint: Arc<Endpoint>,
        sales: &[VoucherId],
        bearers: Arc<[HeaderValue]>,
        clicks: Vec<Click>,
    ) -> anyhow::Result<Self> {
        let path = |id: &VoucherId| Ok(format!("/api/v1/vouchers/{id}/orders").parse()?);
        Ok(Self {
            endpoint,
            paths: sales.iter().map(path).collect::<anyhow::Result<_>>()?,
            bearers,
            clicks,
        })
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

    fn call(&self, index: usize) -> Call {
        let click = &self.clicks[index];
        let path = self.paths[click.sale].clone();
        let mut call = self.endpoint.request(Method::POST, path, Bytes::new());
        let headers = call.headers_mut();
        headers.insert(AUTHORIZATION, self.bearers[click.user as usize - 1].clone());
        if let Some(key) = &click.key {
            headers.insert(IDEMPOTENCY_KEY, key.clone());
        }
        call
    }

    fn answer(&self, _index: usize, reply: Option<Reply>) -> Answer {
        Answer::read(reply.as_ref())
    }
}
