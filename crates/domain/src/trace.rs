//! The trace that a request belongs to, as it travels in headers (W3C Trace Context, level 1).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use uuid::Uuid;

/// Why a text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case, \
     and neither id is all zeros"
)]
pub struct TraceParentError;

const LENGTH: usize = 55;
const TRACE: Range<usize> = 3..35;
const SPAN: Range<usize> = 36..52;

/// A `traceparent` of version 00: 55 bytes of lower-case hexadecimal digits and hyphens, so that
/// it may go into a header, a key or a script as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent([u8; LENGTH]);

impl TraceParent {
    /// Makes a sampled one of two random numbers; a zero, which would be no id, becomes one.
    #[must_use]
    pub fn generate(random: u128, span: u64) -> Self {
        let mut text = *b"00-................................-................-01";
        text[TRACE].copy_from_slice(&hex_digits(random.max(1)));
        Self(text).child(span)
    }

    /// As text.
    ///
    /// # Panics
    /// Does not happen: the value consists of hexadecimal digits and hyphens.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match str::from_utf8(&self.0) {
            Ok(text) => text,
            Err(_) => unreachable!(),
        }
    }

    /// Another span of the same trace; a zero, which would be no id, becomes one.
    #[must_use]
    pub fn child(mut self, span: u64) -> Self {
        self.0[SPAN].copy_from_slice(&hex_digits(span.max(1).into())[16..]);
        self
    }

    /// The same, of a trace that is not sampled.
    #[must_use]
    pub const fn unsampled(mut self) -> Self {
        self.0[LENGTH - 1] = b'0';
        self
    }

    /// Whether the trace is sampled.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        let flags = self.0[LENGTH - 1];
        // Of the digits 0 to 9 and a to f, those whose lowest bit is set.
        if flags.is_ascii_digit() {
            flags & 1 == 1
        } else {
            flags & 1 == 0
        }
    }

    /// The ids of trace and span, as numbers.
    #[must_use]
    pub fn ids(&self) -> (u128, u64) {
        let text = self.as_str();
        let trace = u128::from_str_radix(self.trace_id(), 16);
        let span = u64::from_str_radix(&text[SPAN], 16);
        (trace.unwrap_or_default(), span.unwrap_or_default())
    }

    /// The 32 hexadecimal digits that tracing tools look a trace up by.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.as_str()[TRACE]
    }
}

fn hex_digits(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    Uuid::from_u128(number).simple().encode_lower(&mut digits);
    digits
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
    fn a_child_is_another_span_of_its_trace() {
        let parent = TraceParent::generate(0xabc, 7);
        assert_eq!(parent.ids(), (0xabc, 7));
        assert_eq!(parent.child(0xf00d).ids(), (0xabc, 0xf00d));
        assert_eq!(parent.child(0).ids(), (0xabc, 1));
        assert_eq!(
            parent.child(u64::MAX).to_string().parse(),
            Ok(parent.child(u64::MAX))
        );
    }

    #[test]
    fn the_lowest_bit_of_the_flags_says_whether_it_is_recorded() {
        let with = |flags: u8| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags:02x}");
            text.parse::<TraceParent>().unwrap()
        };
        for flags in 0..=u8::MAX {
            assert_eq!(with(flags).is_sampled(), flags & 1 == 1, "{flags:02x}");
        }
        assert!(!with(1).unsampled().is_sampled());
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
