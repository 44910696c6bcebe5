//! The demo, stage by stage.

mod wave;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use indicatif::ProgressBar;
use seckill_domain::{OrderId, VoucherId};

pub(super) use self::wave::WaveSummary;
use super::crowd;
use super::evidence::{ClickRecord, PaymentRecord, Restored};
use super::options::DemoOptions;
use super::payments::PaymentCalls;
use super::stores::Stores;
use crate::api::{Api, Ledger, NewSale};
use crate::credentials;
use crate::environment::Environment;
use crate::load::{Calls, Load, Pace, Run};
use crate::progress::{Stage, Wait, wait_for};
use crate::table::count;

const PRICE_CENTS: i64 = 4_900;
const CURRENCY: &str = "EUR";
/// How many of a hundred buyers click twice, and how many webhooks the provider sends twice.
const REPEATED_CLICK_PERCENT: u32 = 10;
const REPEATED_WEBHOOK_PERCENT: u32 = 5;
/// Orders of the first wave that are paid with a wrong amount, and after their expiry.
const WRONG_AMOUNTS: usize = 2;
const LATE_PAYMENTS: usize = 1;
const WAVE_DEADLINE: Duration = Duration::from_secs(60);
const QUIET_DEADLINE: Duration = Duration::from_secs(30);
const PENDING_DEADLINE: Duration = Duration::from_secs(30);
/// A provider repeats a call that was not taken.
const WEBHOOK_ROUNDS: u32 = 5;

/// A running demo.
#[derive(Debug)]
pub(super) struct Demo {
    /// The stack's APIs.
    pub(super) api: Api,
    pub(super) stores: Stores,
    pub(super) voucher: VoucherId,
    /// Every attempt so far.
    pub(super) clicks: Vec<ClickRecord>,
    /// Every payment so far.
    pub(super) payments: Vec<PaymentRecord>,
    /// Every wave so far.
    pub(super) waves: Vec<WaveSummary>,
    /// Latencies of all webhooks so far.
    pub(super) webhook_latencies: Vec<Duration>,
    environment: Environment,
    options: DemoOptions,
    bearers: Arc<[String]>,
    rng: fastrand::Rng,
}

/// The orders of a wave: buyer and order.
type Orders = Vec<(u32, OrderId)>;

impl Demo {
    /// Puts the sale up and waits until it is open.
    ///
    /// # Errors
    /// When the stack does not answer or refuses.
    pub(super) async fn open(
        environment: &Environment,
        options: &DemoOptions,
    ) -> anyhow::Result<Self> {
        let stage = Stage::begin("Opening the sale", 1);
        let bearers = credentials::bearers(&environment.token_secret, options.buyers)?;
        let api = Api::new(environment).await?;
        let hold_seconds = options.seconds_to_pay(environment.rate_limit_global_per_second);
        let sale = NewSale {
            price_cents: PRICE_CENTS,
            currency: CURRENCY,
            ..NewSale::from_now(
                "Demo: one night at the lake",
                options.units.into(),
                hold_seconds,
                Duration::from_secs(3600),
            )?
        };
        let voucher = api.open_sale(&sale).await.context("opening the sale")?;
        let stores = Stores::connect(&environment.stores, voucher).await?;
        stage.done(&format!(
            "voucher {voucher}, {} units, {hold_seconds} s to pay",
            count(u64::from(options.units))
        ));
        Ok(Self {
            api,
            stores,
            voucher,
            clicks: Vec::new(),
            payments: Vec::new(),
            waves: Vec::new(),
            webhook_latencies: Vec::new(),
            environment: environment.clone(),
            options: options.clone(),
            bearers: bearers.into(),
            rng: fastrand::Rng::with_seed(options.seed),
        })
    }

    /// Every buyer orders at once.
    ///
    /// # Errors
    /// When the stack cannot be reached.
    pub(super) async fn first_wave(&mut self) -> anyhow::Result<Orders> {
        let everyone = (1..=self.options.buyers).collect();
        self.wave("Everybody orders", everyone, REPEATED_CLICK_PERCENT)
            .await
    }

    /// Those who got nothing try for what came back, and pay at once.
    ///
    /// # Errors
    /// When the stack cannot be reached.
    pub(super) async fn second_wave(&mut self) -> anyhow::Result<()> {
        let users = crowd::empty_handed(&self.clicks, self.options.buyers);
        let orders = self.wave("Empty-handed buyers try again", users, 0).await?;
        self.pay("They pay at once", &orders, PRICE_CENTS, false)
            .await
    }

    /// Some pay in time, some with a wrong amount; the others' time runs out. Returns the
    /// orders that will be paid too late.
    ///
    /// # Errors
    /// When the stack cannot be reached, or the webhooks are not taken.
    pub(super) async fn first_payments(&mut self, mut orders: Orders) -> anyhow::Result<Orders> {
        self.rng.shuffle(&mut orders);
        let payers = orders.len() * self.options.pay_percent as usize / 100;
        let mut lapsing = orders.split_off(payers);
        self.pay("Buyers pay", &orders, PRICE_CENTS, false).await?;
        let others = lapsing.split_off(WRONG_AMOUNTS.min(lapsing.len()));
        self.pay("Two pay a wrong amount", &lapsing, PRICE_CENTS + 1, true)
            .await?;
        Ok(others.into_iter().take(LATE_PAYMENTS).collect())
    }

