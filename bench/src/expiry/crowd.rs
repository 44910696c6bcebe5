//! Buyers who order one unit each.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use seckill_domain::{OrderId, VoucherId};

use crate::api::Api;
use crate::load::{Load, Pace};
use crate::orders::{Click, OrderCalls};

const CONNECTIONS: usize = 512;

/// Who orders, and how.
pub(super) struct Crowd {
    pub(super) sale: VoucherId,
    /// In this order, as many as come in time.
    pub(super) buyers: RangeInclusive<u32>,
    pub(super) pace: Pace,
    pub(super) time: Duration,
    pub(super) bar: ProgressBar,
}

/// An order that was placed.
pub(super) struct Ordered {
    pub(super) id: OrderId,
    pub(super) buyer: u32,
    pub(super) latency: Duration,
}

impl Crowd {
    /// One for each of those who came.
    ///
    /// # Errors
    /// When one of them is refused.
    pub(super) async fn order(
        self,
        api: &Api,
        bearers: &Arc<[String]>,
    ) -> anyhow::Result<Vec<Ordered>> {
        let clicks: Vec<Click> = self.buyers.map(|buyer| Click::of(buyer, 1)).collect();
        let calls = OrderCalls::new(&api.public, &[self.sale], Arc::clone(bearers), clicks);
        let calls = Arc::new(calls);
        let load = Load {
            endpoint: Arc::clone(&api.public),
            connections: CONNECTIONS,
            pace: self.pace,
            stop_after: self.time,
            bar: self.bar,
        };
        let samples = load.run(Arc::clone(&calls)).await?.samples;
        let ordered = samples.into_iter().map(|sample| {
            let id = sample.answer.order_id();
            Ok(Ordered {
                id: id.with_context(|| format!("this was to be an order: {:?}", sample.answer))?,
                buyer: calls.clicks()[sample.index].user,
                latency: sample.latency,
            })
        });
        ordered.collect()
    }
}
