//! Reading a sale: numbers, one user's hold, pending events. The cost of a call does not depend on the number of holds.

use std::time::Duration;

use redis::Cmd;
use seckill_domain::{Epoch, KeyHash, Offset, OrderId, Timestamp, UserId, VoucherId};
use uuid::Uuid;

use crate::calls::keys::SaleKeys;
use crate::calls::pending::PendingEvent;
use crate::calls::reserve::read_price;
use crate::calls::stock::Stock;
use crate::redis::connection::StockConnection;
use crate::redis::error::StockError;
use crate::redis::reply::{NONE, Reply, key_hash_text, parse, parse_optional, timestamp};
use crate::redis::script::{MAX_ITEMS, Script};

/// Entries looked at in one page. HSCAN may return somewhat more than it is asked for, so this is
/// well below [`MAX_ITEMS`].
const PAGE_ITEMS: usize = MAX_ITEMS / 2;

/// The state of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The sale is not served over this connection.
    NotServed {
        /// The epoch of the sale that is there, if one is.
        epoch: Option<Epoch>,
    },
    /// In use.
    Open(SaleView),
}

/// A sale's numbers in Redis. Always: stock + held + units of shrinks that are not settled = the
/// sale's units in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleView {
    /// Units free.
    pub stock: i64,
    /// Units in live holds.
    pub held: i64,
    /// Units of live holds and shrinks whose decision in the log is not known in Redis yet.
    pub unsettled: i64,
    /// The epoch.
    pub epoch: Epoch,
    /// Every record of the voucher below it is settled.
    pub position: Offset,
    /// Whether an operator closed the sale. If not, its window may still be over.
    pub sale_closed: bool,
    /// When orders are first taken.
    pub opens_at: Timestamp,
    /// When orders are no longer taken.
    pub closes_at: Timestamp,
    /// The most units in one order.
    pub max_quantity: u32,
}

/// A user's hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its order.
    pub order_id: OrderId,
    /// Units.
    pub quantity: u32,
    /// Its state.
    pub state: HoldState,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
    /// When it was granted.
    pub reserved_at: Timestamp,
    /// The hash of its idempotency key.
    pub key_hash: Option<KeyHash>,
}

/// The state of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// Granted by Redis. The log's decision is not known in Redis yet.
    Held,
    /// The log has accepted the order.
    Settled,
    /// Its units are free again. A request with its idempotency key is still answered with its order.
    Released,
}

/// Whether the event of an order may not be in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderEvent {
    /// Redis does not serve the sale at the moment, so that nobody can tell.
    NotServed,
    /// It may not be there yet.
    Pending(PendingEvent),
    /// It is there, or Redis knows no such order.
    NotPending,
}

/// The cursor of a walk through the pending events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxCursor(u64);

impl OutboxCursor {
    /// The beginning.
    pub const START: Self = Self(0);
}

/// A part of the pending events. An entry that stays is in some page of a walk; it may be in two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxPage {
    /// In no order. May be empty though more follow.
    pub entries: Vec<PendingEvent>,
    /// Where to go on; none at the end.
    pub next: Option<OutboxCursor>,
}

impl Stock {
    /// The state of a sale.
    ///
    /// # Errors
    /// As any call.
    pub async fn probe(&self, voucher: VoucherId) -> Result<Probe, StockError> {
        let connection = self.connection_for(voucher).await?;
        let mut reply = connection
            .run(&connection.probe_call(voucher, None))
            .await?;
        read_probe(&mut reply)
    }

    /// The state of a sale and a user's hold, at one moment. A sale that is not served shows no hold.
    ///
    /// # Errors
    /// As any call.
    pub async fn hold(
        &self,
        voucher: VoucherId,
        user: UserId,
    ) -> Result<(Probe, Option<Hold>), StockError> {
        let connection = self.connection_for(voucher).await?;
        let mut reply = connection
            .run(&connection.probe_call(voucher, Some(user)))
            .await?;
        let probe = read_probe(&mut reply)?;
        let hold = match reply.next_text()? {
            Some(text) => Some(Hold::from_text(&text)?),
            None => None,
        };
        Ok((probe, hold))
    }

    /// The epoch in which the server that answers for a sale serves it and takes writes; none if it does not. A master
    /// that was cut off answers reads for as long as it lives.
    ///
    /// # Errors
    /// As any call: also [`StockError::Unavailable`] where it has too few replicas.
    pub async fn epoch_that_takes_writes(
        &self,
        voucher: VoucherId,
    ) -> Result<Option<Epoch>, StockError> {
        let connection = self.connection_for(voucher).await?;
        let keys = SaleKeys::of(connection.prefix(), voucher);
        let parts = [&*keys.sale, &*keys.holds, &*keys.outbox];
        let mut reply = connection
            .run(&connection.invocation(Script::TakesWrites, &parts))
            .await?;
        match reply.answer() {
            "ok" => reply.epoch().map(Some),
            _ => Ok(None),
        }
    }

    /// A page of the pending events that are at least so old, by Redis' clock. None: not served.
    ///
    /// # Errors
    /// As any call.
    pub async fn outbox(
        &self,
        voucher: VoucherId,
        older_than: Duration,
        cursor: OutboxCursor,
    ) -> Result<Option<OutboxPage>, StockError> {
        let age_us = u64::try_from(older_than.as_micros())
            .map_err(|_| StockError::Protocol("an age beyond all time".to_owned()))?;
        let connection = self.connection_for(voucher).await?;
        connection.outbox_page(voucher, None, cursor, age_us).await
    }

