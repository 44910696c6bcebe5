//! Texts that people write: a sale's title, an operator's reason.
//!
//! What is in a log has to stay readable for ever, so each type has two constructors. `new` accepts
//! everything that a log may contain. `written` is for new texts: it accepts less, and nothing that
//! `new` refuses.

use std::fmt;

/// Why a text is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// PostgreSQL cannot store it.
    #[error("holds U+0000, which PostgreSQL cannot store")]
    Nul,
    /// Too long, blank, or with control characters.
    #[error(
        "1 to {max_chars} characters, not all of them spaces and none that controls how others are shown"
    )]
    NotOneLine {
        /// The most characters.
        max_chars: usize,
    },
}

/// What buyers see of a sale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Title(String);

/// Who did something, as an operator is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Actor(String);

/// Why an operator did something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reason(String);

macro_rules! text {
    ($name:ident, $max_chars:literal) => {
        impl $name {
            /// The most characters of one that is written now.
            pub const MAX_CHARS: usize = $max_chars;

            /// Any text without U+0000: what a log may hold.
            ///
            /// # Errors
            /// [`TextError::Nul`].
            pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
                without_nul(text.into()).map(Self)
            }

            /// What somebody writes now: one line of up to [`Self::MAX_CHARS`] characters. White
            /// space at its ends is cut off.
            ///
            /// # Errors
            /// [`TextError`] when it is blank, too long, or holds a character that controls how the others
            /// are shown.
            pub fn written(text: &str) -> Result<Self, TextError> {
                Self::new(one_line(text, Self::MAX_CHARS)?)
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Title, 200);
text!(Actor, 100);
text!(Reason, 200);

impl Reason {
    /// The reason of a shrink whose own reason is not known: Redis does not store it.
    #[must_use]
    pub fn of_a_shrink() -> Self {
        Self("shrink".to_owned())
    }
}

fn without_nul(text: String) -> Result<String, TextError> {
    if text.contains('\0') {
        Err(TextError::Nul)
    } else {
        Ok(text)
    }
}

fn one_line(text: &str, max_chars: usize) -> Result<&str, TextError> {
    let trimmed = text.trim();
    let fits = !trimmed.is_empty() && text.chars().count() <= max_chars;
    if fits && !text.contains(controls) {
        Ok(trimmed)
    } else {
        Err(TextError::NotOneLine { max_chars })
    }
}

/// Control characters, line and paragraph separators, and characters that change the direction of text.
/// With these, one text can look like another.
fn controls(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_log_may_hold_every_text_without_nul() {
        let long = "x".repeat(10_000);
        for text in ["", " ", "a\nb", "\u{1b}[2J", "\u{7f}\u{9b}", &long] {
            assert_eq!(Title::new(text).map(|t| t.to_string()), Ok(text.to_owned()));
            assert_eq!(
                Reason::new(text).map(|r| r.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(Title::new("a\0b"), Err(TextError::Nul));
        assert_eq!(Reason::new("\0"), Err(TextError::Nul));
    }

    #[test]
    fn what_is_written_now_is_one_line() {
        let written = |text: &str| Title::written(text).map(|t| t.to_string()).ok();
        assert_eq!(
            written(" Lamp, 第一排 🎫 "),
            Some("Lamp, 第一排 🎫".to_owned())
        );
        // Marks that letters and signs are written with.
        for good in ["\u{1f469}\u{200d}\u{1f4bb}", "\u{200f}שלום", "e\u{301}"] {
            assert_eq!(written(good), Some(good.to_owned()));
        }
        let longest = "é".repeat(Title::MAX_CHARS);
        assert_eq!(written(&longest), Some(longest.clone()));
        for bad in [
            "",
            "  ",
            "a\0b",
            "a\nb",
            "a\t",
            "\u{1b}[2J",
            "a\u{9b}",
            "\u{7f}",
            "two\u{2028}lines",
            "two\u{2029}paragraphs",
            "Lamp \u{202e}gnp.exe",
            "a\u{2066}b\u{2069}",
        ] {
            assert_eq!(written(bad), None, "{bad:?}");
        }
        assert_eq!(written(&format!("{longest}é")), None);
    }

    proptest! {
        #[test]
        fn what_can_be_written_can_be_held(text in any::<String>()) {
            if let Ok(reason) = Reason::written(&text) {
                prop_assert_eq!(Reason::new(reason.as_str()), Ok(reason));
            }
        }
    }
}
