//! How often a code is sent to one mailbox: levels of a sliding window.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const LEVELS_MAX: usize = 8;
const COUNT_MAX: u32 = 100;
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// How many clients it takes at least to block a mailbox for all others.
const CLIENTS_TO_BLOCK: u32 = 5;

/// One level: `count` codes within `window` block the mailbox for `block`, from the last of them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Codes sent.
    pub count: u32,
    /// Within which time.
    pub window: Duration,
    /// For how long no further code is sent.
    pub block: Duration,
}

/// All levels; a code is sent only if none of them blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(Vec<Limit>);

/// The text names no limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no list like 1/60/60,5/300/300: codes (1 to 100), window and block in seconds (1 to 86400), 1 to 8 levels"
)]
pub struct LimitError;

impl Limits {
    #[must_use]
    pub fn levels(&self) -> &[Limit] {
        &self.0
    }

    /// The same for all clients together: what one of them may ask for does not block the others.
    #[must_use]
    pub fn of_all_clients(&self) -> Self {
        let of_all = |level: &Limit| Limit {
            count: level.count * CLIENTS_TO_BLOCK,
            ..*level
        };
        Self(self.0.iter().map(of_all).collect())
    }
}

impl Default for Limits {
    /// One a minute; five within 5 minutes block for 5 minutes; ten within 20 minutes for 20; twenty
    /// within a day for an hour.
    fn default() -> Self {
        let level = |count, window, block| Limit {
            count,
            window: Duration::from_secs(window),
            block: Duration::from_secs(block),
        };
        Self(vec![
            level(1, 60, 60),
            level(5, 300, 300),
            level(10, 1200, 1200),
            level(20, 86_400, 3600),
        ])
    }
}

impl FromStr for Limits {
    type Err = LimitError;

    /// `count/window/block` in seconds, levels apart by commas.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let levels: Vec<Limit> = text.split(',').map(parse_level).collect::<Result<_, _>>()?;
        if levels.len() <= LEVELS_MAX {
            Ok(Self(levels))
        } else {
            Err(LimitError)
        }
    }
}

fn parse_level(text: &str) -> Result<Limit, LimitError> {
    let mut parts = text.trim().split('/');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (count, window, block) = (next(), next(), next());
    let count = count.and_then(|count| u32::try_from(count).ok());
    let count = count.filter(|count| (1..=COUNT_MAX).contains(count));
    let seconds = |value: Option<u64>| value.filter(|value| (1..=SECONDS_MAX).contains(value));
    match (count, seconds(window), seconds(block), parts.next()) {
        (Some(count), Some(window), Some(block), None) => Ok(Limit {
            count,
            window: Duration::from_secs(window),
            block: Duration::from_secs(block),
        }),
        _ => Err(LimitError),
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, level) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let (window, block) = (level.window.as_secs(), level.block.as_secs());
            write!(f, "{comma}{}/{window}/{block}", level.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_contracts() {
        let default = Limits::default();
        assert_eq!(
            default.to_string(),
            "1/60/60,5/300/300,10/1200/1200,20/86400/3600"
        );
        assert_eq!(default.to_string().parse(), Ok(default));
    }

    #[test]
    fn a_list_without_sense_is_refused() {
        for text in [
            "",
            ",",
            "1/60",
            "1/60/60/60",
            "0/60/60",
            "101/60/60",
            "1/0/60",
            "1/60/0",
            "a/60/60",
            "1/60/60,",
            "-1/60/60",
            "1/86401/1",
            "1/1/1,1/1/1,1/1/1,1/1/1,1/1/1,1/1/1,1/1/1,1/1/1,1/1/1",
        ] {
            assert_eq!(text.parse::<Limits>(), Err(LimitError), "{text:?}");
        }
    }
}