    /// Whether the event of an order is pending.
    ///
    /// # Errors
    /// As any call.
    pub async fn order_event(&self, order: OrderId) -> Result<OrderEvent, StockError> {
        let connection = self.connection_for(order.voucher_id()).await?;
        let keys = SaleKeys::of(connection.prefix(), order.voucher_id());
        let parts = [&*keys.sale, &*keys.holds, &*keys.outbox];
        let mut cmd = connection.invocation(Script::Pending, &parts);
        let id = order.to_string();
        cmd.arg(&id);
        let mut reply = connection.run(&cmd).await?;
        match reply.answer() {
            "ok" => {
                let (epoch, price) = (reply.epoch()?, read_price(&mut reply)?);
                Ok(match reply.next_text()? {
                    Some(entry) => {
                        OrderEvent::Pending(PendingEvent::from_entry(&id, &entry, epoch, price)?)
                    }
                    None => OrderEvent::NotPending,
                })
            }
            _ if reply.is_not_served() => Ok(OrderEvent::NotServed),
            _ => Err(reply.unexpected()),
        }
    }
}

impl StockConnection {
    /// See [`Stock::survey`].
    pub(crate) async fn probe_many(
        &self,
        vouchers: &[VoucherId],
    ) -> Result<Vec<Result<Probe, StockError>>, StockError> {
        let mut probes = Vec::with_capacity(vouchers.len());
        for chunk in vouchers.chunks(MAX_ITEMS) {
            let mut pipeline = redis::pipe();
            for voucher in chunk {
                pipeline.add_command(self.probe_call(*voucher, None));
            }
            for reply in self.run_all(pipeline).await? {
                probes.push(reply.and_then(|mut reply| read_probe(&mut reply)));
            }
        }
        Ok(probes)
    }

    /// A page of a sale in use, or of the shut one that `nonce` has claimed. None: not served, or lost.
    pub(crate) async fn outbox_page(
        &self,
        voucher: VoucherId,
        nonce: Option<Uuid>,
        cursor: OutboxCursor,
        age_us: u64,
    ) -> Result<Option<OutboxPage>, StockError> {
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut cmd = self.invocation(
            Script::Outbox,
            &[&keys.sale, &keys.holds, &keys.outbox, &keys.claim],
        );
        cmd.arg(nonce.map_or_else(|| NONE.to_owned(), |nonce| nonce.to_string()))
            .arg(cursor.0)
            .arg(PAGE_ITEMS)
            .arg(age_us);
        let mut reply = self.run(&cmd).await?;
        match reply.answer() {
            "ok" => read_page(&mut reply).map(Some),
            // The claim is on a sale that does not exist: nothing is pending.
            "absent" if nonce.is_some() => Ok(Some(OutboxPage {
                entries: Vec::new(),
                next: None,
            })),
            "lost" => Ok(None),
            _ if reply.is_not_served() => Ok(None),
            _ => Err(reply.unexpected()),
        }
    }

    fn probe_call(&self, voucher: VoucherId, user: Option<UserId>) -> Cmd {
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut cmd = self.invocation(Script::Probe, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(user.map_or_else(|| NONE.to_owned(), |user| user.to_string()));
        cmd
    }
}

fn read_probe(reply: &mut Reply) -> Result<Probe, StockError> {
    if reply.is_not_served() {
        let epoch = reply.next_text()?.as_deref().map(parse).transpose()?;
        return Ok(Probe::NotServed {
            epoch: epoch.map(Epoch::new),
        });
    }
    Ok(Probe::Open(SaleView {
        stock: reply.parse()?,
        held: reply.parse()?,
        unsettled: reply.parse()?,
        epoch: reply.epoch()?,
        position: reply.offset()?,
        sale_closed: reply.text()? == "closed",
        opens_at: reply.timestamp()?,
        closes_at: reply.timestamp()?,
        max_quantity: reply.parse()?,
    }))
}

fn read_page(reply: &mut Reply) -> Result<OutboxPage, StockError> {
    let cursor: u64 = reply.parse()?;
    let epoch = reply.epoch()?;
    let price = read_price(reply)?;
    let mut entries = Vec::new();
    while let Some(id) = reply.next_text()? {
        let entry = reply.text()?;
        entries.push(PendingEvent::from_entry(&id, &entry, epoch, price)?);
    }
    Ok(OutboxPage {
        entries,
        next: (cursor != 0).then_some(OutboxCursor(cursor)),
    })
}

impl Hold {
    /// Reads a field of the holds hash, whose format is `prelude.lua`'s.
    pub(crate) fn from_text(text: &str) -> Result<Self, StockError> {
        let fields: Vec<&str> = text.split('|').collect();
        let [order_id, quantity, state, key_hash, pay_by, reserved_at] = fields[..] else {
            return Err(StockError::Protocol(format!("hold {text:?}")));
        };
        Ok(Self {
            order_id: parse(order_id)?,
            quantity: parse(quantity)?,
            state: match state {
                "h" => HoldState::Held,
                "s" => HoldState::Settled,
                "r" => HoldState::Released,
                _ => return Err(StockError::Protocol(format!("hold {text:?}"))),
            },
            pay_by: timestamp(pay_by)?,
            reserved_at: timestamp(reserved_at)?,
            key_hash: parse_optional(key_hash)?,
        })
    }

    /// A field of the holds hash, as [`Self::from_text`] reads it.
    pub(crate) fn to_text(&self) -> String {
        let state = match self.state {
            HoldState::Held => "h",
            HoldState::Settled => "s",
            HoldState::Released => "r",
        };
        format!(
            "{}|{}|{state}|{}|{}|{}",
            self.order_id,
            self.quantity,
            key_hash_text(self.key_hash),
            self.pay_by.as_micros(),
            self.reserved_at.as_micros()
        )
    }
}
