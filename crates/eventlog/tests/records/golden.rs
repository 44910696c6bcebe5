//! The bytes of every record, as they stand in logs already written: a change here is a change
//! that old readers and old records see.

use std::path::{Path, PathBuf};

use seckill_eventlog::{decode_event, decode_outcome, encode_event, encode_outcome};

use crate::samples;

fn path(name: &str) -> PathBuf {
    let file = format!("tests/golden/{name}.hex");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The bytes in `tests/golden/<name>.hex`: hexadecimal digits, white space between them ignored.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// The same. With `SECKILL_WRITE` a record that has no file yet gets one of `now`; no file is ever changed.
pub(crate) fn golden_or_new(name: &str, now: &[u8]) -> Vec<u8> {
    let path = path(name);
    if std::env::var_os("SECKILL_WRITE").is_some() && !path.exists() {
        std::fs::write(&path, hex::encode(now) + "\n").unwrap();
    }
    golden(name)
}

#[test]
fn events_are_written_and_read_as_the_golden_files_say() {
    for (name, event) in samples::events() {
        let bytes = encode_event(&event);
        let kept = golden_or_new(name, &bytes);
        assert_eq!(hex::encode(&bytes), hex::encode(kept), "{name}");
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
