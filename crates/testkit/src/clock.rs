//! Processes whose wall clock is wrong, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::wrapped;

/// Where Debian's multiarch directories begin.
const LIBRARIES: &str = "/usr/lib";
/// The flavour for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The environment of a process whose wall clock is `seconds` ahead (negative: behind) of the
/// machine's. Its monotonic clocks stay true, as they do on a machine that is set wrong.
///
/// # Errors
/// When libfaketime is not installed.
pub fn off_by(seconds: i64) -> Result<[(&'static str, String); 4]> {
    let library = library().context("libfaketime is missing: install Debian's `faketime`")?;
    Ok([
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ])
}

/// `command`, with its clock off. Nothing outside of it is preloaded: a wrapper that changes the
/// user would leave shared memory behind that `command` may not open.
pub(crate) fn command_off_by(command: &Command, seconds: i64) -> Result<Command> {
    let variables = off_by(seconds)?.map(|(name, value)| format!("{name}={value}"));
    let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
    Ok(wrapped(command, "env", &variables))
}

/// The installed library, if there is one.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let directories = fs::read_dir(LIBRARIES).ok()?.flatten();
    let mut candidates = directories.map(|entry| entry.path().join(LIBRARY));
    candidates.find(|path| path.is_file())
}
