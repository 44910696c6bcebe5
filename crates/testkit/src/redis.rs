//! A private Redis server.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::clock::SteppingClock;
use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const START_ATTEMPTS: u32 = 3;
/// The file that SAVE writes and that a server loads when it starts.
const SNAPSHOT: &str = "dump.rdb";
/// The directory of the append-only file.
const APPEND_ONLY: &str = "appendonlydir";

/// Whether the data survive a restart of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing is written: a restarted server is empty.
    None,
    /// Append-only file, synced every second.
    AppendOnly,
}

/// A Redis for one test, without persistence unless it has a disk. Killed when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    home: Home,
}

/// Where a server's files are.
#[derive(Debug)]
struct Home {
    /// Its output, and its data unless these have their own disk.
    directory: TempDir,
    /// A disk for an append-only file.
    disk: Option<PathBuf>,
    persistence: Persistence,
    /// Additional arguments.
    settings: Vec<String>,
    /// Its own wall clock.
    clock: Option<SteppingClock>,
}

impl Home {
    fn data(&self) -> &Path {
        self.disk.as_deref().unwrap_or(self.directory.path())
    }
}

impl Redis {
    /// Starts an empty server on a free loopback port and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not come up; the message has its log.
    pub fn start() -> Result<Self> {
        Self::with(None, Persistence::None, &[])
    }

    /// As [`Redis::start`], with more arguments on the command line (`--name`, `value`, …).
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        Self::with(None, Persistence::None, settings)
    }

    /// As [`Redis::start`], with an append-only file on a disk of the test's own.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn append_only_on(disk: &Path) -> Result<Self> {
        Self::with(Some(disk.to_owned()), Persistence::AppendOnly, &[])
    }

    /// As [`Redis::start`], with an append-only file that contains every write before the write is answered, for
    /// [`Redis::restart_with_cut_tail`].
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn append_only() -> Result<Self> {
        // A server that syncs once a second keeps writes in memory while a sync is running, up to two seconds
        // (flushAppendOnlyFile in Redis' aof.c). A kill would then lose more than the cut.
        Self::with(None, Persistence::AppendOnly, &["--appendfsync", "no"])
    }

    /// As [`Redis::start`], with a wall clock that is right at first: [`Redis::set_clock`].
    ///
    /// # Errors
    /// As [`Redis::start`], and when there is no C compiler.
    pub fn with_own_clock() -> Result<Self> {
        Self::at(Home {
            directory: scratch_dir("redis")?,
            disk: None,
            persistence: Persistence::None,
            settings: Vec::new(),
            clock: Some(SteppingClock::new()?),
        })
    }

    /// Moves its own wall clock to so many seconds ahead of the machine's, while it runs.
    ///
    /// # Errors
    /// When it has none.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        let clock = self.home.clock.as_ref();
        clock.context("it has no clock of its own")?.set(seconds)
    }

    fn with(disk: Option<PathBuf>, persistence: Persistence, settings: &[&str]) -> Result<Self> {
        let home = Home {
            directory: scratch_dir("redis")?,
            disk,
            persistence,
            settings: settings.iter().map(|&text| text.to_owned()).collect(),
            clock: None,
        };
        Self::at(home)
    }

    fn at(home: Home) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match spawn(&home, port) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        port,
                        home,
                    });
                }
                // Another process has probably taken the port meanwhile.
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// `redis://127.0.0.1:<port>`, the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The port, the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs one command with `redis-cli` and gives what it prints.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn cli(&self, command: &[&str]) -> Result<String> {
        cli(self.port, command)
    }

    /// SIGKILL. The data is gone.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Kills the server and starts an empty one on the same port, like a Redis that has lost its data.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        let snapshot = self.home.data().join(SNAPSHOT);
        if snapshot.exists() {
            fs::remove_file(snapshot)?;
        }
        let append_only = self.home.data().join(APPEND_ONLY);
        if append_only.exists() {
            fs::remove_dir_all(append_only)?;
        }
        self.process = spawn(&self.home, self.port)?;
        Ok(())
    }

    /// Kills the server, removes this many bytes at the end of its append-only file, and starts it with the rest, as if
    /// its machine had crashed before the file was synced.
    ///
    /// # Errors
    /// As [`Redis::start`], and when there is no such file, or none so long.
    pub fn restart_with_cut_tail(&mut self, bytes: u64) -> Result<()> {
        self.process.kill()?;
        let file = append_only_file(self.home.data())?;
        let file = fs::File::options().write(true).open(file)?;
        let length = file.metadata()?.len();
        ensure!(length > bytes, "only {length} bytes were appended");
        file.set_len(length - bytes)?;
        self.process = spawn(&self.home, self.port)?;
        Ok(())
    }

    /// Writes what the server holds now to disk, for [`Redis::restart_from_snapshot`].
    ///
    /// # Errors
    /// When the server does not answer or cannot write.
    pub fn snapshot(&self) -> Result<()> {
        let answer = command(self.port, b"SAVE\r\n")?;
        ensure!(&answer == b"+OK\r\n", "SAVE was refused");
        Ok(())
    }

    /// Kills the server and starts it on the same port with the data of the last [`Redis::snapshot`], like a Redis that
    /// has lost its last writes.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn restart_from_snapshot(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.home, self.port)?;
        Ok(())
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// Ends a [`Redis::pause`]; what was sent meanwhile is carried out then.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }
}

