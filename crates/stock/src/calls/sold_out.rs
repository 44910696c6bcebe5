//! What a caller has to know to refuse orders of a sold-out sale itself.

use std::time::Duration;

use seckill_domain::{UserId, VoucherId};

use crate::calls::scan::Scan;
use crate::calls::stock::Stock;
use crate::redis::error::StockError;
use crate::redis::reply::{NONE, parse};

/// Permission to answer `sold-out` without asking Redis: until it is over, no call takes units for a buyer. It does not
/// hold for buyers who have ordered before, whom Redis answers with their order: [`Stock::holders`] are all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoldOutLease {
    /// How long it lasts. It begins while the call is made, so it counts from before its sending.
    pub lasts: Duration,
    /// The most units in one order. An order of more is refused for that.
    pub max_quantity: u32,
    /// Whether an order needs a sale token. An order without one is refused for that.
    pub requires_sale_token: bool,
    /// Which buyers have ordered.
    pub holders: HoldersVersion,
}

/// Identifies the buyers who have ordered in a sale: as long as it is the same, so are they. It is that of one load of
/// the sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldersVersion(String);

impl From<&str> for HoldersVersion {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl HoldersVersion {
    fn is_of(&self, load: &str) -> bool {
        self.0.split(':').next() == Some(load)
    }
}

impl SoldOutLease {
    /// Reads it as `reserve.lua` writes it.
    pub(crate) fn read(text: &str, max_quantity: u32) -> Result<Option<Self>, StockError> {
        if text == NONE {
            return Ok(None);
        }
        let fields: Vec<&str> = text.split('|').collect();
        let [micros, sale_token, holders] = fields[..] else {
            return Err(StockError::Protocol(format!("lease {text:?}")));
        };
        Ok(Some(Self {
            lasts: Duration::from_micros(parse(micros)?),
            max_quantity,
            requires_sale_token: sale_token == "1",
            holders: HoldersVersion::from(holders),
        }))
    }
}

impl Stock {
    /// The buyers who have ordered in a sale, in ascending order: all of the `version` that was read before, and perhaps
    /// some who came later. It is read beside orders that must not wait for it. None: the sale is not served, or it is of
    /// another load, here or at the server that answers now.
    ///
    /// # Errors
    /// As any call.
    pub async fn holders(
        &self,
        voucher: VoucherId,
        version: &HoldersVersion,
    ) -> Result<Option<Vec<UserId>>, StockError> {
        let (mut holders, mut one_load) = (Vec::new(), true);
        let served = self
            .scan_pages(voucher, Scan::with_rests(), |page| {
                one_load &= version.is_of(&page.load);
                // Shrinks have names of another form.
                let names = page.fields.iter().map(|field| &field.name);
                holders.extend(names.filter_map(|name| name.parse::<UserId>().ok()));
            })
            .await?;
        holders.sort_unstable();
        holders.dedup();
        Ok((served && one_load).then_some(holders))
    }
}
