//! Builds the examples in other languages into `target/examples`, once in each test run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use seckill_testkit::workspace_root;

/// Held while an example is built, because tests in parallel need the same programs.
static BUILDING: Mutex<()> = Mutex::new(());

fn target(name: &str) -> PathBuf {
    workspace_root().join("target/examples").join(name)
}

fn source(name: &str) -> PathBuf {
    workspace_root().join("examples").join(name)
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> Result<()> {
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {said}{errors}"
    );
    Ok(())
}

/// The program.
pub(super) fn go() -> Result<PathBuf> {
    let program = target("outcomes-go");
    let to = program.display().to_string();
    run("go", &["build", "-o", &to, "."], &source("outcomes-go"))?;
    Ok(program)
}

/// What `java` is started with for the example in a folder.
pub(super) fn java(name: &str, main_class: &str) -> Result<Vec<String>> {
    let goals = [
        "--quiet",
        "--batch-mode",
        "compile",
        "dependency:copy-dependencies",
    ];
    run("mvn", &goals, &source(name))?;
    let built = target(name);
    let built = built.display();
    let class_path = format!("{built}/classes:{built}/dependency/*");
    Ok(vec!["-cp".to_owned(), class_path, main_class.to_owned()])
}

/// Installs what a folder's lock file names.
pub(crate) fn npm_packages(directory: &Path) -> Result<()> {
    let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run("npm", &options, directory)
}

/// The script that `node` is started with.
pub(super) fn typescript() -> Result<PathBuf> {
    let (from, to) = (source("outcomes-typescript"), target("outcomes-typescript"));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().context("no name")?))?;
        }
    }
    npm_packages(&to)?;
    run("npx", &["tsc"], &to)?;
    Ok(to.join("dist/consumer.js"))
}