    /// Waits until every unpaid order has lapsed and its units are free in both stores. When that does
    /// not come about it says so and goes on: the invariants will tell what is wrong.
    ///
    /// # Errors
    /// When the stack cannot be asked.
    pub(super) async fn lapse(&mut self, label: &str) -> anyhow::Result<Restored> {
        let deadline = self.options.lapse_deadline(
            self.environment.rate_limit_global_per_second,
            self.environment.expiry_grace_seconds,
        );
        let unpaid = self.api.ledger(self.voucher).await?.unpaid;
        let stage = Stage::begin(label, unpaid.unsigned_abs());
        let bar = stage.bar();
        let lapsed = async || {
            let ledger = self.api.ledger(self.voucher).await?;
            bar.set_position(unpaid.saturating_sub(ledger.unpaid).unsigned_abs());
            Ok(resting(&ledger))
        };
        let waited = wait_for("unpaid orders to lapse", deadline, lapsed).await;
        let row = self.stores.sale().await?;
        let redis_stock = self.stores.redis_stock().await?;
        match waited {
            Ok(()) => stage.done(&format!("{} units free", row.stock_left)),
            Err(error) => stage.done(&format!("{error:#}")),
        }
        Ok(Restored {
            paid: row.paid,
            stock_left: row.stock_left,
            redis_stock,
        })
    }

    /// The payments of orders that have expired.
    ///
    /// # Errors
    /// When the stack cannot be reached, or the webhooks are not taken.
    pub(super) async fn late_payments(&mut self, orders: &[(u32, OrderId)]) -> anyhow::Result<()> {
        self.pay("One pays after the expiry", orders, PRICE_CENTS, true)
            .await
    }

    /// Waits until nothing is on its way any more. When that does not come about it says so, and
    /// the invariants will tell what is wrong.
    pub(super) async fn quiet(&mut self) {
        let stage = Stage::begin("Coming to rest", 1);
        let expected = self.payments.iter().filter(|p| p.acknowledged > 0).count();
        let at_rest = async || {
            let ledger = self.api.ledger(self.voucher).await?;
            let decided = self.stores.payments_decided().await?;
            let pending = self.stores.pending_events().await?;
            if usize::try_from(decided) != Ok(expected) {
                return Ok(Wait::On(format!(
                    "{decided} of {expected} payments are decided"
                )));
            }
            if pending > 0 {
                return Ok(Wait::On(format!("{pending} events are not acknowledged")));
            }
            Ok(resting(&ledger))
        };
        match wait_for("the sale to come to rest", QUIET_DEADLINE, at_rest).await {
            Ok(()) => stage.done("nothing in flight, nothing unpaid"),
            Err(error) => stage.done(&format!("{error:#}")),
        }
    }

    async fn pay(
        &mut self,
        label: &str,
        orders: &[(u32, OrderId)],
        amount_cents: i64,
        refund_expected: bool,
    ) -> anyhow::Result<()> {
        if orders.is_empty() {
            return Ok(());
        }
        let first = self.payments.len();
        for (_, order_id) in orders {
            self.payments.push(PaymentRecord {
                payment_id: format!("demo-{}-{}", self.voucher, self.payments.len() + 1),
                order_id: *order_id,
                amount_cents,
                refund_expected,
                acknowledged: 0,
            });
        }
        let mut due: Vec<usize> = (first..self.payments.len()).collect();
        let stage = Stage::begin(label, due.len() as u64);
        let mut calls_made = 0;
        for _ in 0..WEBHOOK_ROUNDS {
            calls_made += self.webhooks(stage.bar(), &due).await?;
            due.retain(|payment| self.payments[*payment].acknowledged == 0);
            if due.is_empty() {
                stage.done(&format!(
                    "{} payments in {calls_made} webhook calls",
                    orders.len()
                ));
                return Ok(());
            }
        }
        bail!(
            "{} payments were not taken in {WEBHOOK_ROUNDS} rounds of webhook calls",
            due.len()
        );
    }

    /// One round of webhook calls, a few of them twice; how many were made.
    async fn webhooks(&mut self, bar: &ProgressBar, due: &[usize]) -> anyhow::Result<usize> {
        let mut order = Vec::with_capacity(due.len());
        for payment in due {
            order.push(*payment);
            if self.rng.u32(..100) < REPEATED_WEBHOOK_PERCENT {
                order.push(*payment);
            }
        }
        let calls = Arc::new(PaymentCalls::new(
            &self.api.public,
            &self.environment.webhook_secret,
            CURRENCY,
            &self.payments,
            &order,
        )?);
        let run = self.load(bar, Arc::clone(&calls)).await?;
        for sample in &run.samples {
            let payment = &mut self.payments[calls.payment(sample.index)];
            payment.acknowledged += u32::from(sample.answer);
            self.webhook_latencies.push(sample.latency);
        }
        Ok(order.len())
    }

    async fn load<C: Calls>(
        &self,
        bar: &ProgressBar,
        calls: Arc<C>,
    ) -> anyhow::Result<Run<C::Answer>> {
        let load = Load {
            endpoint: Arc::clone(&self.api.public),
            connections: self.options.connections.min(calls.len()),
            pace: Pace::WhenAnswered,
            stop_after: WAVE_DEADLINE,
            bar: bar.clone(),
        };
        load.run(calls).await
    }
}

/// Nothing is unpaid, and nothing is on its way between the stores.
fn resting(ledger: &Ledger) -> Wait<()> {
    if ledger.unpaid == 0 && ledger.is_at_rest() {
        Wait::Over(())
    } else {
        Wait::On(format!("the ledger says {ledger:?}"))
    }
}
