//! Processes that outlive `cargo xtask up`, and how they are found again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use seckill_testkit::process::{log_tail, wrapped};
use seckill_testkit::wait::wait_for;

const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A process of the local stack, known by a file with its id and start time.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn new(directory: &Path, name: &'static str) -> Self {
        Self {
            name,
            pid_file: directory.join("run").join(format!("{name}.pid")),
            log: directory.join("logs").join(format!("{name}.log")),
        }
    }

    /// Starts `command` in a session of its own, so that neither the terminal's end nor its Ctrl-C
    /// reaches it.
    pub(crate) fn start(&self, command: &Command) -> Result<()> {
        for file in [&self.pid_file, &self.log] {
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
        }
        let output = File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = wrapped(command, "setsid", &["--"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let pid = child.id();
        let started = start_time(pid).with_context(|| format!("{} is gone already", self.name))?;
        fs::write(&self.pid_file, format!("{pid} {started}"))?;
        Ok(())
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.pid().is_some()
    }

    /// Fails if the process is gone.
    pub(crate) fn expect_alive(&self) -> Result<()> {
        if !self.is_alive() {
            bail!("{} has ended", self.name);
        }
        Ok(())
    }

    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Asks the process to end, if it runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            // Gone between the look and the signal.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal {}", self.name)),
        }
    }

    /// Waits until the process is gone; after `timeout` it is killed.
    pub(crate) fn wait_until_gone(&self, timeout: Duration) -> Result<()> {
        let gone = || Ok((!self.is_alive()).then_some(()));
        let what = format!("end of {}", self.name);
        if wait_for(&what, timeout, gone).is_err() {
            eprintln!("{} did not end within {timeout:?}: killed", self.name);
            self.signal(Signal::KILL)?;
            wait_for(&what, KILL_TIMEOUT, gone)?;
        }
        if self.pid_file.exists() {
            fs::remove_file(&self.pid_file)?;
        }
        Ok(())
    }

    /// The process id, if it still is the process that was started: ids are used again.
    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid: u32 = pid.parse().ok()?;
        if start_time(pid)? != started {
            return None;
        }
        Pid::from_raw(i32::try_from(pid).ok()?)
    }
}

/// When a live process was started, in the kernel's ticks since boot.
fn start_time(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; after it comes field 3, the state.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // A zombie is dead, whether or not somebody has asked for its exit status.
    if fields.first()? == &"Z" {
        return None;
    }
    fields.get(19).map(|&field| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Daemon {
        let daemon = Daemon::new(directory, "sleeper");
        let mut command = Command::new("sleep");
        command.arg("600");
        daemon.start(&command).unwrap();
        daemon
    }

    #[test]
    fn a_daemon_is_found_again_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        sleeper(directory.path());

        let found = Daemon::new(directory.path(), "sleeper");
        found.expect_alive().unwrap();
        found.signal(Signal::TERM).unwrap();
        found.wait_until_gone(KILL_TIMEOUT).unwrap();
        assert!(!found.is_alive());
        assert!(!found.pid_file.exists());
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = sleeper(directory.path());
        let truth = fs::read_to_string(&daemon.pid_file).unwrap();
        let (pid, _) = truth.split_once(' ').unwrap();

        fs::write(&daemon.pid_file, format!("{pid} 1")).unwrap();
        assert!(!daemon.is_alive());
        daemon.signal(Signal::KILL).unwrap();

        fs::write(&daemon.pid_file, &truth).unwrap();
        assert!(daemon.is_alive());
        daemon.signal(Signal::KILL).unwrap();
        daemon.wait_until_gone(KILL_TIMEOUT).unwrap();
    }
}
