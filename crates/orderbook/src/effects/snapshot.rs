//! The content of a load of Redis: one sale as it was at one position of the log.

use std::collections::HashSet;
use std::time::Duration;

use seckill_domain::{EventId, KeyHash, Offset, Order, Sale, UserId, VoucherId};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::connections::Transaction;
use crate::database::error::OrderbookError;
use crate::database::rows::{
    BEGIN_SNAPSHOT, ORDER_COLUMNS, RawOrder, RawSale, SALE_COLUMNS, all, order_ids_of,
};
use crate::fold::positions::fold_position;

/// The first page sorts all of a sale's orders: a million in a few seconds.
const SORTED_WITHIN: Duration = Duration::from_secs(20);

/// One sale at one position, over a transaction that is held open: batches folded meanwhile are not
/// seen. Drop it to end the transaction.
#[derive(Debug)]
pub struct LoadSnapshot {
    transaction: Transaction,
    sale: Sale,
    over: bool,
    position: Offset,
    buyer: Buyer,
}

/// An order of a sale that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOrder {
    /// The order.
    pub order: Order,
    /// Whether the buyer's hold in Redis is of another order. Then only the key of this one is needed.
    pub is_earlier: bool,
}

/// The buyer whose orders are being read. The orders of a sale are sorted by buyer, the most important first.
#[derive(Debug, Default)]
struct Buyer {
    user: Option<UserId>,
    keys: HashSet<KeyHash>,
}

impl Buyer {
    /// The order as it has to be loaded; none if Redis does not need it.
    fn place(&mut self, order: Order) -> Option<LoadOrder> {
        let is_earlier = self.user == Some(order.user_id);
        if !is_earlier {
            self.user = Some(order.user_id);
            self.keys.clear();
        }
        let has_new_key = order.key_hash.is_some_and(|key| self.keys.insert(key));
        (!is_earlier || has_new_key).then_some(LoadOrder { order, is_earlier })
    }
}

#[derive(FromRow)]
struct RawLoad {
    #[sqlx(flatten)]
    sale: RawSale,
    partition: i32,
    over: bool,
}

impl Orderbook {
    /// Opens a snapshot of a sale; none where the log has no such sale yet, or it is retired.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn load_snapshot(
        &self,
        topic: &str,
        voucher: VoucherId,
    ) -> Result<Option<LoadSnapshot>, OrderbookError> {
        let mut transaction = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let sql = format!(
            "SELECT {SALE_COLUMNS}, partition, closed_offset IS NOT NULL OR closes_at <= now() AS over
               FROM vouchers WHERE voucher_id = $1 AND NOT retired"
        );
        let row: Option<RawLoad> = sqlx::query_as(&sql)
            .bind(voucher.get())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let position = fold_position(&mut transaction, topic, row.partition).await?;
        open_orders(&mut transaction, voucher).await?;
        Ok(Some(LoadSnapshot {
            transaction,
            over: row.over,
            sale: row.sale.try_into()?,
            position,
            buyer: Buyer::default(),
        }))
    }
}

/// A cursor, because the orders are sorted by buyer once for all pages.
async fn open_orders(transaction: &mut Transaction, voucher: VoucherId) -> Result<(), sqlx::Error> {
    transaction.takes_up_to(SORTED_WITHIN).await?;
    let (first, last) = order_ids_of(voucher);
    let sql = format!(
        "DECLARE orders_to_load NO SCROLL CURSOR FOR
         SELECT {ORDER_COLUMNS} FROM orders
          WHERE order_id BETWEEN $1 AND $2 AND (status <> 'rejected' OR key_hash IS NOT NULL)
          ORDER BY user_id, status IN ('unpaid', 'paid') DESC, key_hash IS NOT NULL DESC,
                   status = 'rejected', reserved_offset DESC"
    );
    sqlx::query(&sql)
        .persistent(false)
        .bind(first)
        .bind(last)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

impl LoadSnapshot {
    /// The sale.
    #[must_use]
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// Whether it takes no orders any more, by the database's clock, and has no unpaid one: it can leave
    /// Redis.
    #[must_use]
    pub const fn can_retire(&self) -> bool {
        self.over && self.sale.unpaid == 0
    }

    /// The fold's position: every record of the sale below it is in here, and none above.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.position
    }

    /// The next at most `limit` orders, ascending by user id. Of each buyer first the one that is the buyer's
    /// in Redis: the live one; if there is none, the last one with a key hash; if there is none, the last one
    /// (but not a rejected one, which without a key means nothing to Redis). Then one for each other key
    /// hash: the live one, the last that was not rejected, or the last. Empty when all were given.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn next_orders(&mut self, limit: usize) -> Result<Vec<LoadOrder>, OrderbookError> {
        let sql = format!("FETCH FORWARD {limit} FROM orders_to_load");
        loop {
            let rows: Vec<RawOrder> = sqlx::query_as(&sql)
                // The same text would mean another cursor in the connection's next snapshot.
                .persistent(false)
                .fetch_all(&mut *self.transaction)
                .await?;
            let at_end = rows.is_empty();
            let orders = all(rows)?.into_iter();
            let wanted: Vec<_> = orders.filter_map(|order| self.buyer.place(order)).collect();
            if at_end || !wanted.is_empty() {
                return Ok(wanted);
            }
        }
    }

    /// The shrinks that the log has decided, kept and refused ones: event ids and units.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decided_shrinks(&mut self) -> Result<Vec<(EventId, i64)>, OrderbookError> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT event_id, -delta FROM stock_adjustments WHERE voucher_id = $1 AND delta < 0",
        )
        .bind(self.sale.voucher_id.get())
        .fetch_all(&mut *self.transaction)
        .await?;
        let shrinks = rows.into_iter();
        Ok(shrinks
            .map(|(id, units)| (EventId::from_uuid(id), units))
            .collect())
    }

    /// Those of `ids` that the log has, as orders or as adjustments of the sale, by this position.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>, OrderbookError> {
        let rows: Vec<Uuid> = sqlx::query_scalar(
            "SELECT order_id FROM orders WHERE order_id = ANY($1)
             UNION ALL
             SELECT event_id FROM stock_adjustments WHERE event_id = ANY($1) AND voucher_id = $2",
        )
        .bind(ids)
        .bind(self.sale.voucher_id.get())
        .fetch_all(&mut *self.transaction)
        .await?;
        Ok(rows.into_iter().collect())
    }
}
