//! The records as Avro's serde sees them: fields in the order of the schema, plain types. What
//! the values may be is checked where they become the domain's types.

use seckill_domain::{EventId, Timestamp, VoucherId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name {
            pub(crate) event_id: String,
            pub(crate) voucher_id: i64,
            pub(crate) occurred_at: i64,
            $(pub(crate) $field: $type,)*
        }

        impl Wire for $name {
            const KIND: RecordKind = RecordKind::$name;

            fn head(&self) -> (&str, i64, i64) {
                (&self.event_id, self.voucher_id, self.occurred_at)
            }
        }
    };
}

record!(SaleScheduled {
    title: String,
    price_cents: i64,
    currency: String,
    stock: i64,
    max_quantity: i32,
    opens_at: i64,
    closes_at: i64,
    hold_seconds: i32,
    requires_sale_token: Option<bool>,
});

record!(StockAdjusted {
    delta: i64,
    reason: String,
    epoch: Option<i64>,
});

record!(SaleClosed {});

record!(SaleReloaded {
    previous_epoch: i64,
    epoch: i64,
    nonce: String,
    first: Option<bool>,
});

record!(RecordSkipped {
    partition: i32,
    offset: i64,
    reason: String,
    actor: String,
});

record!(SeckillReserved {
    order_id: String,
    user_id: i64,
    quantity: i32,
    price_cents: i64,
    currency: String,
    pay_by: i64,
    epoch: i64,
    key_hash: Option<String>,
});

record!(OrderPaid {
    order_id: String,
    payment_id: String,
    amount_cents: i64,
    currency: String,
    paid_at: i64,
});

record!(OrderCancelled {
    order_id: String,
    user_id: i64,
});

record!(OrderExpired {
    order_id: String,
    pay_by: i64,
});

record!(OrderOutcome {
    order_id: String,
    user_id: i64,
    quantity: i32,
    amount_cents: i64,
    currency: String,
    status: String,
    version: i64,
    rejected_reason: Option<String>,
    pay_by: i64,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});

record!(SaleOutcome {
    phase: String,
    version: i64,
    delta: i64,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});

record!(RefundDue {
    payment_id: String,
    order_id: String,
    amount_cents: i64,
    currency: String,
    reason: String,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});
