//! Errors that other people, faults or defects may cause in the stores without the services, one at a time.

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use seckill_domain::{OrderId, VoucherId};
use sqlx::{PgConnection, PgPool};

use crate::world::World;

/// An error in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Injection {
    /// An order has another amount.
    CorruptedOrder,
    /// An unpaid order is marked expired, though no event says so.
    ExpiredByHand,
    /// An order's row is missing.
    MissingOrder,
    /// There is an order that the log does not have.
    ExtraOrder,
    /// The sale has one unit more, but its sums are consistent.
    WrongStockLeft,
    /// A refund's row is missing.
    MissingRefund,
    /// There is a refund for no payment.
    ExtraRefund,
    /// Redis has a unit too many.
    StockOneMore,
    /// Redis has a unit too few.
    StockOneLess,
    /// A hold of an unknown order that is not counted.
    OrphanHold,
    /// An old hold of an unknown order that has taken its unit.
    OrphanGrant,
    /// The hold of a live order is missing.
    MissingHold,
    /// The hold of a live order is marked as released.
    ReleasedHold,
    /// The hold of a live order has another quantity.
    WrongHold,
    /// Redis counts a held unit too many.
    HeldOneMore,
    /// Redis counts an unsettled unit too many.
    UnsettledOneMore,
    /// Redis sells at another price.
    WrongPrice,
}

/// Orders of one sale that an injection may use. Nothing else changes them or the orders of their buyers.
#[derive(Debug, Clone)]
pub struct Victim {
    pub voucher: VoucherId,
    /// The prefix of its keys.
    pub prefix: String,
    /// An unpaid order, and its buyer.
    pub unpaid: (u64, OrderId),
    /// A paid order that was paid again.
    pub paid: (u64, OrderId),
}

/// A user who never ordered.
const STRANGER: u64 = 999_999_998;

impl Injection {
    /// All injections.
    pub const ALL: [Self; 17] = [
        Self::CorruptedOrder,
        Self::ExpiredByHand,
        Self::MissingOrder,
        Self::ExtraOrder,
        Self::WrongStockLeft,
        Self::MissingRefund,
        Self::ExtraRefund,
        Self::StockOneMore,
        Self::StockOneLess,
        Self::OrphanHold,
        Self::OrphanGrant,
        Self::MissingHold,
        Self::ReleasedHold,
        Self::WrongHold,
        Self::HeldOneMore,
        Self::UnsettledOneMore,
        Self::WrongPrice,
    ];

