//! What operators do with the log, with the binary as they run it, against a real broker and database.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod dead_letters;
mod harness;
mod lag;
mod rebuild;
mod replay;
mod reset;
mod timeline;
