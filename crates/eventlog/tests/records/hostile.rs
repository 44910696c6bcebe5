//! Bytes that nobody of ours wrote: refused without a panic and without a large allocation.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use seckill_eventlog::{DecodeError, decode_event, decode_outcome, encode_event, encode_outcome};

use crate::samples;

fn good_messages() -> Vec<Vec<u8>> {
    let events = samples::events().into_iter().map(|(_, e)| encode_event(&e));
    let outcomes = samples::outcomes().into_iter();
    events
        .chain(outcomes.map(|(_, o)| encode_outcome(&o)))
        .collect()
}

/// Whoever reads a message that is not refused may write it again: nothing was made up.
fn survives(bytes: &[u8]) {
    if let Ok(event) = decode_event(bytes) {
        assert_eq!(decode_event(&encode_event(&event)), Ok(event));
    }
    if let Ok(outcome) = decode_outcome(bytes) {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)), Ok(outcome));
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn a_known_schema_and_a_random_body(
        good in select(good_messages()),
        body in vec(any::<u8>(), 0..200),
    ) {
        survives(&[&good[..10], &body].concat());
    }

    #[test]
    fn mutations(
        good in select(good_messages()),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = good;
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        survives(&bytes);
    }
}

#[test]
fn every_truncation_and_every_addition_is_refused() {
    for good in good_messages() {
        for length in 0..good.len() {
            assert!(decode_event(&good[..length]).is_err());
            assert!(decode_outcome(&good[..length]).is_err());
        }
        let longer = [&good[..], &[0]].concat();
        for refusal in [decode_event(&longer).err(), decode_outcome(&longer).err()] {
            let expected = matches!(
                refusal,
                Some(DecodeError::TrailingBytes { count: 1, .. } | DecodeError::WrongTopic { .. })
            );
            assert!(expected, "{refusal:?}");
        }
    }
}

#[test]
fn a_length_prefix_that_lies_is_refused_before_it_is_believed() {
    let good = encode_event(&samples::events()[0].1);
    // 2^40 in Avro's zig-zag encoding, where event_id's length belongs.
    let lie = [0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    let refusal = decode_event(&[&good[..10], &lie].concat()).unwrap_err();
    let DecodeError::Body { record, problem } = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!(record, "SaleScheduled");
    assert!(problem.contains("1099511627776"), "{problem}");
}
