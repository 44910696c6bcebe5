//! A server on which every role except the superuser needs TLS and a password.

use std::fs;
use std::os::unix::fs::chown;

use std::path::Path;

use anyhow::Result;

use super::account::server_user;
use super::{Postgres, PostgresOptions, SUPERUSER};
use crate::tls::{Certificate, text};

impl Postgres {
    /// As [`Postgres::start`], with this certificate, whose files then belong to the server. Roles sign in over TLS
    /// with a certificate of `clients_of` and a password. The superuser connects as to any other server of a test.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn secured(certificate: &Certificate, clients_of: &Path) -> Result<Self> {
        if let Some(user) = server_user()? {
            chown(&certificate.key, Some(user.uid), Some(user.gid))?;
        }
        let rules = certificate.key.with_extension("hba");
        let lines = format!(
            "host all {SUPERUSER} 127.0.0.1/32 trust\n\
             hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        );
        fs::write(&rules, lines)?;
        let settings = vec![
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", text(&certificate.certificate)),
            ("ssl_key_file", text(&certificate.key)),
            ("ssl_ca_file", text(clients_of)),
            ("hba_file", text(&rules)),
        ];
        Self::with(PostgresOptions {
            settings,
            ..PostgresOptions::default()
        })
    }
}
