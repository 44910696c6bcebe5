//! A private PostgreSQL server and databases on it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

mod account;
mod programs;
mod secure;

pub use self::programs::program;

pub(crate) use self::account::as_server_user;
use self::account::server_user;
use crate::clock::command_off_by;
use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const START_ATTEMPTS: u32 = 3;
const SUPERUSER: &str = "postgres";

/// What a server with the defaults lacks that is to carry a sale: docs/deployment.md, *For a sale*.
pub const SALE_SETTINGS: [&str; 3] = [
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
];
/// Nothing is synced: only for data that a test run throws away. A crash of the server alone still loses nothing.
/// `synchronous_commit=off` is not used, because such a crash would lose acknowledged transactions.
const UNSYNCED: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// Options of a test's server.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// The test's own disk for the data.
    pub disk: Option<PathBuf>,
    /// Settings by name, over the usual ones.
    pub settings: Vec<(&'static str, String)>,
}

/// A PostgreSQL server of its own, without fsync. Killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    options: PostgresOptions,
    /// How far its wall clock is ahead of the machine's; see [`crate::clock`].
    clock_offset_seconds: i64,
    /// Its output, and its data unless these have their own disk.
    directory: TempDir,
}

impl Postgres {
    /// Makes a new cluster and starts it on a free loopback port.
    ///
    /// # Errors
    /// When PostgreSQL's server programs are missing or do not work; the message has their output.
    pub fn start() -> Result<Self> {
        Self::with(PostgresOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn with(options: PostgresOptions) -> Result<Self> {
        let directory = scratch_dir("postgres")?;
        init(&data_of(directory.path(), &options))?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match spawn(directory.path(), port, &options, 0) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        port,
                        options,
                        clock_offset_seconds: 0,
                        directory,
                    });
                }
                // Another process has probably taken the port meanwhile.
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the server has ended by itself, as it does when it cannot write its log.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.process.exit_status()?.is_some())
    }

    /// Everything it has written to stdout and stderr so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// Kills the server and starts it again with its wall clock so far ahead of the machine's.
    ///
    /// # Errors
    /// As [`Postgres::start`], and when libfaketime is not installed.
    pub fn restart_with_clock_off_by(&mut self, seconds: i64) -> Result<()> {
        self.clock_offset_seconds = seconds;
        self.restart()
    }

    /// The URL of this server's maintenance database, for the superuser.
    #[must_use]
    pub fn admin_url(&self) -> String {
        url(self.port, "postgres")
    }

    /// Makes a new empty database on this server.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn fresh_database(&self) -> Result<Database> {
        Database::create(&self.admin_url(), None)
    }

    /// Stops the server immediately, like a crash: connections break, and the next start recovers.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        // PostgreSQL's immediate shutdown. After a SIGKILL its shared memory can stay in use for a
        // while, and the next start refuses.
        self.process.signal(Signal::QUIT)?;
        self.process.wait(STOP_TIMEOUT)?;
        Ok(())
    }

    /// Kills the server and starts it again with the same data on the same port.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let clock = self.clock_offset_seconds;
        self.process = spawn(self.directory.path(), self.port, &self.options, clock)?;
        Ok(())
    }
}

fn data_of(directory: &Path, options: &PostgresOptions) -> PathBuf {
    options.disk.as_deref().unwrap_or(directory).join("data")
}

fn spawn(
    directory: &Path,
    port: u16,
    options: &PostgresOptions,
    clock_offset_seconds: i64,
) -> Result<Process> {
    let data = data_of(directory, options);
    let mut command = bare_command(&data, port, &UNSYNCED)?;
    for (name, value) in &options.settings {
        command.args(["-c", &format!("{name}={value}")]);
    }
    if clock_offset_seconds != 0 {
        command = command_off_by(&command, clock_offset_seconds)?;
    }
    let command = as_server_user(command)?;
    let mut process = Process::spawn("postgres", &command, &directory.join("postgres.log"))?;
    wait_for("answer of PostgreSQL to a query", START_TIMEOUT, || {
        process.expect_running()?;
        Ok(answers(port).then_some(()))
    })
    .with_context(|| process.log_tail())?;
    Ok(process)
}

/// A database of its own for a test. Dropped with this value.
#[derive(Debug)]
pub struct Database {
    admin_url: String,
    name: String,
}

impl Database {
    /// A new database: empty, or with everything that `like` has, to which nobody may be connected.
    pub(crate) fn create(admin_url: &str, like: Option<&Self>) -> Result<Self> {
        let name = format!("seckill_{}", uuid::Uuid::new_v4().simple());
        let template = like.map_or("template1", |like| &like.name);
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        query(admin_url, &sql)?;
        Ok(Self {
            admin_url: admin_url.to_owned(),
            name,
        })
    }

    /// `postgres://postgres@127.0.0.1:<port>/<name>`.
    #[must_use]
    pub fn url(&self) -> String {
        with_database(&self.admin_url, &self.name)
    }

