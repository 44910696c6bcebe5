//! Payloads as bytes that are not valid events.

use seckill_domain::{
    Event, EventBody, EventId, LogRef, Money, OrderId, OrderPaid, PaymentId, Reason, StockAdjusted,
    Timestamp, VoucherId,
};
use seckill_eventlog::encode_event;
use seckill_testkit::produce::{prefixed, varint};
use uuid::Uuid;

/// The length of the magic bytes and the fingerprint before a record's fields.
const FRAMING_BYTES: usize = 10;
const NOW_MICROS: i64 = 1_781_784_000_000_000;

/// A restock of one unit. The stock shows if it is folded twice or not at all.
pub(super) fn restock(voucher: VoucherId) -> Vec<u8> {
    let body = EventBody::StockAdjusted(StockAdjusted {
        delta: 1,
        reason: Reason::new("found").expect("a reason"),
        epoch: None,
    });
    encode_event(&event(voucher, body))
}

fn event(voucher: VoucherId, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: voucher,
        occurred_at: Timestamp::new(NOW_MICROS).expect("a time"),
        body,
    }
}

fn payment(voucher: VoucherId) -> Vec<u8> {
    let body = EventBody::OrderPaid(OrderPaid {
        order_id: OrderId::from_parts(voucher, 9, 9),
        payment_id: PaymentId::new("p").expect("a payment id"),
        amount: Money::new(1, "EUR".parse().expect("a currency")).expect("an amount"),
        paid_at: Timestamp::new(NOW_MICROS).expect("a time"),
    });
    encode_event(&event(voucher, body))
}

/// The fields of a restock, each as its bytes.
struct Fields {
    event_id: Vec<u8>,
    voucher_id: Vec<u8>,
    occurred_at: Vec<u8>,
    delta: Vec<u8>,
    reason: Vec<u8>,
    epoch: Vec<u8>,
}

impl Fields {
    fn of(voucher: VoucherId) -> Self {
        Self {
            event_id: prefixed(Uuid::now_v7().to_string().as_bytes()),
            voucher_id: varint(voucher.get()),
            occurred_at: varint(NOW_MICROS),
            delta: varint(1),
            reason: prefixed(b"found"),
            epoch: varint(0),
        }
    }

    fn bytes(self, framing: &[u8]) -> Vec<u8> {
        [
            framing,
            &self.event_id,
            &self.voucher_id,
            &self.occurred_at,
            &self.delta,
            &self.reason,
            &self.epoch,
        ]
        .concat()
    }
}

/// A description, the bytes, and a part of the expected cause.
type Payload = (&'static str, Vec<u8>, &'static str);

/// Payloads that every version skips.
pub(super) fn malformed(voucher: VoucherId) -> Vec<Payload> {
    let good = restock(voucher);
    let mut payloads: Vec<Payload> = vec![
        ("empty", Vec::new(), "framing"),
        ("one byte of the magic", vec![0xC3], "framing"),
        ("the magic alone", vec![0xC3, 0x01], "framing"),
        ("half a fingerprint", good[..6].to_vec(), "framing"),
        ("half a schema id", vec![0, 0, 0], "framing"),
        ("JSON", br#"{"voucher_id":1}"#.to_vec(), "0x7b"),
        ("an Avro file", b"Obj\x01".to_vec(), "0x4f"),
        ("all ones", vec![0xFF; 64], "0xff"),
        ("no fields", good[..FRAMING_BYTES].to_vec(), "StockAdjusted"),
        (
            "its last byte is missing",
            good[..good.len() - 1].to_vec(),
            "StockAdjusted",
        ),
        (
            "half of it",
            good[..good.len() / 2].to_vec(),
            "StockAdjusted",
        ),
        (
            "a byte too many",
            [&good[..], &[0]].concat(),
            "1 bytes too many",
        ),
        ("twice", [&good[..], &good].concat(), "too many"),
        (
            "of another topic",
            of_another_topic(voucher),
            "does not belong",
        ),
        (
            "a payment in the year 1",
            year_one(voucher),
            "OrderPaid.paid_at",
        ),
    ];
    for (name, change, cause) in ENCODED_WRONGLY.iter().chain(&OUT_OF_RANGE) {
        let mut fields = Fields::of(voucher);
        change(&mut fields);
        payloads.push((name, fields.bytes(&good[..FRAMING_BYTES]), cause));
    }
    payloads
}

/// What is wrong, the change that makes a restock wrong, and a part of the expected cause.
type Change = (&'static str, fn(&mut Fields), &'static str);

const ENCODED_WRONGLY: [Change; 8] = [
    (
        "a text of 2^40 bytes",
        |f| f.reason = [varint(1 << 40), b"x".to_vec()].concat(),
        "StockAdjusted",
    ),
    (
        "a text of -5 bytes",
        |f| f.reason = [varint(-5), b"found".to_vec()].concat(),
        "StockAdjusted",
    ),
    (
        "a number of eleven bytes",
        |f| f.delta = [vec![0xFF; 10], vec![0x01]].concat(),
        "StockAdjusted",
    ),
    (
        "a number without an end",
        |f| f.epoch = vec![0xFF; 300],
        "StockAdjusted",
    ),
    (
        "a text that is not UTF-8",
        |f| f.reason = prefixed(&[0xFF, 0xFE]),
        "StockAdjusted",
    ),
    (
        "a text with U+0000",
        |f| f.reason = prefixed(b"a\0b"),
        "StockAdjusted.reason",
    ),
    (
        "an id that is none",
        |f| f.event_id = prefixed(b"7"),
        "StockAdjusted",
    ),
    (
        "the seventh of two branches",
        |f| f.epoch = varint(7),
        "StockAdjusted",
    ),
];

const OUT_OF_RANGE: [Change; 6] = [
    ("no units", |f| f.delta = varint(0), "StockAdjusted.delta"),
    (
        "sale 0",
        |f| f.voucher_id = varint(0),
        "StockAdjusted.voucher_id",
    ),
    (
        "sale -1",
        |f| f.voucher_id = varint(-1),
        "StockAdjusted.voucher_id",
    ),
    (
        "sale 2^40",
        |f| f.voucher_id = varint(1 << 40),
        "StockAdjusted.voucher_id",
    ),
    (
        "before 1970",
        |f| f.occurred_at = varint(-1),
        "StockAdjusted.occurred_at",
    ),
    (
        "at the end of time",
        |f| f.occurred_at = varint(i64::MAX),
        "StockAdjusted.occurred_at",
    ),
];

fn year_one(voucher: VoucherId) -> Vec<u8> {
    let mut bytes = payment(voucher);
    bytes.truncate(bytes.len() - varint(NOW_MICROS).len());
    bytes.extend(varint(-62_135_596_800_000_000));
    bytes
}

/// A record of the outcome topic. Its values do not matter.
fn of_another_topic(voucher: VoucherId) -> Vec<u8> {
    let phase = seckill_domain::SaleOutcome {
        phase: seckill_domain::SalePhase::Closed,
        version: 1,
        delta: 0,
    };
    let effect = seckill_domain::Effect {
        voucher_id: voucher,
        offset: seckill_domain::Offset::new(0),
        stock: None,
        outcome: seckill_domain::Outcome::Sale(phase),
    };
    let now = Timestamp::new(NOW_MICROS).expect("a time");
    let outcome = seckill_eventlog::OutcomeRecord::new(&effect, 0, LogRef::default(), now);
    seckill_eventlog::encode_outcome(&outcome)
}