fn spawn(home: &Home, port: u16) -> Result<Process> {
    let mut command = server_command(home.data(), port, home.persistence);
    command.args(&home.settings);
    if let Some(clock) = &home.clock {
        command = clock.command(&command)?;
    }
    let log = home.directory.path().join("redis.log");
    let mut process = Process::spawn("redis-server", &command, &log)?;
    wait_for("answer of redis-server to PING", START_TIMEOUT, || {
        process.expect_running()?;
        Ok(answers(port).then_some(()))
    })
    .with_context(|| process.log_tail())?;
    Ok(process)
}

/// The file that a server with its data in `directory` appends to.
fn append_only_file(directory: &Path) -> Result<PathBuf> {
    fs::read_dir(directory.join(APPEND_ONLY))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .context("no append-only file; start the server with one")
}

/// `redis://127.0.0.1:<port>`.
#[must_use]
pub fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// From what size on the append-only file is written anew: docs/deployment.md, *For a sale*.
pub const REWRITE_FROM: [&str; 2] = ["--auto-aof-rewrite-min-size", "1gb"];

/// The command line of a server with its data in `directory`. The services demand `noeviction`.
#[must_use]
pub fn server_command(directory: &Path, port: u16, persistence: Persistence) -> Command {
    let append_only = match persistence {
        Persistence::None => "no",
        Persistence::AppendOnly => "yes",
    };
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--daemonize", "no", "--save", ""])
        .args(["--appendonly", append_only, "--appendfsync", "everysec"])
        .args(REWRITE_FROM)
        .args(["--maxmemory-policy", "noeviction", "--dir"])
        .arg(directory);
    command
}

/// Runs one command with `redis-cli` on a loopback port and gives what it prints.
///
/// # Errors
/// When nobody answers, or the server refuses.
pub fn cli(port: u16, command: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli")
        .args(["-e", "-p", &port.to_string()])
        .args(command)
        .output()
        .context("cannot run redis-cli")?;
    let text = String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {text}{errors}");
    Ok(text)
}

/// Whether a Redis answers PING on this loopback port, loaded and ready.
#[must_use]
pub fn answers(port: u16) -> bool {
    command(port, b"PING\r\n").is_ok_and(|answer| &answer == b"+PONG")
}

/// Sends one command and gives the first bytes of its answer.
fn command<const N: usize>(port: u16, line: &[u8]) -> std::io::Result<[u8; N]> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(line)?;
    let mut answer = [0; N];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(redis: &Redis, line: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).unwrap();
        stream.set_read_timeout(Some(PROBE_TIMEOUT)).unwrap();
        write!(stream, "{line}\r\n").unwrap();
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[test]
    fn a_restarted_server_is_on_the_same_port_and_has_its_last_snapshot_or_nothing() {
        let mut redis = Redis::start().unwrap();
        let url = redis.url();
        assert_eq!(run(&redis, "SET a 1"), "+OK\r\n");

        redis.snapshot().unwrap();
        assert_eq!(run(&redis, "SET b 1"), "+OK\r\n");
        redis.restart_from_snapshot().unwrap();
        assert_eq!(run(&redis, "EXISTS a"), ":1\r\n");
        assert_eq!(run(&redis, "EXISTS b"), ":0\r\n");

        redis.restart().unwrap();
        assert_eq!(redis.url(), url);
        assert_eq!(run(&redis, "EXISTS a"), ":0\r\n");
    }

    #[test]
    fn a_server_whose_files_tail_is_cut_has_lost_its_last_writes() {
        let mut redis = Redis::append_only().unwrap();
        assert_eq!(run(&redis, "SET a 1"), "+OK\r\n");
        assert_eq!(run(&redis, "SET b 1"), "+OK\r\n");
        let file = append_only_file(redis.home.data()).unwrap();
        let last = b"$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n";
        assert!(
            fs::read(file).unwrap().ends_with(last),
            "answered unwritten"
        );
        redis.restart_with_cut_tail(3).unwrap();
        assert_eq!(run(&redis, "EXISTS a"), ":1\r\n");
        assert_eq!(run(&redis, "EXISTS b"), ":0\r\n");
        redis.restart().unwrap();
        assert_eq!(run(&redis, "EXISTS a"), ":0\r\n");
    }

    #[test]
    fn a_killed_server_is_gone_and_a_paused_one_silent_until_it_is_resumed() {
        let mut redis = Redis::start().unwrap();
        redis.pause().unwrap();
        assert!(!answers(redis.port()));
        redis.resume().unwrap();
        assert!(answers(redis.port()));
        redis.kill().unwrap();
        assert!(!answers(redis.port()));
    }
}
