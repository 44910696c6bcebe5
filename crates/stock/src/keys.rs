//! The names of a sale's keys. All of one voucher share a hash slot. Nothing but integers and UUIDs
//! gets into a name.

use seckill_domain::VoucherId;
use uuid::Uuid;

/// Of a sale in use.
pub(crate) struct SaleKeys {
    pub(crate) sale: String,
    pub(crate) holds: String,
    pub(crate) outbox: String,
    pub(crate) claim: String,
    pub(crate) tokens: String,
}

impl SaleKeys {
    pub(crate) fn of(voucher: VoucherId) -> Self {
        Self {
            sale: format!("seckill:{{{voucher}}}:sale"),
            holds: format!("seckill:{{{voucher}}}:holds"),
            outbox: format!("seckill:{{{voucher}}}:outbox"),
            claim: format!("seckill:{{{voucher}}}:claim"),
            tokens: format!("seckill:{{{voucher}}}:tokens"),
        }
    }
}

/// Of a load that is not in use yet. They carry its nonce, so that two loads never mix.
pub(crate) struct LoadKeys {
    pub(crate) sale: String,
    pub(crate) holds: String,
    pub(crate) outbox: String,
}

impl LoadKeys {
    pub(crate) fn of(voucher: VoucherId, nonce: Uuid) -> Self {
        Self {
            sale: format!("seckill:{{{voucher}}}:load:{nonce}:sale"),
            holds: format!("seckill:{{{voucher}}}:load:{nonce}:holds"),
            outbox: format!("seckill:{{{voucher}}}:load:{nonce}:outbox"),
        }
    }
}
