//! Programs that are run against a fresh local stack.

use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use seckill_testkit::workspace_root;

use crate::build::Build;
use crate::{local, settings};

/// Runs the demo; with `once` the stack is stopped afterwards, with `protected` the ingress limits rates. Gives the
/// demo's exit status.
pub(crate) fn demo(once: bool, protected: bool, arguments: &[String]) -> Result<ExitCode> {
    let mut wanted = settings::of_caller();
    if protected {
        settings::add_limits(&mut wanted);
    }
    let build = Build::Tests;
    local::up(build, true, &wanted)?;
    let status = run(build, "seckill-demo", arguments);
    if once {
        local::down()?;
    } else {
        println!("the stack is still up; `cargo xtask down` stops it");
    }
    status.map(exit_code)
}

/// Runs the throughput benchmark and stops the stack. Gives the benchmark's exit status.
pub(crate) fn bench(arguments: &[String]) -> Result<ExitCode> {
    let build = Build::Release;
    local::up(build, true, &settings::of_caller())?;
    let status = run(build, "seckill-bench", arguments);
    local::down()?;
    status.map(exit_code)
}

fn run(build: Build, binary: &str, arguments: &[String]) -> Result<ExitStatus> {
    Command::new(build.binary(binary)?)
        .args(arguments)
        .envs(settings::read_env(&local::env_file())?)
        .current_dir(workspace_root())
        .status()
        .with_context(|| format!("cannot run {binary}"))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    // A signal has no exit code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
