//! Kafka's own command-line tools.

use anyhow::{Context, Result, bail, ensure};

use super::install_jars;
use super::jvm::short_lived_java;

const HEAP_MB: u32 = 64;

/// Runs a `kafka-configs …` command line as an operator would who has Kafka's tools, and gives what it
/// printed.
///
/// # Errors
/// When it is another command, or fails, with its output.
pub fn run_kafka_configs(command_line: &str) -> Result<String> {
    install_jars()?;
    let mut words = command_line.split_whitespace();
    if words.next() != Some("kafka-configs") {
        bail!("no kafka-configs command: {command_line}");
    }
    let output = short_lived_java(HEAP_MB)
        .arg("kafka.admin.ConfigCommand")
        .args(words)
        .output()
        .context("cannot run java; install a JRE of version 17 or newer")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command_line}: {}\n{text}{errors}",
        output.status
    );
    Ok(text)
}
