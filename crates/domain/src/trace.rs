//! The trace that a request belongs to, as it travels in headers (W3C Trace Context, level 1).

use std::fmt;
use std::str::FromStr;

/// Why a text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case, \
     and neither id is all zeros"
)]
pub struct TraceParentError;

const LENGTH: usize = 55;

/// A `traceparent` of version 00: 55 bytes of lower-case hexadecimal digits and hyphens, so that
/// it may go into a header, a key or a script as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent([u8; LENGTH]);

impl TraceParent {
    /// Makes a sampled one of two random numbers; a zero, which would be no id, becomes one.
    ///
    /// # Panics
    /// Never: the numbers are formatted to the lengths that are parsed.
    #[must_use]
    pub fn generate(random: u128, span: u64) -> Self {
        let text = format!("00-{:032x}-{:016x}-01", random.max(1), span.max(1));
        text.parse().expect("formatted as it is parsed")
    }

    /// As text.
    ///
    /// # Panics
    /// Never: only hexadecimal digits and hyphens get in.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match str::from_utf8(&self.0) {
            Ok(text) => text,
            Err(_) => unreachable!(),
        }
    }

    /// The 32 hexadecimal digits that tracing tools look a trace up by.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.as_str()[3..35]
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| TraceParentError)?;
        let hyphens = bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = |part: &[u8]| hex(part) && part.iter().any(|b| *b != b'0');
        let well_formed = hyphens
            && bytes.starts_with(b"00")
            && id(&bytes[3..35])
            && id(&bytes[36..52])
            && hex(&bytes[53..]);
        if well_formed {
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

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_the_second_part() {
        let trace = TraceParent::generate(0xabc, 7);
        assert_eq!(trace.trace_id(), format!("{:032x}", 0xabc));
    }

    #[test]
    fn only_version_00_in_lower_case_with_ids_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(good.parse::<TraceParent>().unwrap().as_str(), good);
        for bad in [
            "",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad:?}");
        }
    }

    #[test]
    fn a_generated_one_is_well_formed_for_every_pair_of_numbers() {
        for (random, span) in [(0, 0), (1, 1), (u128::MAX, u64::MAX)] {
            let made = TraceParent::generate(random, span);
            assert_eq!(made.to_string().parse(), Ok(made));
        }
    }
}
