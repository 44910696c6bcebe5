//! The names of a sale's keys. All keys of a voucher are in the same hash slot. A name consists of the
//! deployment's prefix, integers and UUIDs.

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
    pub(crate) fn of(prefix: &str, voucher: VoucherId) -> Self {
        Self {
            sale: format!("{prefix}seckill:{{{voucher}}}:sale"),
            holds: format!("{prefix}seckill:{{{voucher}}}:holds"),
            outbox: format!("{prefix}seckill:{{{voucher}}}:outbox"),
            claim: format!("{prefix}seckill:{{{voucher}}}:claim"),
            tokens: format!("{prefix}seckill:{{{voucher}}}:tokens"),
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
    pub(crate) fn of(prefix: &str, voucher: VoucherId, nonce: Uuid) -> Self {
        Self {
            sale: format!("{prefix}seckill:{{{voucher}}}:load:{nonce}:sale"),
            holds: format!("{prefix}seckill:{{{voucher}}}:load:{nonce}:holds"),
            outbox: format!("{prefix}seckill:{{{voucher}}}:load:{nonce}:outbox"),
        }
    }
}
