//! The JVMs that Kafka runs in. They share an archive of its classes as a JVM has them in memory: with it a broker needs
//! half of the processor time until it serves, and hundreds are started by the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::jars::{install_jars, libs};
use super::node::{Node, Ports};
use super::{launch_with, until_ready};
use crate::scratch::scratch_dir;

/// A JVM that stays small, with Kafka's jars.
pub(super) fn java(heap_mb: u32) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Xmx{heap_mb}m"))
        .args(["-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=INFO"])
        // Its warnings, as of an archive that it cannot use, are not what a tool prints.
        .args(["-Xlog:disable", "-Xlog:all=warning:stderr"])
        .args(archive().map(|file| format!("-XX:SharedArchiveFile={}", file.display())))
        // The star is Java's, not a shell's: no shell is involved.
        .args(["-cp", &format!("{}/*", libs().display())]);
    command
}

/// The same for what ends soon: code is compiled once and simply, not again for speed.
pub(super) fn short_lived_java(heap_mb: u32) -> Command {
    let mut command = java(heap_mb);
    command.arg("-XX:TieredStopAtLevel=1");
    command
}

/// The archive, if there is one. It goes with the jars that it is made of; a JVM that cannot use it, as after an upgrade
/// of Java, goes on without.
fn archive() -> Option<PathBuf> {
    Some(path()).filter(|archive| archive.exists())
}

fn path() -> PathBuf {
    libs().join("classes.jsa")
}

/// Fetches the jars, and has a broker write the archive when it ends, unless they are there.
pub(super) fn make_archive() -> Result<()> {
    /// Held by the only test of a process that makes it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _made_by_one = MAKING.lock();
    install_jars()?;
    let archive = path();
    if archive.exists() {
        return Ok(());
    }
    let directory = scratch_dir("kafka")?;
    let fresh = directory.path().join("classes.jsa");
    let node = Node::alone(Ports::free()?);
    let mut command = java(node.heap_mb);
    command.arg(format!("-XX:ArchiveClassesAtExit={}", fresh.display()));
    let data = directory.path().join("data");
    let mut broker = launch_with(command, directory.path(), &data, &node)?;
    until_ready(&mut broker, node.ports.broker)?;
    broker.signal(Signal::TERM)?;
    broker.wait(Duration::from_secs(60))?;
    // Beside its place, then renamed: another test process must never see half of it.
    let beside = tempfile::NamedTempFile::new_in(libs())?;
    fs::copy(&fresh, &beside).with_context(|| broker.log_tail())?;
    beside.persist(&archive)?;
    Ok(())
}
