//! The state of an order.

use seckill_domain::{Epoch, Money, Offset, Order, OrderId, Timestamp, UserId, VoucherId};
use seckill_orderbook::{LedgerRow, Orderbook, OrderbookError};
use seckill_stock::{Hold, HoldState, Probe};

use super::{Inner, ReadError, Reads};

/// An order as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderView {
    /// It is in the log.
    Decided {
        order: Order,
        /// Whether a payment for it has to go back.
        refund_due: bool,
    },
    /// It is in Redis only.
    Pending(PendingOrder),
}

/// An order that was granted and not decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingOrder {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// What is to be paid in all.
    pub amount: Money,
    /// When it was granted.
    pub reserved_at: Timestamp,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
}

impl OrderView {
    /// Who placed it.
    #[must_use]
    pub const fn user_id(&self) -> UserId {
        match self {
            Self::Decided { order, .. } => order.user_id,
            Self::Pending(order) => order.user_id,
        }
    }

    /// Rises with every change: 0 while it is pending.
    #[must_use]
    pub const fn version(&self) -> i64 {
        match self {
            Self::Decided { order, .. } => order.version(),
            Self::Pending(_) => 0,
        }
    }

    /// Whether nothing changes it any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Decided { order, .. } => order.status.is_final(),
            Self::Pending(_) => false,
        }
    }
}

/// What it means that PostgreSQL does not have an order.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// There is no such order, and none will come.
    Unknown,
    /// It may still come.
    Undecided,
}

impl Reads {
    /// The buyer's own order; none when there is no such order, or it is somebody else's. Says
    /// *none* of an order that was granted once only when PostgreSQL is at the sale's epoch and at
    /// or past its position in Redis.
    ///
    /// # Errors
    /// [`ReadError::Behind`] when that cannot be said yet, and when a store does not answer.
    pub async fn order(&self, id: OrderId, user: UserId) -> Result<Option<OrderView>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move { inner.order(id, user).await }).await
    }

    /// Whether PostgreSQL has an order, or will never have it: there is no such sale, or it is over with all its orders.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn is_known_or_never(&self, id: OrderId) -> Result<bool, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            if inner.lookups.find(id).await?.is_some() {
                return Ok(true);
            }
            let topic = &inner.sources.events_topic;
            let read = inner.sources.orderbook.order_as_of(topic, id).await?;
            Ok(read.order.is_some() || is_over(read.ledger.as_ref()))
        })
        .await
    }

    /// At most `limit` decided orders of a buyer, the newest first; `before` is when the last one
    /// of the page before was reserved, and its id.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn orders_of(
        &self,
        user: UserId,
        limit: u32,
        before: Option<(Timestamp, OrderId)>,
    ) -> Result<Vec<OrderView>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            let orderbook = &inner.sources.orderbook;
            let orders = orderbook.orders_of(user, limit, before).await?;
            let views = decided(orderbook, orders).await?;
            Ok(views.into_iter().map(|(_, view)| view).collect())
        })
        .await
    }
}

impl Inner {
    async fn order(&self, id: OrderId, user: UserId) -> Result<Option<OrderView>, ReadError> {
        if let Some(view) = self.lookups.find(id).await? {
            return Ok(of_user(view, user));
        }
        let voucher = id.voucher_id();
        let (probe, hold) = self.sources.stock.hold(voucher, user).await?;
        let hold = hold.filter(|hold| hold.order_id == id);
        if let Some(hold) = &hold
            && hold.state == HoldState::Held
        {
            return self.pending(hold, user).await.map(Some);
        }
        // Redis before PostgreSQL, whose position and rows are of one moment: what the position
        // covers, the rows show.
        let topic = &self.sources.events_topic;
        let read = self.sources.orderbook.order_as_of(topic, id).await?;
        if let Some(order) = read.order {
            let mut views = decided(&self.sources.orderbook, vec![order]).await?;
            return Ok(views.pop().and_then(|(_, view)| of_user(view, user)));
        }
        match verdict(&probe, hold.as_ref(), read.ledger.as_ref()) {
            Verdict::Unknown if self.may_be_stale(&probe, voucher).await? => Err(ReadError::Behind),
            Verdict::Unknown => Ok(None),
            Verdict::Undecided => Err(ReadError::Behind),
        }
    }

    /// A master that was cut off answers reads for as long as it lives, but takes no writes. While the epoch that was
    /// read takes writes, no later one has begun, which PostgreSQL may have forgotten if it was restored. The second
    /// answer may be from another server than the first: from the new master, which is in a later epoch.
    async fn may_be_stale(&self, probe: &Probe, voucher: VoucherId) -> Result<bool, ReadError> {
        let Probe::Open(view) = probe else {
            return Ok(false);
        };
        let stock = &self.sources.stock;
        Ok(stock.epoch_that_takes_writes(voucher).await? != Some(view.epoch))
    }

