//! The bytes of every record, as they stand in logs already written: a change here is a change
//! that old readers and old records see.

use std::path::Path;

use seckill_eventlog::{decode_event, decode_outcome, encode_event, encode_outcome};

use crate::samples;

/// The bytes in `tests/golden/<name>.hex`: hexadecimal digits, white space between them ignored.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let file = format!("tests/golden/{name}.hex");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

#[test]
fn events_are_written_and_read_as_the_golden_files_say() {
    for (name, event) in samples::events() {
        let bytes = encode_event(&event);
        assert_eq!(hex::encode(&bytes), hex::encode(golden(name)), "{name}");
        assert_eq!(decode_event(&golden(name)), Ok(event), "{name}");
    }
}

#[test]
fn outcomes_are_written_and_read_as_the_golden_files_say() {
    for (name, outcome) in samples::outcomes() {
        let bytes = encode_outcome(&outcome);
        assert_eq!(hex::encode(&bytes), hex::encode(golden(name)), "{name}");
        assert_eq!(decode_outcome(&golden(name)), Ok(outcome), "{name}");
    }
}
