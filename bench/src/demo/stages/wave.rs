//! Many buyers at once; where the stack lets only so many in, those over a limit come again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_domain::OrderId;

use super::{Demo, Orders, PENDING_DEADLINE};
use crate::answer::Answer;
use crate::demo::crowd;
use crate::demo::evidence::ClickRecord;
use crate::latency::Latencies;
use crate::load::Sample;
use crate::orders::{Click, OrderCalls};
use crate::progress::{Stage, Wait, wait_for};
use crate::table::count;

/// What `Retry-After` says of a limit a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One wave as the report shows it.
#[derive(Debug, Clone)]
pub(in crate::demo) struct WaveSummary {
    /// How many answers of each kind.
    pub(in crate::demo) answers: BTreeMap<String, u64>,
    /// Of all its calls; none if there was none.
    pub(in crate::demo) latencies: Option<Latencies>,
    /// Clicks that were past all limits.
    pub(in crate::demo) admitted: u64,
    /// Clicks that got an order, the repeated ones too.
    pub(in crate::demo) accepted: u64,
    /// From its first click to its last answer.
    pub(in crate::demo) elapsed: Duration,
}

impl WaveSummary {
    fn new(samples: &[Sample<Answer>], elapsed: Duration) -> Self {
        let mut answers = BTreeMap::new();
        for sample in samples {
            *answers.entry(sample.answer.label()).or_default() += 1;
        }
        let number = |is: fn(&Answer) -> bool| {
            samples.iter().filter(|sample| is(&sample.answer)).count() as u64
        };
        Self {
            answers,
            latencies: Latencies::of(samples.iter().map(|sample| sample.latency)),
            admitted: number(|answer| answer.is_admitted()),
            accepted: number(|answer| answer.order_id().is_some()),
            elapsed,
        }
    }

    /// The most clicks that a limit may let in during the wave: what it holds for a start, a second's worth,
    /// and what came in by the second.
    pub(in crate::demo) fn most_admitted(&self, limit_per_second: u32) -> u64 {
        let begun_seconds = self.elapsed.as_secs() + 1;
        u64::from(limit_per_second) * (1 + begun_seconds)
    }
}

impl Demo {
    /// Everybody clicks; the orders that came of it.
    pub(super) async fn wave(
        &mut self,
        label: &str,
        users: Vec<u32>,
        repeat_percent: u32,
    ) -> anyhow::Result<Orders> {
        let wave = u32::try_from(self.waves.len())? + 1;
        let limit = self.environment.rate_limit_global_per_second;
        let started = Instant::now();
        // Later the first buyers' time to pay would run out.
        let deadline = Duration::from_secs(u64::from(self.options.seconds_to_pay(limit)));
        let mut clicks = crowd::clicks(users, wave, repeat_percent, &mut self.rng);
        if limit > 0 {
            clicks = crowd::hammered(clicks);
        }
        let mut samples = self.clicks_at_once(label, wave, clicks).await?;
        loop {
            let again = crowd::over_a_limit(&self.clicks, wave);
            let all_said = again.is_empty() || self.stores.redis_stock().await? == 0;
            if all_said || started.elapsed() + RETRY_AFTER > deadline {
                break;
            }
            tokio::time::sleep(RETRY_AFTER).await;
            let clicks = crowd::clicks(again, wave, 0, &mut self.rng);
            let label = "Who was over a limit comes again";
            samples.extend(self.clicks_at_once(label, wave, clicks).await?);
        }
        let summary = WaveSummary::new(&samples, started.elapsed());
        self.waves.push(summary);
        self.orders_of(wave).await
    }

    /// One call for each click, as fast as the connections allow.
    async fn clicks_at_once(
        &mut self,
        label: &str,
        wave: u32,
        clicks: Vec<Click>,
    ) -> anyhow::Result<Vec<Sample<Answer>>> {
        let stage = Stage::begin(label, clicks.len() as u64);
        let calls = Arc::new(OrderCalls::new(
            &self.api.public,
            &[self.voucher],
            Arc::clone(&self.bearers),
            clicks,
        ));
        let run = self.load(stage.bar(), Arc::clone(&calls)).await?;
        for sample in &run.samples {
            self.clicks.push(ClickRecord {
                wave,
                user: calls.clicks()[sample.index].user,
                answer: sample.answer,
            });
        }
        let orders = run.samples.iter().filter_map(|s| s.answer.order_id());
        stage.done(&format!(
            "{} clicks answered in {:.2} s, {} of them with an order",
            count(run.samples.len() as u64),
            run.elapsed.as_secs_f64(),
            count(orders.count() as u64)
        ));
        Ok(run.samples)
    }

    /// The orders that stand, as their buyers know or find out.
    async fn orders_of(&self, wave: u32) -> anyhow::Result<Orders> {
        let outcome = crowd::outcome(&self.clicks, wave);
        let mut orders: Orders = outcome.reserved.into_iter().collect();
        for (user, order_id) in outcome.pending {
            if self.stands(user, order_id).await? {
                orders.push((user, order_id));
            }
        }
        Ok(orders)
    }

    /// Whether an order that was pending has come to stand, as its buyer finds out.
    async fn stands(&self, user: u32, order_id: OrderId) -> anyhow::Result<bool> {
        let bearer = &self.bearers[user as usize - 1];
        let decided = async || {
            let status = self.api.order_status(order_id, bearer).await?;
            Ok(match status.as_deref() {
                Some("pending") => Wait::On("its status is still pending".to_owned()),
                Some(status) => Wait::Over(status == "unpaid"),
                None => Wait::Over(false),
            })
        };
        wait_for(&format!("order {order_id}"), PENDING_DEADLINE, decided).await
    }
}
