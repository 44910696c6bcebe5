//! A child process that dies with the process that started it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

type SpawnReply = mpsc::SyncSender<std::io::Result<Child>>;

/// The kernel kills children when the *thread* that has started them ends, and a test's thread ends before its process.
/// So one thread that never ends starts all children.
static SPAWNER: LazyLock<mpsc::Sender<(Command, SpawnReply)>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<(Command, SpawnReply)>();
    thread::spawn(move || {
        for (mut command, reply) in inbox {
            // If the caller no longer waits, the child belongs to nobody and has to be killed.
            if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                let _ = orphan.kill();
            }
        }
    });
    requests
});

/// A running (or ended) child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to the end of the file `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let output = append_to(log)?;
        let mut guarded = guarded(command);
        guarded
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let (reply, answer) = mpsc::sync_channel(1);
        SPAWNER
            .send((guarded, reply))
            .context("the spawner thread has ended")?;
        let child = answer
            .recv()
            .context("the spawner thread has ended")?
            .with_context(|| format!("cannot start {name}; is util-linux's setpriv there?"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The operating system's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that the output goes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or nothing while it runs.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it has not after `timeout`, with the end of its log.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait_for(&what, timeout, || self.exit_status()).with_context(|| self.log_tail())
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.exit_status()? {
            bail!("{} ended: {status}", self.name);
        }
        Ok(())
    }

    /// Sends a signal. A process that has ended already is not an error.
    ///
    /// # Errors
    /// When the signal may not be sent.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that has been reaped gets no signal, because its id may already belong to another process.
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGSTOP: the process is stopped, and its connections stay open.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT after [`Process::pause`].
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// The last lines of the log, headed by its path, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}: {}", self.name, self.log_tail());
        }
        // It may have ended by itself. Then there is nothing to do.
        let _ = self.kill();
    }
}

/// The last lines of a log file, headed by its path.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    format!("end of {}:\n{}", log.display(), tail.join("\n"))
}

/// Opens a log file for appending, with its directories.
///
/// # Errors
/// When it cannot be opened.
pub fn append_to(log: &Path) -> Result<File> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open {}", log.display()))
}

/// The same command. The kernel kills it when the thread that has started it ends.
fn guarded(command: &Command) -> Command {
    wrapped(command, "setpriv", &["--pdeathsig", "KILL", "--"])
}

/// `command` run through a program that ends by executing it: the process id stays the command's.
#[must_use]
pub fn wrapped(command: &Command, wrapper: &str, arguments: &[&str]) -> Command {
    let mut outer = Command::new(wrapper);
    outer
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it_and_dies_when_dropped() {
        let directory = crate::scratch::scratch_dir("process").unwrap();
        let log = directory.path().join("log");
        let mut sleeper = thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            Process::spawn("sleep", &command, &log).unwrap()
        })
        .join()
        .unwrap();
        sleeper.expect_running().unwrap();

        let entry = PathBuf::from(format!("/proc/{}", sleeper.pid()));
        drop(sleeper);
        assert!(!entry.exists());
    }

    #[test]
    fn a_child_that_ended_is_reported_with_its_log() {
        let directory = crate::scratch::scratch_dir("process").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 3"]);
        let mut child = Process::spawn("sh", &command, &directory.path().join("log")).unwrap();

        let status = child.wait(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(child.expect_running().is_err());
        assert!(child.log_tail().ends_with("the reason"));
    }
}
