//! Directories for the data of a test run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A new empty directory, removed when dropped.
///
/// A process that is killed, or that keeps a server in a static, does not drop its directories. So their names contain
/// the process id, and the next test run removes those of processes that have ended.
///
/// # Errors
/// When the directory cannot be made.
pub fn scratch_dir(name: &str) -> Result<TempDir> {
    let root = root()?;
    sweep(&root);
    tempfile::Builder::new()
        .prefix(&format!("{}-{name}-", std::process::id()))
        .tempdir_in(&root)
        .with_context(|| format!("cannot make a scratch directory in {}", root.display()))
}

fn root() -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let root = std::env::temp_dir().join(format!("seckill-testkit-{user}"));
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    // If the tests run as root, PostgreSQL runs as another user, who has to be able to enter the directory.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} belongs to somebody else", root.display()))?;
    Ok(root)
}

/// Removes what it can. The rest is removed by a later run.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_string_lossy().split('-').next().map(str::to_owned);
        let alive = owner.is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_dead_processes_are_removed_and_those_of_live_ones_kept() {
        let root = TempDir::new().unwrap();
        // A number above the largest process id of Linux.
        let dead = root.path().join("99999999-redis-x");
        let live = root.path().join(format!("{}-redis-x", std::process::id()));
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&live).unwrap();

        sweep(root.path());

        assert!(!dead.exists());
        assert!(live.exists());
    }
}
