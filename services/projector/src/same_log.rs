//! Whether the log is the one that the view was folded from, and what is done where it is not.

use seckill_eventlog::Log;
use seckill_stock::Probe;
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::retry::until_done;

/// Looks for the record that the view took last.
pub(crate) async fn look(shared: &ProjectorContext, partition: i32) -> anyhow::Result<Log> {
    let position = shared.fold_position(partition).await?;
    let log = shared
        .records
        .log_of(partition, position.next, position.last);
    Ok(log.await?)
}

/// Shuts the sales of this partition in Redis: what would be ordered now could not be folded. They are
/// loaded again once the fold goes on.
pub(crate) async fn shut_sales(
    shared: &ProjectorContext,
    stop: &CancellationToken,
    partition: i32,
) {
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
        // It is tried again at the next check of the log.
        if let Err(error) = shut.await {
            tracing::warn!(%voucher_id, error = format!("{error:#}"), "the sale could not be shut");
        }
    }
}
