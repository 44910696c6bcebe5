//! Processes that die, panic, stand still or are told to end.

mod chaos;
mod deaths;
pub(crate) mod killed_commands;
mod late_deaths;
mod orderly_end;
mod panics;
mod reload_deaths;
mod skip_deaths;
mod sleepers;
