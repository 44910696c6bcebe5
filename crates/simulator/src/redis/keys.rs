//! The data of a node.

use std::collections::BTreeMap;

use seckill_script_model::{Sale, SaleTokens};
use uuid::Uuid;

use super::node::Fence;

/// A sale, and whether it may be used.
#[derive(Debug, Clone)]
pub(crate) struct StoredSale {
    pub(crate) contents: Sale,
    /// The nonce of the load that made it.
    pub(crate) load: Uuid,
    /// The fence of the server that it was loaded into.
    pub(crate) fence: Fence,
    /// Whether a claim has taken it out of service.
    pub(crate) shut: bool,
    /// Whether a part of it was deleted or evicted. That part is empty and no longer names the load.
    pub(crate) torn: bool,
}

impl StoredSale {
    /// Why the numbers contradict each other, if they do.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        if self.contents.stock < 0 {
            Some("stock in Redis is negative")
        } else if !self.torn && !self.contents.adds_up() {
            Some("counters in Redis are wrong")
        } else {
            None
        }
    }
}

/// Everything a node stores.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) sale: Option<StoredSale>,
    pub(crate) tokens: SaleTokens,
    /// Nonce and fence of the load that has the claim.
    pub(crate) claim: Option<(Uuid, Fence)>,
    /// The contents of loads, by nonce.
    pub(crate) staged: BTreeMap<Uuid, Sale>,
}
