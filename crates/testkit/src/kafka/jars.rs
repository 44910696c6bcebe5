//! Kafka's jars, which a committed list names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace_root;

/// Whether the jars of the committed list are there.
#[must_use]
pub fn jars_are_installed() -> bool {
    let installed = fs::read(libs().join("pom.xml"));
    installed.is_ok_and(|list| fs::read(jar_list()).is_ok_and(|wanted| wanted == list))
}

fn jar_list() -> PathBuf {
    workspace_root().join("ops/local/kafka/pom.xml")
}

/// Fetches Kafka's jars with Maven into `target/kafka/libs` unless those of the committed list are there.
///
/// # Errors
/// When Maven is missing or cannot fetch, with its output.
pub fn install_jars() -> Result<()> {
    if jars_are_installed() {
        return Ok(());
    }
    let (libs, list) = (libs(), jar_list());
    // Download into another directory and then rename that, so that another test process never sees a part of the jars.
    let parent = libs.parent().context("no directory for the jars")?;
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new()
        .prefix("libs-")
        .tempdir_in(parent)?;
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&list)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", fresh.path().display()))
        .stdin(Stdio::null())
        .output()
        .context("cannot run mvn; install Maven")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stdout);
        bail!("fetching Kafka's jars: {}\n{message}", output.status);
    }
    fs::copy(&list, fresh.path().join("pom.xml"))?;
    put_in_place(&fresh.keep(), &libs)
}

fn put_in_place(fresh: &Path, libs: &Path) -> Result<()> {
    if libs.exists() {
        let old = fresh.with_extension("old");
        fs::rename(libs, &old)?;
        fs::remove_dir_all(&old)?;
    }
    fs::rename(fresh, libs).with_context(|| format!("cannot replace {}", libs.display()))
}

pub(super) fn libs() -> PathBuf {
    workspace_root().join("target/kafka/libs")
}
