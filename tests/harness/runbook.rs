//! Carries out the runbooks: every `sh` block, in the order of the text, as an operator would do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::service::binary;
use seckill_testkit::workspace_root;
use tempfile::TempDir;

use crate::world::World;

/// A script that runs `seckillctl` and confirms every question.
const CONFIRMING: &str = r#"#!/bin/sh
case " $* " in
    *" --yes "*) exec "$SECKILLCTL" "$@" ;;
    *" --execute "*) exec "$SECKILLCTL" "$@" --yes ;;
    *) exec "$SECKILLCTL" "$@" ;;
esac
"#;

/// The programs with which commands in the texts begin.
const PROGRAMS: [&str; 4] = ["seckillctl", "psql", "curl", "redis-cli"];

/// One of `ops/runbooks`, and the directory in which its commands run.
#[derive(Debug)]
pub struct Runbook {
    name: String,
    text: String,
    /// Contains the confirming `seckillctl`, and the files that the commands write.
    directory: TempDir,
}

impl Runbook {
    /// Reads `ops/runbooks/<name>`.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(name: &str) -> Result<Self> {
        Self::at(&format!("ops/runbooks/{name}"))
    }

    /// Reads any other page that has commands.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(name: &str) -> Result<Self> {
        let path = workspace_root().join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let directory = tempfile::tempdir()?;
        let shim = directory.path().join("seckillctl");
        fs::write(&shim, CONFIRMING)?;
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            name: name.to_owned(),
            text,
            directory,
        })
    }

    /// Replaces an example in the text with a real value of the test's world.
    ///
    /// # Errors
    /// When the text has no such example, because the test is then for another text.
    pub fn with(mut self, example: &str, real: &str) -> Result<Self> {
        ensure!(
            self.text.contains(example),
            "{}: no {example:?} in it",
            self.name
        );
        self.text = self.text.replace(example, real);
        Ok(self)
    }

    /// The names of all runbooks.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn names() -> Result<Vec<String>> {
        let directory = workspace_root().join("ops/runbooks");
        let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Leaves out the section with this heading.
    ///
    /// # Errors
    /// When there is no such section.
    pub fn without(mut self, heading: &str) -> Result<Self> {
        let section = self.section(heading)?;
        self.text = self.text.replace(&section, "");
        Ok(self)
    }

    /// Keeps only the section with this heading.
    ///
    /// # Errors
    /// When there is no such section.
    pub fn only(mut self, heading: &str) -> Result<Self> {
        self.text = self.section(heading)?;
        Ok(self)
    }

    /// The text from a heading of the third level to the next heading of any level.
    fn section(&self, heading: &str) -> Result<String> {
        let begin = format!("\n### {heading}\n");
        let at = self.text.find(&begin);
        let at = at.with_context(|| format!("{}: no section {heading:?}", self.name))?;
        let rest = &self.text[at + begin.len()..];
        let end = rest.find("\n##").unwrap_or(rest.len());
        Ok(self.text[at..at + begin.len() + end].to_owned())
    }

    /// Commands in the text that are not at the beginning of a line of a block, so that no test carries them out.
    #[must_use]
    pub fn commands_in_no_block(&self) -> Vec<String> {
        let blocks = self.blocks().join("\n");
        let text: String = self.text.split("\n```").step_by(2).collect();
        let text = text.replace('\n', " ");
        let is_command = |span: &&str| {
            let program = span.split(' ').next();
            let with_arguments = span.contains(' ');
            with_arguments && PROGRAMS.contains(&program.unwrap_or_default())
        };
        let spans = text.split('`').skip(1).step_by(2).filter(is_command);
        spans
            .filter(|span| !blocks.lines().any(|line| line.starts_with(span)))
            .map(str::to_owned)
            .collect()
    }

    /// The content of a file that the commands have written.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn written(&self, name: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// The blocks between ```` ```sh ```` and ```` ``` ````.
    #[must_use]
    pub fn blocks(&self) -> Vec<String> {
        let parts = self.text.split("\n```");
        parts
            .filter_map(|part| part.strip_prefix("sh\n"))
            .map(str::to_owned)
            .collect()
    }

    /// Runs all blocks. Every line has to succeed. Returns what they printed.
    ///
    /// # Errors
    /// The first block that fails, with its output.
    pub fn run(&self, world: &World) -> Result<Vec<String>> {
        let blocks = self.blocks();
        ensure!(!blocks.is_empty(), "{}: no block in it", self.name);
        blocks
            .iter()
            .map(|block| self.run_block(world, block))
            .collect()
    }

    /// Runs one block.
    ///
    /// # Errors
    /// When a line of it fails, with the output of all.
    pub fn run_block(&self, world: &World, block: &str) -> Result<String> {
        let seckillctl: PathBuf = binary("seckillctl")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let listeners = [
            ("INGRESS_ADMIN_LISTEN", &world.ingress),
            ("PROJECTOR_ADMIN_LISTEN", &world.projector),
            ("TIMEOUT_ADMIN_LISTEN", &world.timeout),
        ];
        let listeners = listeners.map(|(name, service)| {
            let url = service.admin_url();
            (name, url.trim_start_matches("http://").to_owned())
        });
        let output = Command::new("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", block])
            .current_dir(self.directory.path())
            .env_clear()
            .envs(world.stack.env())
            .env(
                "PATH",
                format!("{}:{path}", self.directory.path().display()),
            )
            .env("SECKILLCTL", seckillctl)
            .env("USER", "operator")
            .env("INGRESS_ADMIN_URL", world.ingress.admin_url())
            .envs(listeners)
            .output()
            .context("bash")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{}: {}\n{block}\n{printed}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed)
    }
}
