//! The JVMs in which Kafka runs. They share an archive with the loaded classes (class data sharing). With it a broker
//! needs half of the processor time to start, and the tests start hundreds of brokers.

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
        // Warnings of the JVM, for example about an archive that it cannot use, must not mix with the output of a tool.
        .args(["-Xlog:disable", "-Xlog:all=warning:stderr"])
        .args(archive().map(|file| format!("-XX:SharedArchiveFile={}", file.display())))
        // Java itself expands the star; there is no shell.
        .args(["-cp", &format!("{}/*", libs().display())]);
    command
}

/// The same for short-lived programs: the JVM uses only its fast compiler.
pub(super) fn short_lived_java(heap_mb: u32) -> Command {
    let mut command = java(heap_mb);
    command.arg("-XX:TieredStopAtLevel=1");
    command
}

/// The archive, if there is one. It is stored with the jars from which it is made. A JVM that cannot use it, for
/// example after an upgrade of Java, runs without it.
fn archive() -> Option<PathBuf> {
    Some(path()).filter(|archive| archive.exists())
}

fn path() -> PathBuf {
    libs().join("classes.jsa")
}

/// Downloads the jars and lets a broker write the archive when it ends, unless they exist.
pub(super) fn make_archive() -> Result<()> {
    /// Held by the test that makes the archive, so that only one test of a process does it.
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
    // Write another file and then rename it, so that another test process never sees a part of it.
    let beside = tempfile::NamedTempFile::new_in(libs())?;
    fs::copy(&fresh, &beside).with_context(|| broker.log_tail())?;
    beside.persist(&archive)?;
    Ok(())
}
