//! A disk so small that a test can fill it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::scratch::scratch_dir;

/// The file that fills the disk.
const BALLAST: &str = "ballast";

/// A memory disk with a fixed number of bytes. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts an empty disk of `megabytes`.
    ///
    /// # Errors
    /// When `mount` is missing or fails, also if it is not permitted. The test has to fail then, because it can show
    /// nothing without its disk.
    pub fn mount(megabytes: u32) -> Result<Self> {
        let directory = scratch_dir("disk")?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=0755"))
            .arg("tmpfs")
            .arg(directory.path())
            .output()
            .context("cannot run mount")?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "this case needs a disk that it can fill, and cannot mount one: run it as root, or under \
             `unshare --user --map-root-user --mount` (mount -t tmpfs: {}: {})",
            output.status,
            message.trim()
        );
        Ok(Self { directory })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Fills the disk, until [`Self::make_room`].
    ///
    /// # Errors
    /// When the file cannot be written for another reason than a full disk.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        for block in [64 * 1024, 4 * 1024] {
            let zeros = vec![0; block];
            loop {
                match ballast.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot write ballast"),
                }
            }
        }
        Ok(())
    }

    /// Frees the space that [`Self::fill`] has used.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("cannot remove the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join(BALLAST)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount, because a server that is about to be killed may still have open files on it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "long run only: it needs the right to mount"]
    fn nothing_can_be_written_to_a_full_disk_until_there_is_room() {
        let disk = SmallDisk::mount(2).unwrap();
        let file = disk.path().join("file");
        disk.fill().unwrap();
        let error = fs::write(&file, [1; 8192]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.make_room().unwrap();
        fs::write(&file, [1; 8192]).unwrap();
    }
}
