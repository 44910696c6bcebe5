//! Kafka's own command-line tools.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::install_jars;
use super::jvm::{java, short_lived_java};

const HEAP_MB: u32 = 64;
/// For programs that measure.
const LARGE_HEAP_MB: u32 = 512;

/// Runs a `kafka-configs …` command line as an operator would who has Kafka's tools, and gives what it
/// printed.
///
/// # Errors
/// When it is another command, or fails, with its output.
pub fn run_kafka_configs(command_line: &str) -> Result<String> {
    let mut words = command_line.split_whitespace();
    if words.next() != Some("kafka-configs") {
        bail!("no kafka-configs command: {command_line}");
    }
    let jvm = short_lived_java(HEAP_MB);
    printed_by(jvm, "kafka.admin.ConfigCommand", words)
}

/// Runs one of Kafka's programs by the name of its class, with all of the JVM's speed, and gives what it printed.
///
/// # Errors
/// When it fails, with its output.
pub fn run_kafka_program(class: &str, arguments: &[&str]) -> Result<String> {
    printed_by(java(LARGE_HEAP_MB), class, arguments.iter().copied())
}

/// How many of a topic's first `records` records Kafka's kafka-consumer-perf-test reads a second.
///
/// # Errors
/// When it fails, or says something else.
pub fn consumer_rate(brokers: &str, topic: &str, records: u64) -> Result<f64> {
    let records = records.to_string();
    let to = ["--bootstrap-server", brokers, "--topic", topic];
    let what = [
        "--messages",
        &records,
        "--timeout",
        "60000",
        "--hide-header",
    ];
    let class = "org.apache.kafka.tools.ConsumerPerformance";
    let printed = run_kafka_program(class, &[to.as_slice(), &what].concat())?;
    consumed(&printed).with_context(|| format!("kafka-consumer-perf-test said {printed}"))
}

/// The last column leaves out the time to join the group.
fn consumed(printed: &str) -> Option<f64> {
    let line = printed.lines().rfind(|line| line.contains(", "))?;
    line.rsplit(", ").next()?.trim().parse().ok()
}

fn printed_by<'a>(
    mut jvm: Command,
    class: &str,
    arguments: impl Iterator<Item = &'a str>,
) -> Result<String> {
    install_jars()?;
    let output = jvm
        .arg(class)
        .args(arguments)
        .output()
        .context("cannot run java; install a JRE of version 17 or newer")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{jvm:?}: {}\n{text}{errors}",
        output.status
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consumers_rate_is_the_last_column_of_the_last_line() {
        let printed = "2026-11-29 10:00:00:000, 2026-11-29 10:00:02:000, 95.3674, 47.6, 500000, 250000.0, 500, 1500, \
            63.5, 333333.3333\n";
        assert_eq!(consumed(printed), Some(333_333.333_3));
        assert_eq!(consumed("no such topic"), None);
    }
}
