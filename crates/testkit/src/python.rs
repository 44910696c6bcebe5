//! The Python packages of the tests, which committed lists name, in their own virtual environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace_root;

/// The first list includes the second one. Both are compared, so that a change of either is noticed.
const LISTS: [&str; 2] = [
    "ops/local/python/requirements.txt",
    "examples/outcomes-python/requirements.txt",
];

/// Python 3.11 is the oldest that the pinned packages support; Debian's has `ensurepip` only with `python3-venv`.
const CHECK: &str = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";

/// Whether the `python3` of the path can make the environment.
#[must_use]
pub fn is_usable() -> bool {
    let checked = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(Stdio::null())
        .output();
    checked.is_ok_and(|output| output.status.success())
}

/// Whether the packages of the committed lists are there.
#[must_use]
pub fn packages_are_installed() -> bool {
    let installed = fs::read_to_string(stamp());
    // The interpreter is a link to the one of the system, which may no longer exist.
    interpreter().exists()
        && installed.is_ok_and(|lists| wanted().is_ok_and(|wanted| wanted == lists))
}

/// The environment's Python, after [`install_packages`]. `program -m schemathesis.cli` or the like runs a tool.
///
/// # Errors
/// As [`install_packages`].
pub fn program() -> Result<PathBuf> {
    install_packages()?;
    Ok(interpreter())
}

/// A program of one of the packages, after [`install_packages`].
///
/// # Errors
/// As [`install_packages`].
pub fn tool(name: &str) -> Result<PathBuf> {
    Ok(program()?.with_file_name(name))
}

/// A file of one of the packages, by its path in `site-packages`, after [`install_packages`].
///
/// # Errors
/// As [`install_packages`].
pub fn file(path: &str) -> Result<PathBuf> {
    const WHERE: &str = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
    let asked = Command::new(program()?).args(["-c", WHERE]).output()?;
    let packages = String::from_utf8(asked.stdout)?;
    Ok(Path::new(&packages).join(path))
}

/// Installs the packages with pip into `target/python`, unless those of the committed lists are there.
///
/// # Errors
/// When `python3` is missing or too old, or pip cannot get a package, with its output.
pub fn install_packages() -> Result<()> {
    if packages_are_installed() {
        return Ok(());
    }
    let directory = directory();
    if let Some(target) = directory.parent() {
        fs::create_dir_all(target)?;
    }
    // An environment cannot be made elsewhere and then renamed, because its scripts contain its path. So a second
    // process waits for the first one.
    let lock = File::create(directory.with_extension("lock"))?;
    lock.lock()?;
    if packages_are_installed() {
        return Ok(());
    }
    ensure!(
        is_usable(),
        "no python3 of version 3.11 or newer with venv; on Debian: apt-get install python3-venv"
    );
    let wanted = wanted()?;
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&directory))?;
    let [list, _] = LISTS.map(|list| workspace_root().join(list));
    run(Command::new(interpreter())
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--only-binary=:all:"])
        .args(["--require-hashes", "-r"])
        .arg(&list))
    .with_context(|| {
        format!(
            "pip cannot install {}: it needs the network, or an index or a directory of wheels that pip is told of",
            list.display()
        )
    })?;
    fs::write(stamp(), wanted).context("cannot note what is installed")
}

fn run(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let (log, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("{program}: {}\n{log}{errors}", output.status);
    }
    Ok(())
}

fn wanted() -> Result<String> {
    LISTS
        .iter()
        .map(|list| {
            fs::read_to_string(workspace_root().join(list)).with_context(|| (*list).to_owned())
        })
        .collect()
}

fn interpreter() -> PathBuf {
    directory().join("bin/python")
}

/// A file that is written last and deleted by `venv --clear`. If it exists, all packages are installed.
fn stamp() -> PathBuf {
    directory().join("installed.txt")
}

fn directory() -> PathBuf {
    workspace_root().join("target/python")
}
