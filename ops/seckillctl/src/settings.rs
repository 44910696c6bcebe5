//! The settings of the commands. Each command reads only its own, so that settings that it does not use need not be
//! set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seckill_http_client::{HttpClient, Limits};
use seckill_service::settings::{Reader, SECRET_MIN_BYTES, Secret, SettingsError, Source};
use seckill_stock::RedisServer;
use seckill_stores::{Kafka, database_url, redis};

const ADMIN_URL: &str = "INGRESS_ADMIN_URL";
const ADMIN_CA: &str = "INGRESS_ADMIN_SSL_CA_LOCATION";
const ADMIN_LIMITS: Limits = Limits {
    // This has to be longer than the time after which the ingress gives up on Kafka and answers 503.
    timeout: Duration::from_secs(15),
    answer_bytes: 16 << 20,
};

/// Where settings come from.
#[derive(Debug)]
pub(crate) struct Settings(Source);

/// The address of the admin API, and how to authenticate.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The client for its address.
    pub(crate) http: HttpClient,
    /// The bearer token.
    pub(crate) token: Secret,
}

/// Settings that a command needs together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// [`Settings::kafka`].
    Kafka,
    /// [`Settings::database_url`].
    Database,
    /// [`Settings::redis`] and [`Settings::promise_deadline`].
    Redis,
    /// [`Settings::grace`].
    Grace,
    /// [`Settings::token_secret`].
    TokenSecret,
}

impl Settings {
    /// Reads `file` if it is given, otherwise the environment.
    pub(crate) fn load(file: Option<&Path>) -> Self {
        Self(file.map_or_else(Source::load, Source::from_file))
    }

    /// Finds all mistakes in the settings that a command needs, before they are read one by one.
    pub(crate) fn check(&self, needs: &[Need]) -> Result<(), SettingsError> {
        let mut reader = Reader::new(&self.0);
        for need in needs {
            match need {
                Need::Kafka => drop(Kafka::read(&mut reader)),
                Need::Database => drop(database_url(&mut reader)),
                Need::Redis => drop((redis(&mut reader), promise_deadline(&mut reader))),
                Need::Grace => drop(grace(&mut reader)),
                Need::TokenSecret => drop(token_secret(&mut reader)),
            }
        }
        reader.finish(Some(()))
    }

    /// The brokers, and how to sign in to them.
    pub(crate) fn kafka(&self) -> Result<Kafka, SettingsError> {
        self.read(Kafka::read)
    }

    /// `DATABASE_URL`.
    pub(crate) fn database_url(&self) -> Result<String, SettingsError> {
        Ok(self.read(database_url)?.expose().to_owned())
    }

    /// `REDIS_URL`, and the files for TLS.
    pub(crate) fn redis(&self) -> Result<RedisServer, SettingsError> {
        self.read(redis)
    }

    /// `PROMISE_DEADLINE_MS`, the same value as for the services.
    pub(crate) fn promise_deadline(&self) -> Result<Duration, SettingsError> {
        self.read(promise_deadline)
    }

    /// `EXPIRY_GRACE_SECONDS`, the same value as for the timeout service.
    pub(crate) fn grace(&self) -> Result<Duration, SettingsError> {
        self.read(grace)
    }

    /// `INGRESS_ADMIN_URL` or the address in the ingress' own setting, and `ADMIN_TOKEN`. For an `https` URL,
    /// `INGRESS_ADMIN_SSL_CA_LOCATION` is the authority that signs the certificate.
    pub(crate) fn admin(&self) -> Result<Admin, SettingsError> {
        let mut reader = Reader::new(&self.0);
        let url: Option<Option<String>> = reader.optional(ADMIN_URL);
        let ca: Option<Option<PathBuf>> = reader.optional(ADMIN_CA);
        let listen = reader.or(
            "INGRESS_ADMIN_LISTEN",
            SocketAddr::from(([127, 0, 0, 1], 8081)),
        );
        let token = reader.secret("ADMIN_TOKEN", 1);
        let http = url.zip(listen).zip(ca).and_then(|((url, listen), ca)| {
            let url = url.unwrap_or_else(|| format!("http://{listen}"));
            let http = HttpClient::new(&url, ca.as_deref(), ADMIN_LIMITS);
            http.map_err(|why| {
                let name = why.which(ADMIN_URL, ADMIN_CA);
                reader.refuse(name, &format!("cannot be used: {why}"));
            })
            .ok()
        });
        reader.finish(http.zip(token).map(|(http, token)| Admin { http, token }))
    }

    /// `TOKEN_SECRET`.
    pub(crate) fn token_secret(&self) -> Result<Secret, SettingsError> {
        self.read(token_secret)
    }

    fn read<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T, SettingsError> {
        let mut reader = Reader::new(&self.0);
        let value = read(&mut reader);
        reader.finish(value)
    }
}

fn token_secret(reader: &mut Reader<'_>) -> Option<Secret> {
    reader.secret("TOKEN_SECRET", SECRET_MIN_BYTES)
}

fn promise_deadline(reader: &mut Reader<'_>) -> Option<Duration> {
    let deadline_ms = reader.or("PROMISE_DEADLINE_MS", 3_000);
    deadline_ms.map(Duration::from_millis)
}

fn grace(reader: &mut Reader<'_>) -> Option<Duration> {
    let seconds: Option<u32> = reader.or("EXPIRY_GRACE_SECONDS", 2);
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(Source::from_iter(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_address_is_the_url_else_where_the_ingress_listens() {
        let url = |name, value| {
            let settings = Settings::from([("ADMIN_TOKEN", "t"), (name, value)]);
            settings.admin().unwrap().http.url().to_owned()
        };
        assert_eq!(url("INGRESS_ADMIN_URL", "http://a:1/"), "http://a:1");
        assert_eq!(
            url("INGRESS_ADMIN_LISTEN", "[::1]:9000"),
            "http://[::1]:9000"
        );
        assert_eq!(url("OTHER", "x"), "http://127.0.0.1:8081");
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let settings = Settings::from([("EVENT_PARTITIONS", "0"), ("TOKEN_SECRET", "short")]);
        let kafka = settings.kafka().unwrap_err().to_string();
        assert!(
            kafka.contains("KAFKA_BROKERS") && kafka.contains("EVENT_PARTITIONS"),
            "{kafka}"
        );
        let secret = settings.token_secret().unwrap_err().to_string();
        assert!(secret.contains("TOKEN_SECRET"), "{secret}");
        assert!(settings.database_url().is_err());
        assert!(settings.admin().is_err());
    }
}
