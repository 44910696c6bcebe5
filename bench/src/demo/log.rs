//! A sale by its events, read from the topic's beginning.

use seckill_domain::{Event, Offset, SaleState};

use super::evidence::LogView;

/// Folds one sale's events, which come in the log's order, once plain and once with duplicates.
#[must_use]
pub fn fold(events: &[(Offset, Event)], end_offset: i64, folded_to: i64) -> LogView {
    let mut plain = SaleState::default();
    let (mut most_committed, mut least_available) = (0, i64::MAX);
    for (offset, event) in events {
        plain.fold(*offset, event);
        if let Some(sale) = &plain.sale {
            most_committed = most_committed.max(sale.unpaid + sale.paid);
            least_available = least_available.min(sale.available);
        }
    }
    let mut doubled = SaleState::default();
    let twice_each = events.iter().flat_map(|record| [record, record]);
    for (offset, event) in twice_each.chain(events) {
        doubled.fold(*offset, event);
    }
    LogView {
        events: events.len(),
        end_offset,
        folded_to,
        duplicates_change_nothing: doubled == plain,
        state: plain,
        most_committed,
        least_available,
    }
}
