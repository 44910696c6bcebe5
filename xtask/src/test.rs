//! All checks, as continuous integration runs them.

use anyhow::Result;
use seckill_testkit::shared::{DATABASE_VARIABLE, KAFKA_VARIABLE};
use seckill_testkit::{Kafka, Postgres};

use crate::build::{self, cargo};
use crate::step::step;

/// The same for every stage, so that nothing is built twice.
const FEATURES: &str =
    "--features=seckill-ingress/failpoints,seckill-projector/failpoints,seckill-timeout/failpoints";

/// Runs every stage; the first that fails is the last. The tests' servers die with this process, also at Ctrl-C.
pub(crate) fn run(long: bool, filters: &[String]) -> Result<()> {
    step("format checked", || cargo(&["fmt", "--all", "--check"]))?;
    step("lints clean", || {
        let targets = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            FEATURES,
        ];
        cargo(&[&targets[..], &["--", "--deny", "warnings"]].concat())
    })?;
    // The services' binaries too: tests run them as processes.
    step("services and tests built", || {
        cargo(&[
            "build",
            "--workspace",
            "--all-targets",
            "--locked",
            FEATURES,
        ])
    })?;
    let kafka = step("Kafka ready", Kafka::start)?;
    let postgres = step("PostgreSQL ready", Postgres::start)?;
    step("tests passed", || {
        // Without `--all-targets`, which leaves the doc tests out: what must not compile is tested there.
        let mut command = build::command();
        command
            .args([
                "test",
                "--workspace",
                "--locked",
                "--no-fail-fast",
                FEATURES,
            ])
            .arg("--")
            .args(long.then_some("--include-ignored"))
            .args(filters)
            .env(KAFKA_VARIABLE, kafka.brokers())
            .env(DATABASE_VARIABLE, postgres.admin_url());
        build::run(&mut command)
    })
}
