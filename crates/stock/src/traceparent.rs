//! The `traceparent` header of W3C Trace Context, as far as a script may see it: 55 characters of a
//! fixed alphabet, nothing free-form.

use std::fmt;
use std::str::FromStr;

/// Bytes of `00-<32 hexadecimal digits>-<16>-<2>`.
const LENGTH_BYTES: usize = 55;
const DASHES: [usize; 3] = [2, 35, 52];

/// Why a text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-<trace id, 32 hexadecimal digits>-<parent id, 16>-<flags, 2>")]
pub struct TraceParentError;

/// A `traceparent` of version 00 with a trace id and a parent id that are not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent([u8; LENGTH_BYTES]);

impl TraceParent {
    /// As the header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes: [u8; LENGTH_BYTES] = text.as_bytes().try_into().map_err(|_| TraceParentError)?;
        let spelled = bytes.iter().enumerate().all(|(at, byte)| {
            if DASHES.contains(&at) {
                *byte == b'-'
            } else {
                matches!(byte, b'0'..=b'9' | b'a'..=b'f')
            }
        });
        let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == b'0');
        if spelled && zero(0..2) && !zero(3..35) && !zero(36..52) {
            Ok(Self(bytes))
        } else {
            Err(TraceParentError)
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_standard_allows_and_nothing_else() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(good.parse::<TraceParent>().unwrap().to_string(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00|4bf92f3577b34da6a3ce929d0e0e4736|00f067aa0ba902b7|01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad}");
        }
    }
}
