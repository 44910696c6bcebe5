//! Well-formed records that say what cannot be, and framings that are not ours.

use seckill_domain::{
    Epoch, EventBody, Money, OrderId, Reason, StockAdjusted, VoucherId, partition_of,
};
use seckill_eventlog::{
    DecodeError, Headers, Record, decode_event, decode_outcome, encode_event, encode_outcome,
};

use crate::samples::{self, event, reserved, scheduled};

/// The field that the refusal names.
fn refused_field(body: EventBody) -> &'static str {
    match decode_event(&encode_event(&event(body))) {
        Err(DecodeError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_names_the_field() {
    let scheduled_with = |change: fn(&mut seckill_domain::Terms)| {
        let mut sale = scheduled();
        change(&mut sale.terms);
        refused_field(EventBody::SaleScheduled(sale))
    };
    assert_eq!(scheduled_with(|t| t.stock = -1), "stock");
    assert_eq!(scheduled_with(|t| t.max_quantity = 0), "max_quantity");
    assert_eq!(scheduled_with(|t| t.hold_seconds = 0), "hold_seconds");
    assert_eq!(scheduled_with(|t| t.closes_at = t.opens_at), "closes_at");

    let reserved_with = |change: fn(&mut seckill_domain::SeckillReserved)| {
        let mut body = reserved(None);
        change(&mut body);
        refused_field(EventBody::SeckillReserved(body))
    };
    assert_eq!(reserved_with(|e| e.quantity = 0), "quantity");
    assert_eq!(reserved_with(|e| e.epoch = Epoch::new(0)), "epoch");
    let other_voucher = |e: &mut seckill_domain::SeckillReserved| {
        e.order_id = OrderId::from_parts(VoucherId::new(43).unwrap(), 1, 1);
    };
    assert_eq!(reserved_with(other_voucher), "order_id");

    let nothing = StockAdjusted {
        delta: 0,
        reason: Reason::default(),
        epoch: None,
    };
    assert_eq!(refused_field(EventBody::StockAdjusted(nothing)), "delta");
}

/// Replaces a text in an encoded record by one of the same length.
fn with_text(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|w| w == old.as_bytes());
    let at = at.expect("the text is there");
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn texts_that_the_domain_has_no_value_for_are_refused() {
    let of = |name: &str| {
        let found = samples::events().into_iter().find(|(n, _)| *n == name);
        encode_event(&found.unwrap().1)
    };
    let field = |bytes: &[u8]| match decode_event(bytes) {
        Err(DecodeError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        field(&with_text(&of("OrderPaid"), "EUR", "eur")),
        "currency"
    );
    assert_eq!(
        field(&with_text(&of("OrderPaid"), "pay_", "pay ")),
        "payment_id"
    );
    assert_eq!(
        field(&with_text(&of("SaleClosed"), "01978300-", "x1978300-")),
        "event_id"
    );
    let hash = "30313233343536373839616263646566";
    let bytes = with_text(&of("SeckillReserved"), hash, &hash.replace('6', "g"));
    assert_eq!(field(&bytes), "key_hash");

    let outcome = encode_outcome(&samples::outcomes()[0].1);
    let unknown = decode_outcome(&with_text(&outcome, "unpaid", "unsaid"));
    assert!(
        matches!(
            unknown,
            Err(DecodeError::Invalid {
                field: "status",
                ..
            })
        ),
        "{unknown:?}"
    );
}

#[test]
fn a_record_of_the_other_topic_is_refused() {
    let outcome = encode_outcome(&samples::outcomes()[0].1);
    let event = encode_event(&samples::events()[0].1);
    assert_eq!(
        decode_event(&outcome),
        Err(DecodeError::WrongTopic {
            record: "OrderOutcome".to_owned()
        })
    );
    assert_eq!(
        decode_outcome(&event),
        Err(DecodeError::WrongTopic {
            record: "SaleScheduled".to_owned()
        })
    );
}

#[test]
fn unknown_framings_say_what_they_are() {
    let mut newer = encode_event(&samples::events()[0].1);
    newer[2..10].copy_from_slice(&1_u64.to_le_bytes());
    assert_eq!(
        decode_event(&newer),
        Err(DecodeError::UnknownFingerprint { fingerprint: 1 })
    );
    assert_eq!(decode_event(&[]), Err(DecodeError::TooShort));
    assert_eq!(decode_event(&[0xC3, 0x01, 5]), Err(DecodeError::TooShort));
    assert_eq!(decode_event(&[0, 0, 0]), Err(DecodeError::TooShort));
    assert_eq!(
        decode_event(b"{\"order_id\":1}"),
        Err(DecodeError::UnknownFraming { first: b'{' })
    );
}

#[test]
fn an_event_has_to_stand_where_its_voucher_leads() {
    const PARTITIONS: i32 = 12;
    let expected = event(EventBody::SeckillReserved(reserved(None)));
    let key = samples::voucher().to_string();
    let right = partition_of(key.as_bytes(), PARTITIONS);
    let record = |partition, key: Option<&str>| Record {
        partition,
        offset: seckill_domain::Offset::new(0),
        key: key.map(|k| k.as_bytes().to_vec()),
        payload: Some(encode_event(&expected)),
        headers: Headers::default(),
        timestamp_ms: None,
    };
    assert_eq!(
        record(right, Some(&key)).event(PARTITIONS),
        Ok(expected.clone())
    );
    for wrong in [None, Some("43"), Some("042"), Some("")] {
        assert_eq!(
            record(right, wrong).event(PARTITIONS),
            Err(DecodeError::WrongKey {
                expected: key.clone()
            })
        );
    }
    let elsewhere = (right + 1) % PARTITIONS;
    assert_eq!(
        record(elsewhere, Some(&key)).event(PARTITIONS),
        Err(DecodeError::WrongPartition {
            partition: elsewhere,
            expected: right
        })
    );
    let tombstone = Record {
        payload: None,
        ..record(right, Some(&key))
    };
    assert_eq!(tombstone.event(PARTITIONS), Err(DecodeError::NoPayload));
}

#[test]
fn money_below_zero_is_refused() {
    // The domain cannot hold such an amount, so the bytes are changed: 9980 becomes -9980.
    let paid = samples::events()
        .into_iter()
        .find(|(n, _)| *n == "OrderPaid");
    let mut bytes = encode_event(&paid.unwrap().1);
    assert!(Money::new(-9_980, "EUR".parse().unwrap()).is_err());
    let zigzag = |n: i64| {
        let z = ((n << 1) ^ (n >> 63)).cast_unsigned();
        [0x80 | (z & 0x7f), 0x80 | ((z >> 7) & 0x7f), z >> 14].map(|b| u8::try_from(b).unwrap())
    };
    let old = zigzag(9_980);
    let at = bytes.windows(3).position(|w| w == old).unwrap();
    bytes[at..at + 3].copy_from_slice(&zigzag(-9_980));
    let refusal = decode_event(&bytes);
    assert!(
        matches!(
            refusal,
            Err(DecodeError::Invalid {
                field: "amount_cents",
                ..
            })
        ),
        "{refusal:?}"
    );
}
