//! Compares the outcome topic with the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::{
    AdjustmentRow, Decision, Effect, Event, Offset, Outcome, SaleState, VoucherId,
    effects_of_adjustment, effects_of_order, effects_of_refund, effects_of_sale,
};
use seckill_eventlog::{
    KafkaSettings, OutcomeKey, OutcomeRecord, Topics, decode_outcome, read_all,
};

use crate::consistency::read_log;
use crate::world::World;

const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The outcomes of a sale, in the order of each key.
///
/// # Errors
/// When the topic cannot be read, or has something else than outcomes.
pub async fn outcomes(world: &World, voucher: VoucherId) -> Result<Vec<OutcomeRecord>> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "consistency-check");
    let mut told = Vec::new();
    for record in read_all(&settings, &topics.outcomes, READ_TIMEOUT).await? {
        let outcome = decode_outcome(record.payload.as_deref().context("no payload")?)?;
        let key = record.key.as_deref().context("no key")?;
        ensure!(
            key == outcome.key().to_string().as_bytes(),
            "under another key: {outcome:?}"
        );
        if outcome.voucher_id == voucher {
            told.push(outcome);
        }
    }
    Ok(told)
}

/// Checks that there is an outcome for every decision on a sale, in the right order, and no other outcome. An outcome
/// may be repeated without changes. Returns the number of repetitions.
///
/// # Errors
/// The outcomes that are missing, wrong or in the wrong order.
pub async fn check_outcomes(world: &World, voucher: VoucherId) -> Result<usize> {
    let expected = decided(&read_log(world, voucher).await?);
    let told = outcomes(world, voucher).await?;
    let mut known = BTreeSet::new();
    let mut newest: HashMap<OutcomeKey, Offset> = HashMap::new();
    for outcome in &told {
        let offset = outcome.source.offset;
        ensure!(
            expected.get(&offset) == Some(&outcome.outcome),
            "told of what the log does not say: {outcome:?}"
        );
        let newest = newest.entry(outcome.key()).or_insert(offset);
        ensure!(
            known.contains(&offset) || offset >= *newest,
            "told for the first time after a later one: {outcome:?}"
        );
        *newest = offset.max(*newest);
        known.insert(offset);
    }
    let missing = expected
        .iter()
        .filter(|(offset, _)| !known.contains(offset));
    let missing: Vec<_> = missing.take(3).collect();
    ensure!(missing.is_empty(), "nobody was told: {missing:?}");
    Ok(told.len() - known.len())
}

/// The expected outcomes, by the offset of the record that was decided.
fn decided(log: &[(Offset, Event)]) -> BTreeMap<Offset, Outcome> {
    let mut state = SaleState::default();
    let mut effects: Vec<Effect> = Vec::new();
    for (offset, event) in log {
        if let Some(Decision::StockAdjusted { delta, accepted }) = state.fold(*offset, event) {
            effects.push(effects_of_adjustment(&AdjustmentRow {
                event_id: event.event_id,
                voucher_id: event.voucher_id,
                delta,
                accepted,
                offset: *offset,
            }));
        }
    }
    effects.extend(state.sale.iter().flat_map(effects_of_sale));
    effects.extend(state.orders.values().flat_map(effects_of_order));
    effects.extend(state.refunds.iter().map(effects_of_refund));
    effects
        .into_iter()
        .map(|effect| (effect.offset, effect.outcome))
        .collect()
}
