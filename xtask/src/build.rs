//! Calls to cargo.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::workspace_root;

/// What the local stack runs, of the release build.
const PACKAGES: [&str; 6] = [
    "seckill-ingress",
    "seckill-projector",
    "seckill-timeout",
    "seckill-payment-simulator",
    "seckillctl",
    "seckill-bench",
];

/// The same for every stage of the tests, so that nothing is built twice.
pub(crate) const FEATURES: &str =
    "--features=seckill-ingress/failpoints,seckill-projector/failpoints,seckill-timeout/failpoints";

/// What the tests' build and the lints look at: everything, so that neither leaves out what the other sees.
pub(crate) const ALL_TARGETS: [&str; 4] = ["--workspace", "--all-targets", "--locked", FEATURES];

/// Which binaries the local stack runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Those of the tests: of `demo` and `test`, the second finds everything built.
    Tests,
    /// Optimised ones, which say something about speed.
    Release,
}

impl Build {
    /// Builds the binaries of the services and tools.
    ///
    /// # Errors
    /// When cargo fails.
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Build::Tests => cargo(&[&["build"], &ALL_TARGETS[..]].concat()),
            Build::Release => {
                let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
                let arguments = ["build", "--release", "--locked"].into_iter();
                cargo(&arguments.chain(packages).collect::<Vec<&str>>())
            }
        }
    }

    /// The path of one of its binaries.
    ///
    /// # Errors
    /// When it can't be told where this program is.
    pub(crate) fn binary(self, name: &str) -> Result<PathBuf> {
        let us = std::env::current_exe()?;
        let target = us
            .ancestors()
            .nth(2)
            .context("where is the target directory?")?;
        let profile = match self {
            Build::Tests => "debug",
            Build::Release => "release",
        };
        Ok(target.join(profile).join(name))
    }
}

/// Runs cargo in the workspace, with its output to ours.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(command().args(arguments))
}

/// The cargo that runs us, in the workspace, as if it were called there by hand.
pub(crate) fn command() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace_root());
    // What cargo says of this program to it. Build scripts that look at the same variables, as ring's does, would run
    // again after each call by hand, and most of the workspace would be built anew.
    for (name, _) in std::env::vars_os() {
        let said = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if said.iter().any(|p| name.to_string_lossy().starts_with(p)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, with its output to ours.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}
