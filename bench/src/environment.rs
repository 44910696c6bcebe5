//! Where the stack is and the secrets to speak to it, from the environment.

use std::fmt;

use seckill_service::settings::{Reader, SECRET_MIN_BYTES, Secret, SettingsError, Source};
use seckill_stores::StoreSettings;

/// A running stack, as `cargo xtask up` describes it in the environment.
#[derive(Clone)]
pub struct Environment {
    /// `http://host:port` of the buyers' API.
    pub ingress_url: String,
    /// `http://host:port` of the admin API.
    pub ingress_admin_url: String,
    /// `host:port` of the projector's health and metrics.
    pub projector_admin: String,
    /// `host:port` of the timeout service's health and metrics.
    pub timeout_admin: String,
    /// Where the stores are.
    pub stores: StoreSettings,
    /// How long after an order's `pay_by` it is expired.
    pub expiry_grace_seconds: u64,
    /// Orders a second that the ingress lets in; 0 is no limit.
    pub rate_limit_global_per_second: u32,
    /// Opens the admin API.
    pub admin_token: Secret,
    /// Signs buyers' tokens.
    pub token_secret: Secret,
    /// Signs the payment provider's calls.
    pub webhook_secret: Secret,
}

/// Without what has a password.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("ingress_url", &self.ingress_url)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the stack's description.
    ///
    /// # Errors
    /// Every setting that is missing or cannot be used.
    pub fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let ingress_url = reader.or("INGRESS_URL", "http://127.0.0.1:8080".to_owned());
        let ingress_admin_url = reader.or("INGRESS_ADMIN_URL", "http://127.0.0.1:8081".to_owned());
        let projector_admin = reader.or("PROJECTOR_ADMIN_LISTEN", "127.0.0.1:8082".to_owned());
        let timeout_admin = reader.or("TIMEOUT_ADMIN_LISTEN", "127.0.0.1:8083".to_owned());
        let stores = StoreSettings::read(&mut reader);
        let expiry_grace_seconds = reader.or("EXPIRY_GRACE_SECONDS", 2);
        let rate_limit_global_per_second = reader.or("RATE_LIMIT_GLOBAL_PER_SECOND", 0);
        let admin_token = reader.secret("ADMIN_TOKEN", SECRET_MIN_BYTES);
        let token_secret = reader.secret("TOKEN_SECRET", SECRET_MIN_BYTES);
        let webhook_secret = reader.secret("PAYMENT_WEBHOOK_SECRET", SECRET_MIN_BYTES);
        let environment = (|| {
            Some(Self {
                ingress_url: ingress_url?,
                ingress_admin_url: ingress_admin_url?,
                projector_admin: projector_admin?,
                timeout_admin: timeout_admin?,
                stores: stores?,
                expiry_grace_seconds: expiry_grace_seconds?,
                rate_limit_global_per_second: rate_limit_global_per_second?,
                admin_token: admin_token?,
                token_secret: token_secret?,
                webhook_secret: webhook_secret?,
            })
        })();
        reader.finish(environment)
    }
}

/// A URL without the user and password in it, for people to read.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &url[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named() {
        let SettingsError(errors) =
            Environment::load(&Source::default()).expect_err("nothing is set");
        for name in [
            "KAFKA_BROKERS",
            "REDIS_URL",
            "DATABASE_URL",
            "ADMIN_TOKEN",
            "TOKEN_SECRET",
            "PAYMENT_WEBHOOK_SECRET",
        ] {
            assert!(
                errors.iter().any(|e| e.starts_with(name)),
                "{name}: {errors:?}"
            );
        }
    }

    #[test]
    fn printed_urls_carry_no_password() {
        let url = without_credentials("postgres://me:s@cret@127.0.0.1:5432/seckill");
        assert_eq!(url, "postgres://127.0.0.1:5432/seckill");
        assert_eq!(
            without_credentials("redis://127.0.0.1:6379"),
            "redis://127.0.0.1:6379"
        );
    }
}
