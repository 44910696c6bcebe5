//! Publishes the states of all orders again.

use std::collections::HashMap;

use anyhow::Context;
use seckill_domain::{LogRef, OrderId, Timestamp};
use seckill_eventlog::{EventProducer, OutcomeRecord};
use seckill_orderbook::{AcceptedLog, OrderState};
use serde_json::json;
use time::OffsetDateTime;

use super::Site;
use crate::act::Act;
use crate::failure::Failure;
use crate::output::Report;

/// The number of orders that are published at the same time.
const PAGE: i64 = 1_000;

/// What was done.
#[derive(Default)]
struct Done {
    published: usize,
    /// Orders whose last record was in a log that is lost.
    lost: usize,
}

/// Publishes the state that every order has in the tables. The projector keeps working meanwhile.
pub(super) async fn run(site: &Site, act: &Act) -> Result<Report, Failure> {
    let orders = site.live.count_orders().await.context("DATABASE_URL")?;
    let orders = usize::try_from(orders).unwrap_or(usize::MAX);
    let warrant = act.warrant(&format!("rebuild states {orders}"), orders)?;
    let topic = &site.log.topics.states;
    let mut done = Done::default();
    if let Some(warrant) = &warrant {
        done = publish(site).await?;
        let noted = site.live.audit(warrant.entry(done.published));
        noted
            .await
            .context("the states are published, and ops_audit has no note of it")?;
    }
    let Done { published, lost } = done;
    let told = match (&warrant, lost) {
        (None, _) => format!("{orders} orders would be published to {topic}"),
        (Some(_), 0) => format!("{published} orders are published to {topic}"),
        (Some(_), _) => format!(
            "{published} orders are published to {topic}; of {lost} the record is lost with its log, and \
             what the topic has of them stays"
        ),
    };
    Ok(Report {
        text: format!("{told}{}", act.closing(warrant.is_some())),
        json: json!({ "orders": orders, "published": published, "lost": lost, "topic": topic }),
    })
}

async fn publish(site: &Site) -> Result<Done, Failure> {
    let producer = site.log.event_producer().await?;
    let topic = &site.log.topics.events;
    let logs = site
        .live
        .accepted_logs(topic)
        .await
        .context("DATABASE_URL")?;
    let (mut done, mut after) = (Done::default(), None);
    loop {
        let page = site.live.order_states(after, PAGE).await;
        let page = page.context("DATABASE_URL")?;
        let Some(last) = page.last() else {
            return Ok(done);
        };
        after = Some(last.order_id);
        done.lost += page.iter().filter(|state| state.effect.is_none()).count();
        done.published += page.len();
        until_unchanged(site, &producer, &logs, page).await?;
    }
}

/// If an order is decided meanwhile, its new state may be published before the older one that was read here. So each
/// order is read again after the ack, and published again if it has changed. A state that the projector decides after
/// that is also published after that.
async fn until_unchanged(
    site: &Site,
    producer: &EventProducer,
    logs: &[AcceptedLog],
    mut states: Vec<OrderState>,
) -> Result<(), Failure> {
    let mut written: HashMap<OrderId, OrderState> = HashMap::new();
    while !states.is_empty() {
        let mut deliveries = Vec::new();
        for state in &states {
            if let Some(record) = record_of(state, logs) {
                let sent = producer.send_state(&record);
                deliveries.push(sent.context("the states cannot be published")?);
            }
        }
        for delivery in deliveries {
            delivery.await.context("the states cannot be published")?;
        }
        let ids: Vec<OrderId> = states.iter().map(|state| state.order_id).collect();
        written.extend(states.drain(..).map(|state| (state.order_id, state)));
        let now = site.live.order_states_of(&ids).await;
        states = now.context("DATABASE_URL")?;
        states.retain(|state| written.get(&state.order_id) != Some(state));
    }
    Ok(())
}

fn record_of(state: &OrderState, logs: &[AcceptedLog]) -> Option<OutcomeRecord> {
    let effect = state.effect.as_ref()?;
    let mut of_partition = logs.iter().filter(|log| log.partition == state.partition);
    let own = of_partition.rfind(|log| log.from <= effect.offset);
    let log = own.map_or_else(LogRef::default, |log| log.log);
    let now_us = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    let now = Timestamp::from_micros(i64::try_from(now_us).unwrap_or(i64::MAX));
    Some(OutcomeRecord::new(effect, state.partition, log, now))
}
