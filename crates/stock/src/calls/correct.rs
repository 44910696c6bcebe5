//! Repairing a sale that a consistency check found wrong.

use seckill_domain::{Epoch, Offset, UserId, VoucherId};

use crate::calls::keys::SaleKeys;
use crate::calls::stock::Stock;
use crate::redis::connection::StockConnection;
use crate::redis::error::StockError;
use crate::redis::reply::NONE;
use crate::redis::script::{MAX_ITEMS, Script};

/// What is to be changed, and the state in the scan from which that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The sale's epoch in the scan.
    pub epoch: Epoch,
    /// The sale's position in the scan.
    pub from: Offset,
    /// Up to this position the log has no record that concerns `holds`. While a large sale is compared, the
    /// log gets new records: then read again what it has of [`Self::buyers`], and set this anew.
    pub to: Offset,
    /// [`crate::SaleNumbers::corrections`] in the scan.
    pub corrections: u64,
    /// Units to add to the stock.
    pub stock: i64,
    /// Units to add to those held.
    pub held: i64,
    /// Units to add to those unsettled.
    pub unsettled: i64,
    /// At most [`MAX_ITEMS`].
    pub holds: Vec<HoldCorrection>,
}

impl Correction {
    /// The buyers whose holds are to be changed.
    #[must_use]
    pub fn buyers(&self) -> Vec<UserId> {
        let fields = self.holds.iter();
        fields.filter_map(|hold| hold.field.parse().ok()).collect()
    }
}

/// One field of the holds hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldCorrection {
    /// Its name.
    pub field: String,
    /// Its text in the scan; none: it was not there.
    pub actual: Option<String>,
    /// Its new text; none: the field is removed.
    pub expected: Option<String>,
}

/// The answer to a correction, and to a shutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorrectReply {
    /// Not to be used over this connection: it will be loaded anew, which repairs it.
    NotServed,
    /// The sale has changed since the scan: nothing was corrected, scan it again.
    Moved,
    /// A number would be below zero: nothing was changed, and only a load can repair it.
    Short,
    /// Done.
    Done,
}

impl Stock {
    /// Repairs a sale that has not changed since the scan. After [`StockError::Timeout`] scan it
    /// again. If this call arrives late, it is refused after another correction; if it was carried out,
    /// the next scan finds nothing to correct.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for too many holds.
    pub async fn correct(
        &self,
        voucher: VoucherId,
        correction: &Correction,
    ) -> Result<CorrectReply, StockError> {
        self.connection_for(voucher)
            .await?
            .correct(voucher, correction)
            .await
    }

    /// Takes a sale out of service if it is of this epoch, so that the projector loads it anew.
    ///
    /// # Errors
    /// As any call.
    pub async fn shut(&self, voucher: VoucherId, epoch: Epoch) -> Result<CorrectReply, StockError> {
        self.connection_for(voucher)
            .await?
            .shut(voucher, epoch)
            .await
    }
}

impl StockConnection {
    async fn correct(
        &self,
        voucher: VoucherId,
        correction: &Correction,
    ) -> Result<CorrectReply, StockError> {
        if correction.holds.len() > MAX_ITEMS {
            return Err(StockError::too_many("holds"));
        }
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut cmd = self.invocation(Script::Correct, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(correction.epoch.get())
            .arg(correction.from.get())
            .arg(correction.to.get())
            .arg(correction.corrections)
            .arg(correction.stock)
            .arg(correction.held)
            .arg(correction.unsettled);
        for hold in &correction.holds {
            cmd.arg(&hold.field)
                .arg(hold.actual.as_deref().unwrap_or(NONE))
                .arg(hold.expected.as_deref().unwrap_or(NONE));
        }
        let reply = self.run(&cmd).await?;
        read_reply(&reply)
    }

    async fn shut(&self, voucher: VoucherId, epoch: Epoch) -> Result<CorrectReply, StockError> {
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut cmd = self.invocation(Script::Shut, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(epoch.get());
        let reply = self.run(&cmd).await?;
        read_reply(&reply)
    }
}

fn read_reply(reply: &crate::redis::reply::Reply) -> Result<CorrectReply, StockError> {
    match reply.answer() {
        "ok" => Ok(CorrectReply::Done),
        "moved" => Ok(CorrectReply::Moved),
        "short" => Ok(CorrectReply::Short),
        _ if reply.is_not_served() => Ok(CorrectReply::NotServed),
        _ => Err(reply.unexpected()),
    }
}
