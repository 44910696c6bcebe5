//! The last decision about each order, for publishing it again.

use seckill_domain::{Effect, Offset, Order, OrderId, effects_of_order};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::{ORDER_COLUMNS, RawOrder};

/// An order's last decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderState {
    /// The order.
    pub order_id: OrderId,
    /// Its partition of the event topic.
    pub partition: i32,
    /// What was decided; none where the log that has the record is lost.
    pub effect: Option<Effect>,
}

#[derive(FromRow)]
struct RawState {
    #[sqlx(flatten)]
    order: RawOrder,
    partition: i32,
}

impl TryFrom<RawState> for OrderState {
    type Error = OrderbookError;

    fn try_from(row: RawState) -> Result<Self, OrderbookError> {
        let order = Order::try_from(row.order)?;
        let last = effects_of_order(&order).pop();
        Ok(Self {
            order_id: order.order_id,
            partition: row.partition,
            effect: last.filter(|effect| effect.offset >= Offset::new(0)),
        })
    }
}

impl Orderbook {
    /// How many orders there are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_orders(&self) -> Result<u64, OrderbookError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// At most `limit` orders by their ids, behind `after`.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn order_states(
        &self,
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<OrderState>, OrderbookError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, partition FROM orders
              WHERE $1::uuid IS NULL OR order_id > $1 ORDER BY order_id LIMIT $2"
        );
        let rows = sqlx::query_as::<_, RawState>(&sql)
            .bind(after.map(OrderId::as_uuid))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(OrderState::try_from).collect()
    }

    /// These orders, as they are now.
    ///
    /// # Errors
    /// As [`Self::order_states`].
    pub async fn order_states_of(
        &self,
        orders: &[OrderId],
    ) -> Result<Vec<OrderState>, OrderbookError> {
        let sql = format!("SELECT {ORDER_COLUMNS}, partition FROM orders WHERE order_id = ANY($1)");
        let ids: Vec<Uuid> = orders.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query_as::<_, RawState>(&sql)
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(OrderState::try_from).collect()
    }
}
