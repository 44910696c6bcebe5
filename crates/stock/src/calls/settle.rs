//! Applying the log's decisions to the stock.

use redis::Cmd;
use seckill_domain::{Epoch, Offset, StockOp, VoucherId};

use crate::calls::keys::SaleKeys;
use crate::calls::stock::Stock;
use crate::redis::error::StockError;
use crate::redis::reply::{NONE, key_hash_text};
use crate::redis::script::{MAX_ITEMS, Script};

/// The answer to a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleReply {
    /// The sale is not served over this connection, or it is of an earlier epoch. It will be loaded again, up
    /// to a position that covers this call.
    NotServed,
    /// Decisions between the sale's position and this call's are missing: nothing was changed.
    Gap {
        /// The sale's position.
        position: Offset,
    },
    /// Applied, by this call or before.
    Settled {
        /// The sale's position.
        position: Offset,
    },
}

impl Stock {
    /// Carries up to [`crate::MAX_ITEMS`] decisions out: all of the voucher's from `from` up to, not
    /// including, `to`, in order. `epoch` is PostgreSQL's. Repeating it changes nothing.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items, or when they are not in order.
    pub async fn settle(
        &self,
        voucher: VoucherId,
        epoch: Epoch,
        from: Offset,
        to: Offset,
        ops: &[(Offset, StockOp)],
    ) -> Result<SettleReply, StockError> {
        check_ops(from, to, ops)?;
        let connection = self.connection_for(voucher).await?;
        let keys = SaleKeys::of(connection.prefix(), voucher);
        let mut cmd =
            connection.invocation(Script::Settle, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(epoch.get()).arg(from.get()).arg(to.get());
        for (offset, op) in ops {
            add_op(&mut cmd, *offset, op);
        }
        let mut reply = connection.run(&cmd).await?;
        match reply.answer() {
            "epoch" => Ok(SettleReply::NotServed),
            _ if reply.is_not_served() => Ok(SettleReply::NotServed),
            "gap" => Ok(SettleReply::Gap {
                position: reply.offset()?,
            }),
            "ok" => Ok(SettleReply::Settled {
                position: reply.offset()?,
            }),
            _ => Err(reply.unexpected()),
        }
    }
}

/// The script skips decisions below the position that it has reached. In a wrong order it would skip
/// a decision that was never applied.
fn check_ops(from: Offset, to: Offset, ops: &[(Offset, StockOp)]) -> Result<(), StockError> {
    if ops.len() > MAX_ITEMS {
        return Err(StockError::too_many("decisions"));
    }
    let ascending = ops.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let inside = ops.iter().all(|(offset, _)| (from..to).contains(offset));
    if ascending && inside && from <= to {
        Ok(())
    } else {
        Err(StockError::Protocol(
            "decisions out of order, or outside [from, to)".to_owned(),
        ))
    }
}

/// Adds the seven arguments of a decision.
fn add_op(cmd: &mut Cmd, offset: Offset, op: &StockOp) {
    let mut add = |kind: &str, id: &str, user: &str, units: &str, key: &str, pay_by: &str| {
        cmd.arg(kind)
            .arg(offset.get())
            .arg(&[id, user, units, key, pay_by]);
    };
    match op {
        StockOp::Confirm {
            order_id,
            user_id,
            quantity,
            key_hash,
            pay_by,
        } => add(
            "confirm",
            &order_id.to_string(),
            &user_id.to_string(),
            &quantity.to_string(),
            &key_hash_text(*key_hash),
            &pay_by.as_micros().to_string(),
        ),
        StockOp::Release { order_id, user_id } => add(
            "release",
            &order_id.to_string(),
            &user_id.to_string(),
            NONE,
            NONE,
            NONE,
        ),
        StockOp::Restock { units } => add("restock", NONE, NONE, &units.to_string(), NONE, NONE),
        StockOp::ShrinkKept { event_id, units } => add(
            "kept",
            &event_id.to_string(),
            NONE,
            &units.to_string(),
            NONE,
            NONE,
        ),
        StockOp::ShrinkReturned { event_id, units } => add(
            "returned",
            &event_id.to_string(),
            NONE,
            &units.to_string(),
            NONE,
            NONE,
        ),
        StockOp::Close => add("close", NONE, NONE, NONE, NONE, NONE),
    }
}
