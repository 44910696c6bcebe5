//! One of the project's services as a process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::http;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

/// Environment variables by name.
pub type Env = BTreeMap<String, String>;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What to run and how to know that it is ready.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// The binary's name, for example `seckill-ingress`; or the path of one from another build.
    pub binary: String,
    /// Its whole configuration. From the test's environment only `PATH` is inherited.
    pub env: Env,
    /// Where it answers `/readyz`.
    pub admin_port: u16,
    /// Where it answers its clients, if it has any.
    pub port: Option<u16>,
}

/// A running service. Killed when dropped; in a failing test, the end of its log is printed.
#[derive(Debug)]
pub struct Service {
    spec: ServiceSpec,
    process: Process,
    directory: TempDir,
}

impl Service {
    /// Starts the binary and waits until `/readyz` says 200.
    ///
    /// # Errors
    /// When the binary is not built, ends, or is not ready in time, with the end of its log.
    pub fn start(spec: ServiceSpec) -> Result<Self> {
        let mut service = Self::launch(spec)?;
        service.wait_until_ready()?;
        Ok(service)
    }

    /// Starts the binary and returns immediately, for a service that cannot become ready yet.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn launch(spec: ServiceSpec) -> Result<Self> {
        let directory = scratch_dir(program(&spec))?;
        let process = spawn(&spec, directory.path())?;
        Ok(Self {
            spec,
            process,
            directory,
        })
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// When the process ends or is not ready in time, with the end of its log.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let address = self.admin_address();
        let what = format!("readiness of {}", self.spec.binary);
        let process = &mut self.process;
        wait_for(&what, READY_TIMEOUT, || {
            process.expect_running()?;
            Ok(is_ready(address).then_some(()))
        })
        .with_context(|| self.process.log_tail())
    }

    /// Starts the service again after its end, with the same ports and `changes` to its environment
    /// (no value: the variable is removed), and waits until it is ready.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn restart(&mut self, changes: &[(&str, Option<&str>)]) -> Result<()> {
        self.relaunch(changes)?;
        self.wait_until_ready()
    }

    /// As [`Service::restart`], but returns immediately, for a service that may die or have to wait before it is ready.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn relaunch(&mut self, changes: &[(&str, Option<&str>)]) -> Result<()> {
        self.process.kill()?;
        for (name, value) in changes {
            match value {
                Some(value) => self
                    .spec
                    .env
                    .insert((*name).to_owned(), (*value).to_owned()),
                None => self.spec.env.remove(*name),
            };
        }
        self.process = spawn(&self.spec, self.directory.path())?;
        Ok(())
    }

    /// `http://127.0.0.1:<port>` of its clients' listener.
    ///
    /// # Panics
    /// If the service has none.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.spec.port.expect("this service has no clients");
        format!("http://127.0.0.1:{port}")
    }

    /// `http://127.0.0.1:<port>` of its admin listener (`/livez`, `/readyz`, `/metrics`).
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    /// The operating system's process id, for a look into `/proc`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has written to stdout and stderr so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.process.log())?)
    }

    /// The last lines of what it has written, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, for [`Service::wait_for_exit`].
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// SIGTERM, and waits for the end: how it ended.
    ///
    /// # Errors
    /// When it does not end in time, with the end of its log.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.terminate()?;
        self.process.wait(STOP_TIMEOUT)
    }

    /// Waits until the service ends by itself, for example at a failpoint.
    ///
    /// # Errors
    /// When it does not end within `timeout`, with the end of its log.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.process.wait(timeout)
    }

    /// How it ended, if it has ended by itself.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// SIGSTOP: the process is stopped.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// Ends a [`Service::pause`].
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    fn admin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.spec.admin_port).into()
    }
}

/// Whether `/readyz` at this address says 200.
#[must_use]
pub fn is_ready(address: SocketAddr) -> bool {
    http::get(address, "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// The output goes to a file in `directory`, appended to at every start.
fn spawn(spec: &ServiceSpec, directory: &Path) -> Result<Process> {
    let mut command = Command::new(binary(&spec.binary)?);
    // Its settings must not depend on the shell in which the test is run.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name != "PATH") {
        command.env_remove(name);
    }
    command.envs(&spec.env);
    let program = program(spec);
    let log = directory.join(format!("{program}.log"));
    Process::spawn(program, &command, &log)
}

fn program(spec: &ServiceSpec) -> &str {
    let binary = spec.binary.as_str();
    binary.rsplit_once('/').map_or(binary, |(_, name)| name)
}

/// The path of one of the workspace's own binaries, from the same build as the running test. An absolute path is
/// returned unchanged.
///
/// # Errors
/// When it is not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("where is this test's executable?")?;
    let candidate = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    match candidate {
        Some(path) => Ok(path),
        None => bail!(
            "{name} is not built: run `cargo build -p {name}`, or all with `cargo xtask test`"
        ),
    }
}

/// Runs one of the workspace's own commands to its end.
///
/// # Errors
/// When it is not built or fails, with its output.
pub fn run_binary(name: &str, arguments: &[&str], env: &Env) -> Result<String> {
    let output = Command::new(binary(name)?)
        .args(arguments)
        .env_clear()
        .envs(env)
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{name} {}: {}\n{text}{errors}",
            arguments.join(" "),
            output.status
        );
    }
    Ok(text)
}
