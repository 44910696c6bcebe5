//! A listener over TLS beside the plain one, for clients that sign in.

use std::fmt::Write;
use std::path::PathBuf;

use crate::tls::Certificate;

/// The mechanisms to sign in, each with the name of its login module.
const MECHANISMS: [(&str, &str); 3] = [
    ("SCRAM-SHA-256", "scram.ScramLoginModule"),
    ("SCRAM-SHA-512", "scram.ScramLoginModule"),
    ("PLAIN", "plain.PlainLoginModule"),
];

/// An additional listener on a loopback port. Its clients need a certificate, and sign in with one of [`MECHANISMS`].
#[derive(Clone, Debug)]
pub struct SecureListener {
    pub port: u16,
    /// The certificate of the listener.
    pub certificate: Certificate,
    /// The authority that signs the clients' certificates.
    pub clients_of: PathBuf,
}

/// The listeners over TLS, and the user who may sign in.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub listeners: Vec<SecureListener>,
    /// The user and the password.
    pub login: (String, String),
}

impl Security {
    fn names(&self) -> impl Iterator<Item = (String, &SecureListener)> {
        let numbered = self.listeners.iter().enumerate();
        numbered.map(|(number, listener)| (format!("SECURE{number}"), listener))
    }

    /// Additional values of `listeners` and of `advertised.listeners`.
    pub(super) fn addresses(&self) -> String {
        let address = |(name, listener): (String, &SecureListener)| {
            format!(",{name}://127.0.0.1:{}", listener.port)
        };
        self.names().map(address).collect()
    }

    /// Additional values of `listener.security.protocol.map`.
    pub(super) fn protocols(&self) -> String {
        self.names()
            .map(|(name, _)| format!(",{name}:SASL_SSL"))
            .collect()
    }

    /// The properties of each single listener.
    pub(super) fn properties(&self) -> String {
        let mut text = String::new();
        for (name, listener) in self.names() {
            let prefix = format!("listener.name.{}", name.to_lowercase());
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "{prefix}.ssl.keystore.type=PEM
{prefix}.ssl.keystore.location={}
{prefix}.ssl.truststore.type=PEM
{prefix}.ssl.truststore.location={}
{prefix}.ssl.client.auth=required
{prefix}.sasl.enabled.mechanisms={}
",
                listener.certificate.both.display(),
                listener.clients_of.display(),
                MECHANISMS.map(|(mechanism, _)| mechanism).join(","),
            );
            // SCRAM reads its users from the log, and ignores the one that is named here.
            let (user, password) = &self.login;
            for (mechanism, module) in MECHANISMS {
                let _ = writeln!(
                    text,
                    "{prefix}.{}.sasl.jaas.config=org.apache.kafka.common.security.{module} required user_{user}=\"{password}\";",
                    mechanism.to_lowercase()
                );
            }
        }
        text
    }

    /// Arguments for the tool that formats the log directory. It writes the user's record.
    pub(super) fn format_arguments(&self) -> Vec<String> {
        let (user, password) = &self.login;
        if user.is_empty() {
            return Vec::new();
        }
        let mechanisms = MECHANISMS.map(|(mechanism, _)| mechanism).into_iter();
        let scram = mechanisms.filter(|mechanism| mechanism.starts_with("SCRAM"));
        let add = |mechanism| {
            let user = format!("{mechanism}=[name={user},password={password}]");
            ["--add-scram".to_owned(), user]
        };
        scram.flat_map(add).collect()
    }
}
