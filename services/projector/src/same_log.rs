//! Whether the log is the one that the view was folded from. A topic that was deleted and made anew, or cut
//! by the election of a replica that lacked records, has other records at the view's position.

use seckill_eventlog::ReadError;
use seckill_stock::Probe;
use tokio_util::sync::CancellationToken;

use crate::partition::Shared;
use crate::retry::until_done;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Log {
    /// It has the record that was folded last.
    Same,
    /// It has not, and this is why.
    Other(String),
}

/// Looks for the record that the view took last.
pub(crate) async fn look(shared: &Shared, partition: i32) -> anyhow::Result<Log> {
    let topic = &shared.topics.events;
    let known = shared.orderbook.fold_positions(topic, &[partition]).await?;
    let Some((_, position)) = known.first() else {
        return Ok(Log::Same);
    };
    // A view of before identities were kept has only its position to be recognised by.
    let from = position.last.map_or(position.next, |last| last.offset);
    let found = match shared.records.first_from(partition, from).await {
        Err(ReadError::NotInLog { from, to, .. }) => {
            return Ok(Log::Other(format!(
                "the view has folded up to {}, and the log has {from} to {to}: it was cut or made anew",
                position.next.get()
            )));
        }
        found => found?,
    };
    let Some(last) = position.last else {
        return Ok(Log::Same);
    };
    let at = last.offset.get();
    Ok(match found {
        Some(record) if record.offset == last.offset && record.identity() == last.identity => {
            Log::Same
        }
        Some(record) if record.offset == last.offset => Log::Other(format!(
            "the record at {at} is another one than was folded: the log was cut and has grown again, or \
             was made anew"
        )),
        _ => Log::Other(format!(
            "the record at {at} was folded, and the log does not have it: it was cut or compacted"
        )),
    })
}

/// Shuts the sales of this partition in Redis: what would be ordered now could not be folded. They are
/// loaded again once the fold goes on.
pub(crate) async fn shut_sales(shared: &Shared, stop: &CancellationToken, partition: i32) {
    let of_partition = [partition];
    let sales = until_done(stop, &shared.health, "postgresql", || {
        shared.orderbook.sales_to_serve(&of_partition)
    });
    for sale in sales.await.unwrap_or_default() {
        let voucher_id = sale.voucher_id;
        let shut = async {
            if let Probe::Open(view) = shared.stock.probe(voucher_id).await? {
                shared.stock.shut(voucher_id, view.epoch).await?;
                tracing::error!(%voucher_id, partition, "sale shut: the log is another one");
            }
            anyhow::Ok(())
        };
        // Tried again with the next look at the log.
        if let Err(error) = shut.await {
            tracing::warn!(%voucher_id, error = format!("{error:#}"), "the sale could not be shut");
        }
    }
}
