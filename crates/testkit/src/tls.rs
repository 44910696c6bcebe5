//! A temporary certificate authority and its certificates, made with the `openssl` command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::scratch::scratch_dir;

/// Arguments for keys that are generated quickly.
const KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];
/// The names for which every certificate is valid.
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

/// One authority. Its files are removed when it is dropped.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

/// A certificate of an authority for this machine's loopback, and its key, in PEM form.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub certificate: PathBuf,
    /// Its key. Only its owner may read the file.
    pub key: PathBuf,
    /// Both in one file, the key first.
    pub both: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// When `openssl` is missing or fails, with its output.
    pub fn new() -> Result<Self> {
        let directory = scratch_dir("tls")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let authority = Self { directory };
        fs::write(authority.file("names"), NAMES)?;
        let mut arguments = vec!["req", "-x509"];
        arguments.extend(KEY);
        // Every authority needs another name. Otherwise one would be confused with the other, and only the check of a
        // signature would fail.
        let subject = format!("/CN=to throw away {}", uuid::Uuid::new_v4());
        arguments.extend(["-days", "2", "-subj", &subject]);
        arguments.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        authority.openssl(&arguments)?;
        Ok(authority)
    }

    /// Its own certificate, for clients that trust it.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// A certificate with its own name, valid for a day.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn issue(&self, name: &str) -> Result<Certificate> {
        self.issue_for(name, "1")
    }

    /// The same, expired since yesterday.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn issue_expired(&self, name: &str) -> Result<Certificate> {
        self.issue_for(name, "-1")
    }

    /// The same, valid only for the name `localhost` and for no address.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn issue_for_name_alone(&self, name: &str) -> Result<Certificate> {
        fs::write(self.file("names"), "subjectAltName=DNS:localhost\n")?;
        let issued = self.issue(name);
        fs::write(self.file("names"), NAMES)?;
        issued
    }

    fn issue_for(&self, name: &str, days: &str) -> Result<Certificate> {
        let file = |end: &str| format!("{name}.{end}");
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        let subject = format!("/CN={name}");
        let mut arguments = vec!["req"];
        arguments.extend(KEY);
        arguments.extend(["-subj", &subject, "-keyout", &key, "-out", &request]);
        self.openssl(&arguments)?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            "names",
            "-out",
            &certificate,
        ])?;
        let made = Certificate {
            certificate: self.file(&certificate),
            key: self.file(&key),
            both: self.file(&file("both")),
        };
        let text = fs::read_to_string(&made.key)? + &fs::read_to_string(&made.certificate)?;
        fs::write(&made.both, text)?;
        // Some programs refuse keys with other permissions.
        fs::set_permissions(&made.key, fs::Permissions::from_mode(0o600))?;
        Ok(made)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .context("cannot run openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {arguments:?}: {errors}");
        Ok(())
    }
}

/// A path as a setting.
#[must_use]
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
