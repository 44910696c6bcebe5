//! Processes whose wall clock is wrong, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::process::wrapped;
use crate::scratch::scratch_dir;

/// Where Debian's multiarch directories begin.
const LIBRARIES: &str = "/usr/lib";
/// The flavour for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// What libfaketime does not do for C11's threads.
const SHIM_SOURCE: &str = include_str!("clock/cnd_timedwait.c");

static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The environment of one of our services whose wall clock is `seconds` ahead (negative: behind) of
/// the machine's. Its monotonic clocks stay true, as they do on a machine that is set wrong.
///
/// # Errors
/// When libfaketime is not installed, or there is no C compiler.
pub fn off_by(seconds: i64) -> Result<[(&'static str, String); 4]> {
    let shim = SHIM.get_or_init(|| compile_shim().map_err(|error| format!("{error:#}")));
    let shim = shim.as_ref().map_err(|message| anyhow!("{message}"))?;
    let mut variables = variables(seconds)?;
    let (_, preload) = &mut variables[0];
    *preload = format!("{}:{preload}", shim.display());
    Ok(variables)
}

/// `command`, which does not use C11's threads, with its clock off. Nothing outside of it is
/// preloaded: a wrapper that changes the user would leave shared memory behind that `command` may
/// not open.
pub(crate) fn command_off_by(command: &Command, seconds: i64) -> Result<Command> {
    let variables = variables(seconds)?.map(|(name, value)| format!("{name}={value}"));
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

fn variables(seconds: i64) -> Result<[(&'static str, String); 4]> {
    let library = library().context("libfaketime is missing: install Debian's `faketime`")?;
    Ok([
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ])
}

/// The directory is kept for as long as this process may start others; the next run removes it.
fn compile_shim() -> Result<PathBuf> {
    let directory = scratch_dir("clock")?.keep();
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    fs::write(&source, SHIM_SOURCE)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&library, &source])
        .output()
        .context("cannot run cc; install a C compiler")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cc: {}\n{message}", output.status);
    Ok(library)
}
