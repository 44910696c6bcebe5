//! A running example.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use seckill_testkit::process::Process;
use seckill_testkit::scratch::scratch_dir;
use seckill_testkit::service::binary;
use seckill_testkit::{python, workspace_root};
use seckill_tests::eventually;
use tempfile::TempDir;

use super::toolchains;

const SOON: Duration = Duration::from_secs(30);

fn with(program: impl AsRef<OsStr>, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn java(name: &str, main_class: &str) -> Result<Command> {
    let arguments = tokio::task::block_in_place(|| toolchains::java(name, main_class))?;
    Ok(with("java", &arguments))
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    Rust,
    Python,
    Go,
    Java,
    Spring,
    TypeScript,
}

/// Languages whose toolchains every test run has.
pub(crate) const LANGUAGES: [Language; 2] = [Language::Rust, Language::Python];

/// Languages that have to be built first, with their own toolchains.
pub(crate) const OTHERS: [Language; 4] = [
    Language::Go,
    Language::Java,
    Language::Spring,
    Language::TypeScript,
];

/// One of the examples, following a topic.
pub(crate) struct Example {
    language: Language,
    pub(super) process: Process,
    directory: TempDir,
}

impl Example {
    /// Starts it in its own consumer group.
    pub(super) fn start(
        language: Language,
        brokers: &str,
        topic: &str,
        more: &[&str],
    ) -> Result<Self> {
        Self::start_with(language, brokers, topic, more, &[])
    }

    /// The same, with more environment variables.
    pub(crate) fn start_with(
        language: Language,
        brokers: &str,
        topic: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut command = match language {
            Language::Rust => Command::new(binary("outcomes-consumer")?),
            Language::Python => with(
                python::program()?,
                &["examples/outcomes-python/consumer.py"],
            ),
            Language::Go => Command::new(tokio::task::block_in_place(toolchains::go)?),
            Language::Java => java("outcomes-java", "example.Outcomes")?,
            Language::Spring => java("outcomes-spring", "example.Listener")?,
            Language::TypeScript => {
                let program = tokio::task::block_in_place(toolchains::typescript)?;
                with("node", &[program])
            }
        };
        command
            .current_dir(workspace_root())
            .env_remove("SCHEMA_REGISTRY_URL")
            .envs(environment.iter().copied())
            .args([format!("--brokers={brokers}"), format!("--topic={topic}")])
            .arg(format!("--group={topic}-{language:?}"))
            .args(more);
        let directory = scratch_dir("example")?;
        let log = directory.path().join("output");
        let process = Process::spawn(&format!("{language:?} example"), &command, &log)?;
        Ok(Self {
            language,
            process,
            directory,
        })
    }

    /// The outcomes that it has printed, and the records that it has skipped.
    pub(super) fn lines(&self) -> Result<(Vec<String>, Vec<String>)> {
        let text = std::fs::read_to_string(self.directory.path().join("output"))?;
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let lines = whole.map(|line| line.trim_end().to_owned());
        Ok(lines.partition(|line| line.starts_with('{')))
    }

    /// Waits until it has printed and skipped this many, stops it, and returns both.
    pub(crate) async fn finish(
        mut self,
        printed: usize,
        skipped: usize,
    ) -> Result<(Vec<String>, Vec<String>)> {
        eventually("the example has read all", || async {
            let (outcomes, others) = self.lines()?;
            let so_far = format!("{outcomes:#?} {others:#?}");
            ensure!(outcomes.len() >= printed && others.len() >= skipped, so_far);
            Ok(true)
        })
        .await?;
        self.process.signal(Signal::TERM)?;
        let ended = self.process.wait(SOON)?;
        // With Spring the JVM determines the exit status: 128 plus the number of the signal.
        let is_orderly = match self.language {
            Language::Spring => ended.code() == Some(128 + Signal::TERM.as_raw()),
            _ => ended.success(),
        };
        ensure!(is_orderly, "{ended}: {}", self.process.log_tail());
        let (mut outcomes, others) = self.lines()?;
        outcomes.sort();
        Ok((outcomes, others))
    }
}
