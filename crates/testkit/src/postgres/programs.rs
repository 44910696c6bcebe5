//! Finds PostgreSQL's programs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The full path of one of PostgreSQL's programs: of the newest installed version, which is not in PATH on Debian, or
/// otherwise from PATH.
///
/// # Errors
/// When there is none.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest_version()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} not found: install PostgreSQL 15 or newer"))
}

fn newest_version() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            // A package with only the client has psql in this directory, but no server.
            programs
                .join("initdb")
                .is_file()
                .then_some((version, programs))
        })
        .max()
        .map(|(_, programs)| programs)
}
