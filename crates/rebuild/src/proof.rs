//! The proof: it compares the rows of every sale in both sets of tables, at the same position of each partition.

use std::collections::BTreeSet;

use seckill_domain::{Offset, VoucherId};
use seckill_orderbook::{
    BookSnapshot, Fingerprint, OrderbookError, RowDifference, RowDifferenceKind, SaleRows,
};

use crate::copy::Copy;
use crate::{EventFeed, RebuildError};

/// The most sales whose rows are compared one by one. Further sales that differ are only counted.
const SALES_IN_DETAIL: usize = 20;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The positions of both sets.
    pub positions: Vec<(i32, Offset)>,
    /// The number of sales in either set.
    pub sales: usize,
    /// The number of orders in the copy.
    pub orders: i64,
    /// The sales that differ. If there are none, the copy is correct.
    pub differing: Vec<SaleDifference>,
}

/// A sale that differs between the two sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleDifference {
    pub voucher_id: VoucherId,
    /// From the live tables.
    pub live: Fingerprint,
    /// From the copy, and so from the log.
    pub copy: Fingerprint,
    /// The rows that differ, with the copy's values first. Empty if too many sales differ.
    pub rows: Vec<RowDifference>,
}

impl<F: EventFeed> Copy<F> {
    /// Opens a snapshot of the live tables, folds the copy exactly up to its positions, and compares the two. The
    /// snapshot stays open during this time, which is seconds for a million orders.
    ///
    /// # Errors
    /// [`RebuildError`], also when the structure of the tables differs. Rows that differ are no error.
    pub async fn prove(&mut self) -> Result<Proof, RebuildError> {
        self.follow().await?;
        let unlike = self.shadow.structural_differences().await?;
        if !unlike.is_empty() {
            return Err(RebuildError::NotAlike(unlike));
        }
        let mut live = self.live.book_snapshot(self.topic()).await?;
        let positions: Vec<_> = self.partitions();
        let positions: Vec<_> = positions
            .into_iter()
            .map(|partition| (partition, live.position(partition)))
            .collect();
        self.fold_up_to(&positions, crate::copy::FEED_PATIENCE)
            .await?;
        let mut copy = self.shadow.snapshot().await?;
        let prints = futures_util::future::join(live.fingerprints(), copy.fingerprints()).await;
        let (of_live, of_copy) = (prints.0?, prints.1?);
        let sales: BTreeSet<VoucherId> = of_live.keys().chain(of_copy.keys()).copied().collect();
        let mut differing = Vec::new();
        for voucher_id in &sales {
            let print = |prints: &std::collections::BTreeMap<_, Fingerprint>| {
                prints.get(voucher_id).cloned().unwrap_or_default()
            };
            let (of_live, of_copy) = (print(&of_live), print(&of_copy));
            if of_live == of_copy {
                continue;
            }
            let rows = if differing.len() < SALES_IN_DETAIL {
                differing_rows(&mut live, &mut copy, *voucher_id).await?
            } else {
                Vec::new()
            };
            differing.push(SaleDifference {
                voucher_id: *voucher_id,
                live: of_live,
                copy: of_copy,
                rows,
            });
        }
        let orders = of_copy.values().map(|print| print.orders).sum();
        let id = self.shadow.id();
        self.live.note_proof(id, differing.len()).await?;
        Ok(Proof {
            positions,
            sales: sales.len(),
            orders,
            differing,
        })
    }
}

async fn differing_rows(
    live: &mut BookSnapshot,
    copy: &mut BookSnapshot,
    voucher: VoucherId,
) -> Result<Vec<RowDifference>, OrderbookError> {
    let expected = copy.rows(voucher).await?;
    let found = match live.rows(voucher).await {
        Ok(actual) => expected.differences(&actual),
        // The row contains a value that no fold writes and that the domain's types cannot represent.
        Err(OrderbookError::Row { table, column }) => vec![RowDifference {
            kind: RowDifferenceKind::Corrupted,
            table,
            key: format!("of sale {voucher}"),
            what: format!("the live tables have a {column} that no fold writes"),
        }],
        Err(error) => return Err(error),
    };
    if !found.is_empty() || expected == SaleRows::default() {
        return Ok(found);
    }
    Ok(vec![RowDifference {
        kind: RowDifferenceKind::Corrupted,
        table: "orders",
        key: format!("of sale {voucher}"),
        what: "the rows differ in partition or version, which only the tables know".to_owned(),
    }])
}
