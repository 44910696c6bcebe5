//! After a sale has changed, its entries in the catalogue's cache are old. They are deleted after the commit. That is
//! an effect like the others: it is derived from the rows and repeated until it is done, so that a projector that dies
//! in between leaves no old entry. It comes before the outcomes. At an outcome every ingress drops its own copy, and
//! must not fill it again from an old entry.

use std::collections::{BTreeSet, HashSet};

use seckill_domain::{Effect, OrderStatus, Outcome, VoucherId};
use seckill_ephemeral::Key;
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::retry::until_done;

/// The cache entries that the outcomes of a page change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    /// Sales whose card has changed.
    cards: BTreeSet<VoucherId>,
    /// Sales of which units were paid: the last ones, perhaps.
    paid: BTreeSet<VoucherId>,
}

impl Changed {
    fn by(effects: &[Effect]) -> Self {
        let mut changed = Self::default();
        for effect in effects {
            match &effect.outcome {
                Outcome::Sale(_) => {
                    changed.cards.insert(effect.voucher_id);
                }
                Outcome::Order(order) if order.status == OrderStatus::Paid => {
                    changed.paid.insert(effect.voucher_id);
                }
                Outcome::Order(_) | Outcome::Refund(_) => {}
            }
        }
        changed
    }
}

/// Takes the entries out that these effects make old, and those that are `stale` already; `None` when
/// stopped. In a Cluster of which one master is away, those that it has stay in `stale`: nobody can read them
/// meanwhile, and they do not live for long.
pub(crate) async fn drop_changed(
    shared: &ProjectorContext,
    stop: &CancellationToken,
    effects: &[Effect],
    stale: &mut HashSet<Key>,
) -> Option<()> {
    let changed = Changed::by(effects);
    let mut keys: Vec<Key> = stale.drain().collect();
    keys.extend(changed.cards.iter().copied().map(Key::card));
    let mut shelf_changes = !changed.cards.is_empty();
    for voucher_id in &changed.paid {
        shelf_changes = shelf_changes || is_paid_out(shared, stop, *voucher_id).await?;
    }
    if shelf_changes {
        keys.push(Key::shelf());
    }
    for key in &keys {
        let dropped = stop
            .run_until_cancelled(shared.cache.invalidate(key))
            .await?;
        if dropped.is_ok() {
            continue;
        }
        if shared.stock.is_divided().await {
            stale.insert(key.clone());
            continue;
        }
        until_done(stop, &shared.health, "redis", || {
            shared.cache.invalidate(key)
        })
        .await?;
    }
    Some(())
}

/// Whether its last unit is paid, so that it is off the shelf.
async fn is_paid_out(
    shared: &ProjectorContext,
    stop: &CancellationToken,
    voucher_id: VoucherId,
) -> Option<bool> {
    let row = until_done(stop, &shared.health, "postgresql", || {
        shared.orderbook.sale(voucher_id)
    });
    let row = row.await?;
    Some(row.is_some_and(|row| row.sale.available == 0 && row.sale.unpaid == 0))
}