    /// A sale that Redis serves has a row: it was loaded from it.
    async fn pending(&self, hold: &Hold, user: UserId) -> Result<OrderView, ReadError> {
        let row = self.sale(hold.order_id.voucher_id()).await?;
        let row = row.ok_or(ReadError::Behind)?;
        Ok(OrderView::Pending(PendingOrder {
            order_id: hold.order_id,
            user_id: user,
            quantity: hold.quantity,
            amount: row.sale.terms.price.times(hold.quantity),
            reserved_at: hold.reserved_at,
            pay_by: hold.pay_by,
        }))
    }
}

/// Orders of the view with whether a payment for them has to go back, in the same order.
pub(super) async fn decided(
    orderbook: &Orderbook,
    orders: Vec<Order>,
) -> Result<Vec<(OrderId, OrderView)>, OrderbookError> {
    let ids: Vec<OrderId> = orders.iter().map(|order| order.order_id).collect();
    let refunds = orderbook.refund_due(&ids).await?;
    let view = |order: Order| {
        let (id, refund_due) = (order.order_id, refunds.contains(&order.order_id));
        (id, OrderView::Decided { order, refund_due })
    };
    Ok(orders.into_iter().map(view).collect())
}

/// None where it is somebody else's.
fn of_user(view: OrderView, user: UserId) -> Option<OrderView> {
    (view.user_id() == user).then_some(view)
}

/// `hold` is the order's own, settled or released: the log has decided it, wherever the row is.
fn verdict(probe: &Probe, hold: Option<&Hold>, ledger: Option<&LedgerRow>) -> Verdict {
    let unknown = match (probe, ledger) {
        _ if hold.is_some() => false,
        (Probe::NotServed { .. }, ledger) => is_over(ledger),
        (Probe::Open(_), None) => false,
        (Probe::Open(view), Some(row)) => covers(row, view.epoch, view.position),
    };
    if unknown {
        Verdict::Unknown
    } else {
        Verdict::Undecided
    }
}

/// Whether no order of a sale is still to come. Without a row nothing was ever loaded, and so nothing granted.
fn is_over(ledger: Option<&LedgerRow>) -> bool {
    ledger.is_none_or(|row| row.retired)
}

fn covers(row: &LedgerRow, epoch: Epoch, position: Offset) -> bool {
    row.epoch == epoch && row.position >= position
}

#[cfg(test)]
impl PendingOrder {
    /// One of user 42, for tests.
    pub(crate) fn sample(order_id: OrderId) -> Self {
        Self {
            order_id,
            user_id: UserId::new(42).unwrap(),
            quantity: 1,
            amount: Money::new(500, "EUR".parse().unwrap()).unwrap(),
            reserved_at: Timestamp::from_micros(1),
            pay_by: Timestamp::from_micros(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use seckill_stock::SaleView;

    fn ledger(epoch: i64, position: i64) -> LedgerRow {
        LedgerRow {
            initial: 1,
            adjusted: 0,
            available: 1,
            unpaid: 0,
            paid: 0,
            retired: false,
            epoch: Epoch::new(epoch),
            position: Offset::new(position),
        }
    }

    fn served(epoch: i64, position: i64) -> Probe {
        Probe::Open(SaleView {
            stock: 1,
            held: 0,
            unsettled: 0,
            epoch: Epoch::new(epoch),
            position: Offset::new(position),
            sale_closed: false,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            max_quantity: 1,
        })
    }

    #[test]
    fn a_missing_order_is_unknown_only_where_postgresql_covers_redis() {
        let redis = served(2, 10);
        let at = |epoch, position| verdict(&redis, None, Some(&ledger(epoch, position)));
        assert_eq!(at(2, 10), Verdict::Unknown);
        assert_eq!(at(2, 11), Verdict::Unknown);
        assert_eq!(at(2, 9), Verdict::Undecided);
        assert_eq!(at(1, 99), Verdict::Undecided);
        assert_eq!(at(3, 99), Verdict::Undecided);
        assert_eq!(verdict(&redis, None, None), Verdict::Undecided);
    }

    #[test]
    fn a_sale_that_redis_does_not_serve_says_nothing_unless_it_is_over_or_never_was() {
        let not_served = Probe::NotServed { epoch: None };
        let row = ledger(1, 5);
        assert_eq!(verdict(&not_served, None, None), Verdict::Unknown);
        assert_eq!(verdict(&not_served, None, Some(&row)), Verdict::Undecided);
        let over = LedgerRow {
            retired: true,
            ..row
        };
        assert_eq!(verdict(&not_served, None, Some(&over)), Verdict::Unknown);
    }

    #[test]
    fn an_order_that_redis_knows_is_never_unknown() {
        let hold = Hold {
            order_id: OrderId::from_parts(VoucherId::new(7).unwrap(), 1, 1),
            quantity: 1,
            state: HoldState::Settled,
            pay_by: Timestamp::from_micros(1),
            reserved_at: Timestamp::from_micros(0),
            key_hash: None,
        };
        let row = ledger(1, 99);
        let checked = verdict(&served(1, 5), Some(&hold), Some(&row));
        assert_eq!(checked, Verdict::Undecided);
    }
}
