//! Redis, PostgreSQL, Kafka and the mail sink of the local stack. A store whose address the caller sets is the caller's:
//! it is used and neither started nor stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;
use seckill_testkit::ports::{free_port, is_free};
use seckill_testkit::postgres;
use seckill_testkit::redis::{self, Persistence};
use seckill_testkit::wait::wait_for;
use seckill_testkit::{Env, kafka, mail};

use crate::build::Build;
use crate::daemon::Daemon;
use crate::step::step;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const DATABASE: &str = "seckill";

type Start = fn(&Path) -> Result<String>;

/// Name, the variable that says where it is, how to start it.
const STORES: [(&str, &str, Start); 4] = [
    ("redis", "REDIS_URL", start_redis),
    ("postgres", "DATABASE_URL", start_postgres),
    ("kafka", "KAFKA_BROKERS", start_kafka),
    ("mail", "SMTP_URL", start_mail_sink),
];

/// Starts the stores that `env` does not name, side by side, and adds their addresses to it.
pub(crate) fn start(directory: &Path, env: &mut Env) -> Result<()> {
    let started = thread::scope(|scope| {
        let starting: Vec<_> = STORES
            .into_iter()
            .filter(|(_, variable, _)| !is_set(env, variable))
            .map(|(name, variable, start)| {
                let work = move || {
                    let address = step(&format!("{name} ready"), || start(directory))?;
                    Ok::<_, anyhow::Error>((variable.to_owned(), address))
                };
                scope.spawn(work)
            })
            .collect();
        starting
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a start panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    env.extend(started);
    Ok(())
}

/// Whether the store of this name is not ours to start.
pub(crate) fn is_callers(env: &Env, store: &str) -> bool {
    STORES
        .iter()
        .any(|(name, variable, _)| *name == store && is_set(env, variable))
}

fn is_set(env: &Env, variable: &str) -> bool {
    env.contains_key(variable) || env.contains_key(&format!("{variable}_FILE"))
}

/// The stores' processes, in the order in which they are stopped, each with the signal for that.
pub(crate) fn daemons(directory: &Path) -> [(Daemon, Signal); 4] {
    [
        (Daemon::new(directory, "redis"), Signal::TERM),
        (Daemon::new(directory, "kafka"), Signal::TERM),
        (Daemon::new(directory, "mail"), Signal::TERM),
        // PostgreSQL's fast shutdown; at SIGTERM it would wait for its clients.
        (Daemon::new(directory, "postgres"), Signal::INT),
    ]
}

/// Stops the stores that run.
pub(crate) fn stop(directory: &Path) -> Result<()> {
    let daemons = daemons(directory);
    for (daemon, signal) in &daemons {
        daemon.signal(*signal)?;
    }
    for (daemon, _) in &daemons {
        daemon.wait_until_gone(STOP_TIMEOUT)?;
    }
    Ok(())
}

/// Deletes what the stores have written. They must not be running.
pub(crate) fn delete_data(directory: &Path) -> Result<()> {
    let stores = [
        directory.join("redis"),
        directory.join("kafka"),
        mail_directory(directory),
        postgres_directory(directory)?,
    ];
    for store in stores.iter().filter(|store| store.exists()) {
        fs::remove_dir_all(store).with_context(|| format!("cannot delete {}", store.display()))?;
    }
    Ok(())
}

fn start_redis(directory: &Path) -> Result<String> {
    let data = directory.join("redis");
    fs::create_dir_all(&data)?;
    let port = free_port()?;
    let daemon = Daemon::new(directory, "redis");
    daemon.start(&redis::server_command(&data, port, Persistence::AppendOnly))?;
    wait_until_ready(&daemon, || redis::answers(port))?;
    Ok(redis::url(port))
}

fn start_kafka(directory: &Path) -> Result<String> {
    let data = directory.join("kafka");
    let ports = kafka::Ports::free()?;
    kafka::prepare(&data, ports)?;
    let daemon = Daemon::new(directory, "kafka");
    daemon.start(&kafka::server_command(&data))?;
    wait_until_ready(&daemon, || kafka::answers(ports.broker))?;
    Ok(format!("127.0.0.1:{}", ports.broker))
}

/// Where the sink keeps what it was sent.
pub(crate) fn mail_directory(directory: &Path) -> PathBuf {
    directory.join("mail")
}

/// The sink is this program again, under a command of its own.
fn start_mail_sink(directory: &Path) -> Result<String> {
    let data = mail_directory(directory);
    fs::create_dir_all(&data)?;
    let port = free_port()?;
    let daemon = Daemon::new(directory, "mail");
    // This program; the build of the tests may have put a new file in the place of the one that runs.
    let mut command = Command::new(Build::Tests.binary("xtask")?);
    command
        .args(["mail-sink", "--port", &port.to_string(), "--directory"])
        .arg(&data);
    daemon.start(&command)?;
    wait_until_ready(&daemon, || !is_free(port))?;
    Ok(mail::url(port))
}

fn start_postgres(directory: &Path) -> Result<String> {
    let data = postgres_directory(directory)?.join("data");
    postgres::init(&data)?;
    let port = free_port()?;
    let daemon = Daemon::new(directory, "postgres");
    let command = postgres::server_command(&data, port)?;
    let start = || {
        daemon.start(&command)?;
        wait_until_ready(&daemon, || postgres::answers(port))
    };
    wait_for("end of a killed PostgreSQL", STOP_TIMEOUT, || {
        match start() {
            // Only somebody else's lock file is still there after a start that failed: a server that was
            // killed keeps its lock until all of its processes are gone.
            Err(_) if data.join("postmaster.pid").exists() => Ok(None),
            result => result.map(Some),
        }
    })
    .with_context(|| daemon.log_tail())?;
    let url = postgres::url(port, DATABASE);
    if postgres::query(&url, "SELECT 1").is_err() {
        let create = format!("CREATE DATABASE {DATABASE}");
        postgres::query(&postgres::url(port, "postgres"), &create)?;
    }
    Ok(url)
}

fn postgres_directory(directory: &Path) -> Result<PathBuf> {
    postgres::reachable_directory(&directory.join("postgres"))
}

fn wait_until_ready(daemon: &Daemon, ready: impl Fn() -> bool) -> Result<()> {
    let what = format!("readiness of {}", daemon.name);
    wait_for(&what, START_TIMEOUT, || {
        daemon.expect_alive()?;
        Ok(ready().then_some(()))
    })
    .with_context(|| daemon.log_tail())
}
