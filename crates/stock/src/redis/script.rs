//! The Lua scripts.

/// The most items in one call, of any kind.
pub const MAX_ITEMS: usize = 500;

/// The most requests in one [`crate::Stock::reserve`].
pub const MAX_REQUESTS: usize = 64;

/// A script. Its discriminant is its index in [`Script::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Reserve,
    Shrink,
    Settle,
    Clear,
    Outbox,
    Pending,
    Probe,
    Claim,
    LoadChunk,
    Open,
    Retire,
    Scan,
    Correct,
    Shut,
    TakesWrites,
    Discard,
}

macro_rules! source {
    ($file:literal) => {
        concat!(
            include_str!("../../scripts/prelude.lua"),
            include_str!(concat!("../../scripts/", $file))
        )
    };
}

impl Script {
    pub(crate) const COUNT: usize = 16;

    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Reserve,
        Self::Shrink,
        Self::Settle,
        Self::Clear,
        Self::Outbox,
        Self::Pending,
        Self::Probe,
        Self::Claim,
        Self::LoadChunk,
        Self::Open,
        Self::Retire,
        Self::Scan,
        Self::Correct,
        Self::Shut,
        Self::TakesWrites,
        Self::Discard,
    ];

    pub(crate) const fn source(self) -> &'static str {
        match self {
            Self::Reserve => source!("reserve.lua"),
            Self::Shrink => source!("shrink.lua"),
            Self::Settle => source!("settle.lua"),
            Self::Clear => source!("clear.lua"),
            Self::Outbox => source!("outbox.lua"),
            Self::Pending => source!("pending.lua"),
            Self::Probe => source!("probe.lua"),
            Self::Claim => source!("claim.lua"),
            Self::LoadChunk => source!("load_chunk.lua"),
            Self::Open => source!("open.lua"),
            Self::Retire => source!("retire.lua"),
            Self::Scan => source!("scan.lua"),
            Self::Correct => source!("correct.lua"),
            Self::Shut => source!("shut.lua"),
            Self::TakesWrites => source!("takes_writes.lua"),
            Self::Discard => source!("discard.lua"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_at_its_place() {
        for (place, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, place);
        }
    }

    /// A call for a sale with a hundred thousand holds must not cost more than one for a sale with ten.
    #[test]
    fn no_script_walks_a_whole_hash() {
        for script in Script::ALL {
            for command in ["HGETALL", "HKEYS", "HVALS", "'DEL'", "KEYS *", "SCAN'"] {
                let pages = matches!(script, Script::Outbox | Script::Scan);
                let paged = pages && command == "SCAN'";
                let uses = script.source().contains(command);
                assert_eq!(uses, paged, "{script:?} and {command}");
            }
        }
    }
}
