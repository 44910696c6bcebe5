//! Processes with a wrong wall clock. libfaketime sets it at the start, and a small library of this crate changes it
//! while a process runs.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::process::wrapped;
use crate::scratch::scratch_dir;

/// The parent of Debian's multiarch directories.
const LIBRARIES: &str = "/usr/lib";
/// The variant for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// The part for C11's threads that libfaketime lacks.
const SHIM_SOURCE: &str = include_str!("clock/cnd_timedwait.c");
/// The library that changes the clock of a running process.
const STEPPING_SOURCE: &str = include_str!("clock/stepping.c");

static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
static STEPPING: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The environment of one of our services whose wall clock is `seconds` ahead (negative: behind) of
/// the machine's. Its monotonic clocks stay right, as on a machine with a wrong wall clock.
///
/// # Errors
/// When libfaketime is not installed, or there is no C compiler.
pub fn off_by(seconds: i64) -> Result<[(&'static str, String); 4]> {
    let shim = compiled(&SHIM, SHIM_SOURCE)?;
    let mut variables = variables(seconds)?;
    let (_, preload) = &mut variables[0];
    *preload = format!("{}:{preload}", shim.display());
    Ok(variables)
}

/// The wall clock of one process, which a test moves while it runs.
#[derive(Debug)]
pub struct SteppingClock {
    directory: TempDir,
}

impl SteppingClock {
    /// A clock that is right at first.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn new() -> Result<Self> {
        let clock = Self {
            directory: scratch_dir("stepping-clock")?,
        };
        fs::write(clock.file(), [0; 8])?;
        Ok(clock)
    }

    /// Moves it to so many seconds ahead of the machine's (negative: behind).
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Write the file in place, because the process has mapped it into its memory.
        let file = fs::File::options().write(true).open(self.file())?;
        file.write_all_at(&(seconds * 1_000_000).to_ne_bytes(), 0)?;
        Ok(())
    }

    /// `command` under this clock.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub fn command(&self, command: &Command) -> Result<Command> {
        let library = compiled(&STEPPING, STEPPING_SOURCE)?;
        let preload = format!("LD_PRELOAD={}", library.display());
        let file = format!("STEPPING_CLOCK={}", self.file().display());
        Ok(wrapped(command, "env", &[&preload, &file]))
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead_us")
    }
}

/// `command`, which must not use C11's threads, with a wrong clock. The library is preloaded only into `command`
/// itself: a wrapper that changes the user would leave shared memory that `command` may not open.
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

fn compiled(
    library: &'static OnceLock<Result<PathBuf, String>>,
    source: &str,
) -> Result<&'static PathBuf> {
    let library = library.get_or_init(|| compile(source).map_err(|error| format!("{error:#}")));
    library.as_ref().map_err(|message| anyhow!("{message}"))
}

/// The directory is kept for as long as this process may start others; the next run removes it.
fn compile(text: &str) -> Result<PathBuf> {
    let directory = scratch_dir("clock")?.keep();
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    fs::write(&source, text)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&library, &source])
        .output()
        .context("cannot run cc; install a C compiler")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cc: {}\n{message}", output.status);
    Ok(library)
}
