//! A server that lets nobody but its superuser in without TLS and a password.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use anyhow::Result;

use super::account::server_user;
use super::{Postgres, PostgresOptions, SUPERUSER};
use crate::tls::{Certificate, text};

impl Postgres {
    /// As [`Postgres::start`], with this certificate, which is the server's alone from now on. Roles sign in over TLS
    /// with a password; the superuser comes as to any other server of a test.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn secured(certificate: &Certificate) -> Result<Self> {
        // The server takes no key that others could read.
        fs::set_permissions(&certificate.key, fs::Permissions::from_mode(0o600))?;
        if let Some(user) = server_user()? {
            chown(&certificate.key, Some(user.uid), Some(user.gid))?;
        }
        let rules = certificate.key.with_extension("hba");
        let lines = format!(
            "host all {SUPERUSER} 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(&rules, lines)?;
        let settings = vec![
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", text(&certificate.certificate)),
            ("ssl_key_file", text(&certificate.key)),
            ("hba_file", text(&rules)),
        ];
        Self::with(PostgresOptions {
            settings,
            ..PostgresOptions::default()
        })
    }
}
