//! Apicurio Registry, which also has an API that is compatible with Confluent's. Only long tests use and download it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;
use crate::{http, workspace_root};

/// The last version that runs on Java 17.
const VERSION: &str = "3.0.9";
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// The path of the API that is compatible with Confluent's.
const PATH: &str = "/apis/ccompat/v7";

/// A registry that stores its data in its own topic. Killed when dropped.
#[derive(Debug)]
pub struct Apicurio {
    process: Process,
    command: Command,
    port: u16,
    directory: TempDir,
}

impl Apicurio {
    /// Downloads it if it is not there, and starts one with these brokers.
    ///
    /// # Errors
    /// When Maven cannot fetch it, or it does not start, with the end of its log.
    pub fn start(brokers: &str) -> Result<Self> {
        let program = installed()?;
        let port = free_port()?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx320m", "-jar"])
            .arg(program)
            .env("APICURIO_STORAGE_KIND", "kafkasql")
            .env("APICURIO_KAFKASQL_BOOTSTRAP_SERVERS", brokers)
            .env("APICURIO_KAFKASQL_TOPIC", format!("apicurio-{port}"))
            .env("QUARKUS_HTTP_HOST", "127.0.0.1")
            .env("QUARKUS_HTTP_PORT", port.to_string());
        let directory = scratch_dir("apicurio")?;
        let process = spawn(&command, &directory)?;
        let registry = Self {
            process,
            command,
            port,
            directory,
        };
        registry.until_ready()?;
        Ok(registry)
    }

    /// For `SCHEMA_REGISTRY_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again at the same address, with its data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.command, &self.directory)?;
        self.until_ready()
    }

    fn until_ready(&self) -> Result<()> {
        let address = ([127, 0, 0, 1], self.port).into();
        wait_for("Apicurio answers", START_TIMEOUT, || {
            let asked = http::get(address, &format!("{PATH}/subjects"));
            Ok(asked.is_ok_and(|(status, _)| status == 200).then_some(()))
        })
        .with_context(|| self.process.log_tail())
    }
}

fn spawn(command: &Command, directory: &TempDir) -> Result<Process> {
    Process::spawn("Apicurio", command, &directory.path().join("log"))
}

fn installed() -> Result<PathBuf> {
    let directory = workspace_root().join("target/apicurio").join(VERSION);
    let program = directory.join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
    if program.is_file() {
        return Ok(program);
    }
    // Unpack it in another directory and then rename that, so that another test process never sees a part of it.
    let parent = directory.parent().context("no directory")?;
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().tempdir_in(parent)?;
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:unpack"])
        .arg(format!(
            "-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        ))
        .arg(format!("-DoutputDirectory={}", fresh.path().display()))
        .current_dir(parent)
        .stdin(Stdio::null())
        .output()
        .context("cannot run mvn; install Maven")?;
    let message = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "fetching Apicurio: {}\n{message}",
        output.status
    );
    fs::rename(fresh.keep(), &directory)?;
    Ok(program)
}