    /// The name that reconcile uses for it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::CorruptedOrder | Self::ExpiredByHand | Self::WrongStockLeft => "corrupted-row",
            Self::MissingOrder | Self::MissingRefund => "missing-row",
            Self::ExtraOrder | Self::ExtraRefund => "extra-row",
            Self::StockOneMore | Self::StockOneLess => "redis-stock",
            Self::OrphanHold | Self::OrphanGrant => "orphan-hold",
            Self::MissingHold | Self::ReleasedHold => "missing-hold",
            Self::WrongHold => "wrong-hold",
            Self::HeldOneMore => "redis-held",
            Self::UnsettledOneMore => "redis-unsettled",
            Self::WrongPrice => "redis-terms",
        }
    }

    /// Makes the error.
    ///
    /// # Errors
    /// When a store does not answer, or the data to change do not exist.
    pub async fn inject(
        self,
        pool: &PgPool,
        redis: &mut MultiplexedConnection,
        victim: &Victim,
    ) -> Result<()> {
        match self.statement(victim) {
            Some(_) => in_tables(pool, victim, self).await,
            None => self.in_redis(redis, victim).await,
        }
        .with_context(|| format!("{self:?} in {victim:?}"))
    }

    /// Makes the error in the tables, in a transaction of the test that locks the fold.
    ///
    /// # Errors
    /// When it is not an error in the tables, or the data to change do not exist.
    pub async fn write(self, connection: &mut PgConnection, victim: &Victim) -> Result<()> {
        let statement = self.statement(victim).context("it is done to Redis")?;
        let done = sqlx::query(&statement).execute(connection).await?;
        ensure!(done.rows_affected() == 1, "{} rows", done.rows_affected());
        Ok(())
    }

    fn statement(self, victim: &Victim) -> Option<String> {
        let Victim {
            voucher,
            unpaid: (_, unpaid),
            ..
        } = victim;
        let made_up = made_up_order(*voucher);
        Some(match self {
            Self::CorruptedOrder => {
                format!("UPDATE orders SET amount_cents = amount_cents + 1 WHERE order_id = '{unpaid}'")
            }
            Self::ExpiredByHand => format!(
                "UPDATE orders SET status = 'expired', closed_at = now(),
                        closed_offset = -{voucher} WHERE order_id = '{unpaid}'"
            ),
            Self::MissingOrder => format!("DELETE FROM orders WHERE order_id = '{unpaid}'"),
            Self::ExtraOrder => format!(
                "INSERT INTO orders (order_id, voucher_id, user_id, quantity, amount_cents, reserved_at,
                        pay_by, reserved_offset, partition, currency, status)
                 SELECT '{made_up}', voucher_id, 999999999, quantity, amount_cents, reserved_at, pay_by,
                        -{voucher}, partition, currency, status
                   FROM orders WHERE order_id = '{unpaid}'"
            ),
            Self::WrongStockLeft => format!(
                "UPDATE vouchers SET stock_left = stock_left + 1, adjusted = adjusted + 1
                  WHERE voucher_id = {voucher}"
            ),
            Self::MissingRefund => format!("DELETE FROM refunds WHERE voucher_id = {voucher}"),
            Self::ExtraRefund => format!(
                r#"INSERT INTO refunds (payment_id, voucher_id, order_id, amount_cents, currency, reason,
                        partition, "offset")
                 SELECT 'nobody', voucher_id, order_id, 1, currency, 'already-paid', partition, -{voucher}
                   FROM orders WHERE order_id = '{unpaid}'"#
            ),
            _ => return None,
        })
    }

    async fn in_redis(self, redis: &mut MultiplexedConnection, victim: &Victim) -> Result<()> {
        let voucher = victim.voucher;
        let key = |part: &str| format!("{}seckill:{{{voucher}}}:{part}", victim.prefix);
        let (sale, holds) = (key("sale"), key("holds"));
        let (user, order) = victim.unpaid;
        let made_up = made_up_order(voucher);
        let count = async |field: &str, units: i64| -> Result<()> {
            let _: i64 = redis.clone().hincr(&sale, field, units).await?;
            Ok(())
        };
        match self {
            Self::StockOneMore => count("stock", 1).await?,
            Self::StockOneLess => count("stock", -1).await?,
            Self::HeldOneMore => count("held", 1).await?,
            Self::UnsettledOneMore => count("unsettled", 1).await?,
            Self::OrphanGrant => {
                for (field, units) in [("stock", -1), ("held", 1), ("unsettled", 1)] {
                    count(field, units).await?;
                }
            }
            Self::WrongPrice => count("price_cents", 1).await?,
            _ => {}
        }
        let text = |order: OrderId, units: u32, state: &str| {
            format!("{order}|{units}|{state}|-|1700000000000000|1700000000000000")
        };
        let (field, text) = match self {
            Self::OrphanHold => (STRANGER, text(made_up, 1, "s")),
            Self::OrphanGrant => (STRANGER, text(made_up, 1, "h")),
            Self::WrongHold => (user, text(order, 2, "s")),
            Self::ReleasedHold => (user, text(order, 1, "r")),
            Self::MissingHold => {
                let _: i64 = redis.hdel(&holds, user).await?;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let _: i64 = redis.hset(&holds, field, text).await?;
        Ok(())
    }
}

fn made_up_order(voucher: VoucherId) -> OrderId {
    OrderId::from_parts(voucher, 0xdead, 0xbeef)
}

/// Makes the error while the fold is locked. Otherwise the projector could overwrite it with rows that it has read
/// before.
async fn in_tables(pool: &PgPool, victim: &Victim, injection: Injection) -> Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "SELECT FROM view_positions WHERE view = 'orders' AND partition =
           (SELECT partition FROM vouchers WHERE voucher_id = $1) FOR UPDATE",
    )
    .bind(victim.voucher.get())
    .execute(&mut *transaction)
    .await?;
    injection.write(&mut transaction, victim).await?;
    Ok(transaction.commit().await?)
}

impl Victim {
    /// Makes the orders of a sale: an unpaid one, one that was paid twice, and a cancelled one. They are of the first
    /// three users.
    ///
    /// # Errors
    /// When the services refuse.
    pub async fn of(world: &World, voucher: VoucherId, price_cents: i64) -> Result<Self> {
        let client = &world.client;
        let mut orders = Vec::new();
        for user in 1..=3 {
            let answer = client.order(voucher, user, Some("victim"), 1).await?;
            let id = answer.order_id().with_context(|| format!("{answer:?}"))?;
            orders.push(id.parse::<OrderId>()?);
        }
        let paid = orders[1].to_string();
        for number in 1..=2 {
            let payment = format!("payment-{voucher}-{number}");
            let answer = client.pay(&paid, &payment, price_cents).await?;
            ensure!(answer.status == 202, "{answer:?}");
        }
        let answer = client.cancel(3, &orders[2].to_string()).await?;
        ensure!(matches!(answer.status, 202 | 409), "{answer:?}");
        Ok(Self {
            voucher,
            prefix: world.redis_name(""),
            unpaid: (1, orders[0]),
            paid: (2, orders[1]),
        })
    }
}
