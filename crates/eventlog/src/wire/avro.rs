//! What every record has: its kind, and the fields that it begins with.

use seckill_domain::{EventId, Timestamp, VoucherId};
use serde::{Serialize, de::DeserializeOwned};

use crate::wire::schemas::RecordKind;

/// A record with a schema of its own.
pub(crate) trait Wire: Serialize + DeserializeOwned {
    /// Which.
    const KIND: RecordKind;

    /// Its first three fields: `event_id`, `voucher_id`, `occurred_at`.
    fn head(&self) -> (&str, i64, i64);
}

/// The fields that every record begins with.
pub(crate) struct Head {
    pub(crate) event_id: String,
    pub(crate) voucher_id: i64,
    pub(crate) occurred_at: i64,
}

impl Head {
    pub(crate) fn new(event_id: EventId, voucher_id: VoucherId, occurred_at: Timestamp) -> Self {
        Self {
            event_id: event_id.to_string(),
            voucher_id: voucher_id.get(),
            occurred_at: occurred_at.as_micros(),
        }
    }
}

/// A record whose first three fields come from a [`Head`].
macro_rules! with_head {
    ($head:ident $(, $field:ident: $value:expr)* $(,)?) => {
        Self {
            event_id: $head.event_id,
            voucher_id: $head.voucher_id,
            occurred_at: $head.occurred_at,
            $($field: $value,)*
        }
    };
}
pub(crate) use with_head;

/// A record as Avro's serde sees it: fields in the order of the schema, plain types. What the values may
/// be is checked where they become the domain's types.
macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct $name {
            event_id: String,
            voucher_id: i64,
            occurred_at: i64,
            $($field: $type,)*
        }

        impl $crate::wire::avro::Wire for $name {
            const KIND: $crate::wire::schemas::RecordKind = $crate::wire::schemas::RecordKind::$name;

            fn head(&self) -> (&str, i64, i64) {
                (&self.event_id, self.voucher_id, self.occurred_at)
            }
        }
    };
}
pub(crate) use record;
