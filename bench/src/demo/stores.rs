//! A sale as the stores hold it, read with plain SQL and plain Redis commands: the project's own
//! reading code is part of what is checked, so it is not used here.

use std::time::Duration;

use anyhow::Context;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use seckill_domain::{OrderId, OrderStatus, VoucherId};
use seckill_stores::StoreSettings;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::redis_server;

use super::evidence::{HoldRow, OrderRow, RedisView, RefundRow, SaleRow};

const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
const SCAN_COUNT: usize = 500;
/// A field of every hash of a sale: which load made it.
const LOAD_FIELD: &str = "load";

/// Both stores of one sale.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pool: PgPool,
    redis: MultiplexedConnection,
    prefix: String,
    voucher: VoucherId,
}

impl Stores {
    /// Connects to both.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub(super) async fn connect(
        stores: &StoreSettings,
        voucher: VoucherId,
    ) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(DATABASE_TIMEOUT)
            .connect(stores.database_url.expose())
            .await
            .context("connecting to PostgreSQL")?;
        let redis = redis_server::connect(&stores.redis).await?;
        Ok(Self {
            pool,
            redis,
            prefix: stores.kafka.topic_prefix.clone(),
            voucher,
        })
    }

    /// The sale's row.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked or has no such row.
    pub(super) async fn sale(&self) -> anyhow::Result<SaleRow> {
        let (initial, adjusted, stock_left, unpaid, paid) = sqlx::query_as(
            "SELECT initial_stock, adjusted, stock_left, unpaid_units, paid_units
             FROM vouchers WHERE voucher_id = $1",
        )
        .bind(self.voucher.get())
        .fetch_one(&self.pool)
        .await
        .context("reading the sale's row")?;
        Ok(SaleRow {
            initial,
            adjusted,
            stock_left,
            unpaid,
            paid,
        })
    }

    /// All rows of the sale's orders.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked, or a row is not an order.
    pub(super) async fn orders(&self) -> anyhow::Result<Vec<OrderRow>> {
        type Row = (
            Uuid,
            i64,
            i64,
            i64,
            String,
            Option<String>,
            i64,
            Option<i64>,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT order_id, user_id, quantity, amount_cents, status, payment_id,
                    reserved_offset, closed_offset
             FROM orders WHERE voucher_id = $1",
        )
        .bind(self.voucher.get())
        .fetch_all(&self.pool)
        .await
        .context("reading the orders")?;
        let order =
            |(id, user_id, quantity, amount_cents, status, payment_id, reserved, closed): Row| {
                Ok(OrderRow {
                    order_id: OrderId::from_uuid(id)?,
                    user_id,
                    quantity,
                    amount_cents,
                    status: OrderStatus::parse(&status)
                        .with_context(|| format!("order {id} has the status {status}"))?,
                    payment_id,
                    reserved_offset: reserved,
                    closed_offset: closed,
                })
            };
        rows.into_iter().map(order).collect()
    }

    /// All rows of the sale's refunds.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked, or a row is not a refund.
    pub(super) async fn refunds(&self) -> anyhow::Result<Vec<RefundRow>> {
        let rows: Vec<(String, Uuid, i64, String, i64)> = sqlx::query_as(
            r#"SELECT payment_id, order_id, amount_cents, reason, "offset"
               FROM refunds WHERE voucher_id = $1"#,
        )
        .bind(self.voucher.get())
        .fetch_all(&self.pool)
        .await
        .context("reading the refunds")?;
        let refund = |(payment_id, order_id, amount_cents, reason, offset)| {
            Ok(RefundRow {
                payment_id,
                order_id: OrderId::from_uuid(order_id)?,
                amount_cents,
                reason,
                offset,
            })
        };
        rows.into_iter().map(refund).collect()
    }

    /// How many payments the tables know, honoured or to be refunded.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked.
    pub(super) async fn payments_decided(&self) -> anyhow::Result<i64> {
        sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM orders WHERE voucher_id = $1 AND payment_id IS NOT NULL)
                  + (SELECT count(*) FROM refunds WHERE voucher_id = $1)",
        )
        .bind(self.voucher.get())
        .fetch_one(&self.pool)
        .await
        .context("counting the payments")
    }

    /// How far the projector has folded a partition of the event topic.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked.
    pub(super) async fn folded_to(&self, topic: &str, partition: i32) -> anyhow::Result<i64> {
        let position: Option<i64> = sqlx::query_scalar(
            "SELECT next_offset FROM view_positions
             WHERE view = 'orders' AND topic = $1 AND partition = $2",
        )
        .bind(topic)
        .bind(partition)
        .fetch_optional(&self.pool)
        .await
        .context("reading the projector's position")?;
        Ok(position.unwrap_or(0))
    }

    /// Units free by Redis.
    ///
    /// # Errors
    /// When Redis cannot be asked or does not have the sale.
    pub(super) async fn redis_stock(&self) -> anyhow::Result<i64> {
        self.sale_field("stock").await
    }

    /// How many events Redis does not know to be in the log.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub(super) async fn pending_events(&self) -> anyhow::Result<i64> {
        let outbox = self.key("outbox");
        let fields: i64 = self
            .redis
            .clone()
            .hlen(outbox)
            .await
            .context("reading the outbox's length")?;
        // One of them names the load that made it.
        Ok((fields - 1).max(0))
    }

    /// All that Redis has of the sale.
    ///
    /// # Errors
    /// When Redis cannot be asked, does not have the sale or holds what is no hold.
    pub(super) async fn redis_view(&self) -> anyhow::Result<RedisView> {
        Ok(RedisView {
            stock: self.redis_stock().await?,
            unsettled: self.sale_field("unsettled").await?,
            pending_events: self.pending_events().await?,
            holds: self.holds().await?,
        })
    }

    async fn sale_field(&self, field: &str) -> anyhow::Result<i64> {
        let value: Option<i64> = self
            .redis
            .clone()
            .hget(self.key("sale"), field)
            .await
            .context("reading the sale in Redis")?;
        value.with_context(|| format!("Redis has no {field} of sale {}", self.voucher))
    }

    async fn holds(&self) -> anyhow::Result<Vec<HoldRow>> {
        let key = self.key("holds");
        let mut redis = self.redis.clone();
        let mut holds = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<(String, String)>) = redis::cmd("HSCAN")
                .arg(&key)
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN_COUNT)
                .query_async(&mut redis)
                .await
                .context("reading the holds")?;
            for (user, hold) in page.iter().filter(|(field, _)| field != LOAD_FIELD) {
                holds.push(
                    parse_hold(user, hold).with_context(|| format!("the hold {user} {hold}"))?,
                );
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        // HSCAN may return a field twice while the hash is being resized.
        holds.sort_by_key(|hold| hold.user_id);
        holds.dedup();
        Ok(holds)
    }

    fn key(&self, part: &str) -> String {
        format!("{}seckill:{{{}}}:{part}", self.prefix, self.voucher)
    }
}

/// `<user id>` and `order_id|quantity|state|key_hash|pay_by_us|reserved_at_us`, state `r` released.
fn parse_hold(user: &str, hold: &str) -> anyhow::Result<HoldRow> {
    let mut parts = hold.split('|');
    let mut next = || parts.next().context("has too few parts");
    Ok(HoldRow {
        user_id: user.parse()?,
        order_id: next()?.parse()?,
        quantity: next()?.parse()?,
        live: next()? != "r",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_read_with_its_state() {
        let id = "00000000-0100-8000-8000-000000000001";
        for (state, live) in [("h", true), ("s", true), ("r", false)] {
            let hold = parse_hold("7", &format!("{id}|2|{state}|-|5|6")).unwrap();
            assert_eq!((hold.user_id, hold.quantity, hold.live), (7, 2, live));
        }
        assert!(parse_hold("adj:1", "2|5|t").is_err());
        assert!(parse_hold("7", id).is_err());
    }
}