    /// Makes a schema in it, and a role whose `search_path` begins with that schema. Returns the role's URL. The role
    /// stays on the server.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn with_schema(&self, schema: &str) -> Result<String> {
        let (name, role) = (&self.name, format!("of_{}", self.name));
        for sql in [
            format!("CREATE ROLE {role} LOGIN"),
            format!("CREATE SCHEMA \"{schema}\" AUTHORIZATION {role}"),
            format!("ALTER ROLE {role} SET search_path = \"{schema}\""),
            format!("GRANT CREATE ON DATABASE {name} TO {role}"),
        ] {
            query(&self.url(), &sql)?;
        }
        let user = |user: &str| format!("//{user}@");
        Ok(self.url().replacen(&user(SUPERUSER), &user(&role), 1))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // If the server is already gone, there is nothing to drop.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = query(&self.admin_url, &sql);
    }
}

/// The same server as `url`'s, another database. Parameters after `?` are kept.
fn with_database(url: &str, name: &str) -> String {
    let (path, parameters) = match url.split_once('?') {
        Some((path, parameters)) => (path, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let server = path.rsplit_once('/').map_or(path, |(server, _)| server);
    format!("{server}/{name}{parameters}")
}

/// The URL of a database on this loopback port, as the superuser.
#[must_use]
pub fn url(port: u16, database: &str) -> String {
    format!("postgres://{SUPERUSER}@127.0.0.1:{port}/{database}")
}

/// Runs one statement through `psql`.
///
/// # Errors
/// When `psql` is missing or the server refuses the statement.
pub fn query(url: &str, sql: &str) -> Result<()> {
    let mut command = Command::new(program("psql")?);
    command
        .args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(url)
        .env("PGCONNECT_TIMEOUT", "5");
    run(&mut command)
}

/// Whether a server accepts queries on this loopback port.
#[must_use]
pub fn answers(port: u16) -> bool {
    query(&url(port, "postgres"), "SELECT 1").is_ok()
}

/// The directory for a cluster that is meant for `wanted`. If the unprivileged user that PostgreSQL needs cannot reach
/// `wanted`, it is a directory below /var/tmp that is used only for that path.
///
/// # Errors
/// When the user database cannot be read.
pub fn reachable_directory(wanted: &Path) -> Result<PathBuf> {
    let Some(user) = server_user()? else {
        return Ok(wanted.to_owned());
    };
    let parent = wanted.parent().unwrap_or(wanted);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let mut test = Command::new("test");
    test.arg("-x").arg(parent);
    if run(&mut user.run_as(&test)).is_ok() {
        return Ok(wanted.to_owned());
    }
    let name = hash_of_path(wanted);
    Ok(PathBuf::from("/var/tmp").join(format!("seckill-{name}")))
}

/// FNV-1a of the path. Unlike the standard library's hashes it is the same at every start.
fn hash_of_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Makes a new cluster in `data` unless there is one.
///
/// # Errors
/// When `initdb` fails, with its output.
pub fn init(data: &Path) -> Result<()> {
    if data.join("PG_VERSION").exists() {
        return Ok(());
    }
    fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    // initdb accepts an existing directory only if it is empty and belongs to its user.
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    if let Some(user) = server_user()? {
        chown(data, Some(user.uid), Some(user.gid))?;
        if let Some(parent) = data.parent() {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
        }
    }
    let mut command = Command::new(program("initdb")?);
    command
        .args(["--auth=trust", "--encoding=UTF8", "--locale=C"])
        .args(["--no-sync", "--username", SUPERUSER, "-D"])
        .arg(data);
    run(&mut as_server_user(command)?)
}

/// The command line of a server over the cluster in `data` that syncs what is committed, as the right user.
///
/// # Errors
/// When PostgreSQL's server programs are not found.
pub fn server_command(data: &Path, port: u16) -> Result<Command> {
    as_server_user(bare_command(data, port, &SALE_SETTINGS)?)
}

fn bare_command(data: &Path, port: u16, settings: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("postgres")?);
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        // No Unix socket, because the length of its path is limited. All clients connect over TCP.
        .args(["-c", "unix_socket_directories="])
        .args(["-c", "max_connections=200"])
        .current_dir("/");
    for setting in settings {
        command.args(["-c", setting]);
    }
    Ok(command)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}\n{}", output.status, message.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_server_still_has_its_databases_and_a_dropped_database_is_gone() {
        let mut server = Postgres::start().unwrap();
        let database = server.fresh_database().unwrap();
        let url = database.url();
        query(&url, "CREATE TABLE t AS SELECT 1 AS one").unwrap();

        server.kill().unwrap();
        assert!(query(&url, "TABLE t").is_err());
        server.restart().unwrap();
        query(&url, "TABLE t").unwrap();

        drop(database);
        let error = query(&url, "TABLE t").unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn another_database_of_the_same_server_keeps_the_parameters() {
        let url = "postgres://u:p@db:5432/postgres?sslmode=require";
        assert_eq!(
            with_database(url, "x"),
            "postgres://u:p@db:5432/x?sslmode=require"
        );
    }
}
