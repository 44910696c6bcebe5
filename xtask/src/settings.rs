//! The services' environment in the local stack: the caller's settings over generated ones.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use seckill_testkit::Env;
use seckill_testkit::ports::{free_port, is_free};
use seckill_testkit::stack::secret;

/// What the caller may set for the services, each also as `NAME_FILE`.
const SETTINGS: &[&str] = &[
    "KAFKA_BROKERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CA_LOCATION",
    "KAFKA_SSL_CERTIFICATE_LOCATION",
    "KAFKA_SSL_KEY_LOCATION",
    "REDIS_URL",
    "REDIS_SSL_CA_LOCATION",
    "REDIS_SSL_CERTIFICATE_LOCATION",
    "REDIS_SSL_KEY_LOCATION",
    "DATABASE_URL",
    "SCHEMA_REGISTRY_URL",
    "SCHEMA_REGISTRY_USERNAME",
    "SCHEMA_REGISTRY_PASSWORD",
    "SCHEMA_REGISTRY_SSL_CA_LOCATION",
    "TOPIC_PREFIX",
    "INGRESS_LISTEN",
    "INGRESS_ADMIN_LISTEN",
    "PROJECTOR_ADMIN_LISTEN",
    "TIMEOUT_ADMIN_LISTEN",
    "PAYMENT_SIMULATOR_LISTEN",
    "PAYMENT_SIMULATOR_ANYWHERE",
    "ADMIN_TOKEN",
    "ADMIN_TOKENS",
    "ADMIN_ISSUER",
    "ADMIN_AUDIENCE",
    "ADMIN_ROLES_CLAIM",
    "BUYER_ISSUER",
    "BUYER_AUDIENCE",
    "TOKEN_SECRET",
    "TOKEN_SECRET_PREVIOUS",
    "PAYMENT_WEBHOOK_SECRET",
    "PAYMENT_WEBHOOK_SECRET_PREVIOUS",
    "PAYMENT_PAGE_URL",
    "SMTP_URL",
    "SMTP_WITHOUT_TLS_TO",
    "MAIL_FROM",
    "SIGN_IN_ALLOWED_DOMAINS",
    "SIGN_IN_LIMITS",
    "SIGN_IN_CLIENT_PER_MINUTE",
    "SIGN_IN_GLOBAL_PER_MINUTE",
    "SIGN_IN_MAILBOX_IS_ONE_USER",
    "TOKEN_LIFE_SECONDS",
    "RATE_LIMIT_ADDRESS_PER_SECOND",
    "RATE_LIMIT_USER_PER_SECOND",
    "RATE_LIMIT_VOUCHER_PER_SECOND",
    "RATE_LIMIT_GLOBAL_PER_SECOND",
    "RATE_LIMIT_SHARED",
    "TRUSTED_PROXIES",
    "TRUSTED_PROXIES_HEADER",
    "EXPIRY_GRACE_SECONDS",
    "PROMISE_DEADLINE_MS",
    "EVENT_PARTITIONS",
    "MAX_IN_FLIGHT",
    "ADMISSION_ORDER_QUEUE_MS",
    "ADMISSION_PAYMENTS_MAX",
    "ADMISSION_READS_MAX",
    "ADMISSION_BODIES_PER_ADDRESS",
    "INGRESS_WORKERS",
    "KEEP_ALIVE_SECONDS",
    "DRAIN_DELAY_MS",
    "FOLD_BATCH_MAX",
    "EXPIRY_POLL_MS",
    "LOG_FORMAT",
    "RUST_LOG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER_ARG",
    "SECKILL_FAILPOINTS",
];

const SECRETS: [&str; 3] = ["ADMIN_TOKEN", "TOKEN_SECRET", "PAYMENT_WEBHOOK_SECRET"];

const LIMITS: [(&str, &str); 1] = [("RATE_LIMIT_GLOBAL_PER_SECOND", "100")];

/// Where a service listens unless told otherwise.
const LISTENERS: [(&str, u16); 5] = [
    ("INGRESS_LISTEN", 8080),
    ("INGRESS_ADMIN_LISTEN", 8081),
    ("PROJECTOR_ADMIN_LISTEN", 8082),
    ("TIMEOUT_ADMIN_LISTEN", 8083),
    ("PAYMENT_SIMULATOR_LISTEN", 8084),
];

/// In the stack's own environment file: which settings it made itself, each with a hash of its value. A shell
/// that has read the file hands them on to the next `up`, and they are not the caller's.
const MADE_HERE: &str = "SECKILL_LOCAL_STACK";

/// What the caller has set of [`SETTINGS`].
pub(crate) fn of_caller() -> Env {
    callers(|name| std::env::var(name).ok())
}

fn callers(variable: impl Fn(&str) -> Option<String>) -> Env {
    let made_here = variable(MADE_HERE).unwrap_or_default();
    let made_here: HashSet<&str> = made_here.split(',').collect();
    SETTINGS
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}_FILE")])
        .filter_map(|name| {
            let value = variable(&name).filter(|value| !value.is_empty())?;
            let is_callers = !made_here.contains(mark(&name, &value).as_str());
            is_callers.then_some((name, value))
        })
        .collect()
}

/// Notes which settings are not the caller's.
pub(crate) fn mark_made_here(env: &mut Env, wanted: &Env) {
    let made_here = env.iter().filter(|(name, _)| !wanted.contains_key(*name));
    let marks: Vec<String> = made_here.map(|(name, value)| mark(name, value)).collect();
    env.insert(MADE_HERE.to_owned(), marks.join(","));
}

fn mark(name: &str, value: &str) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{name}:{:x}", hasher.finish())
}

/// Adds the limits of a stack that faces the public, where the caller has not set them.
pub(crate) fn add_limits(env: &mut Env) {
    for (name, value) in LIMITS {
        if !env.contains_key(&format!("{name}_FILE")) {
            env.entry(name.to_owned()).or_insert(value.to_owned());
        }
    }
}

/// Adds secrets that the caller has not set, the same ones at every start.
pub(crate) fn add_secrets(env: &mut Env, file: &Path) -> Result<()> {
    if !file.exists() {
        let generated = SECRETS.map(|name| (name.to_owned(), secret()));
        write_private(file, &to_lines(&generated.into()))?;
    }
    let generated = read_env(file)?;
    for (name, value) in generated {
        if !env.contains_key(&format!("{name}_FILE")) {
            env.entry(name).or_insert(value);
        }
    }
    Ok(())
}

/// Adds the listeners that the caller has not set: the usual ports, or other ones where those are taken.
pub(crate) fn add_listeners(env: &mut Env) -> Result<()> {
    for (name, usual) in LISTENERS {
        if env.contains_key(name) {
            let address = listener(env, name)?;
            ensure!(is_free(address.port()), "{name}: {address} is taken");
            continue;
        }
        let port = if is_free(usual) { usual } else { free_port()? };
        if port != usual {
            eprintln!("port {usual} is taken: {name} is 127.0.0.1:{port}");
        }
        env.insert(name.to_owned(), format!("127.0.0.1:{port}"));
    }
    let (buyers, operators) = (
        listener(env, "INGRESS_LISTEN")?,
        listener(env, "INGRESS_ADMIN_LISTEN")?,
    );
    env.insert("INGRESS_URL".to_owned(), format!("http://{buyers}"));
    env.insert(
        "INGRESS_ADMIN_URL".to_owned(),
        format!("http://{operators}"),
    );
    let payments = listener(env, "PAYMENT_SIMULATOR_LISTEN")?;
    env.entry("PAYMENT_PAGE_URL".to_owned())
        .or_insert_with(|| format!("http://{payments}/pay"));
    Ok(())
}

/// Where a listener can be reached from this machine.
pub(crate) fn listener(env: &Env, name: &str) -> Result<SocketAddr> {
    let text = env
        .get(name)
        .with_context(|| format!("{name} is not set"))?;
    let mut address: SocketAddr = text
        .parse()
        .with_context(|| format!("{name}: {text} is not an address and port"))?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}

/// Reads `NAME=value` lines.
pub(crate) fn read_env(file: &Path) -> Result<Env> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// `NAME=value` lines.
pub(crate) fn to_lines(env: &Env) -> String {
    env.iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(file: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut handle = File::create(file)?;
        handle.set_permissions(Permissions::from_mode(0o600))?;
        handle.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn env(settings: &[(&str, &str)]) -> Env {
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn secrets_stay_the_same_and_the_callers_win() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secrets");
        let mut first = Env::new();
        add_secrets(&mut first, &file).unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut second = env(&[("ADMIN_TOKEN", "mine"), ("TOKEN_SECRET_FILE", "/run/key")]);
        add_secrets(&mut second, &file).unwrap();

        assert_eq!(second["ADMIN_TOKEN"], "mine");
        assert!(!second.contains_key("TOKEN_SECRET"));
        assert_eq!(
            second["PAYMENT_WEBHOOK_SECRET"],
            first["PAYMENT_WEBHOOK_SECRET"]
        );
    }

    #[test]
    fn a_shell_that_has_read_the_stacks_environment_has_set_nothing_itself() {
        let wanted = env(&[("RATE_LIMIT_USER_PER_SECOND", "7")]);
        let mut sourced = wanted.clone();
        add_listeners(&mut sourced).unwrap();
        sourced.insert("REDIS_URL".to_owned(), "redis://127.0.0.1:7000".to_owned());
        mark_made_here(&mut sourced, &wanted);
        assert_eq!(callers(|name| sourced.get(name).cloned()), wanted);

        // What is set afterwards is the caller's.
        sourced.insert("REDIS_URL".to_owned(), "redis://elsewhere".to_owned());
        let seen = callers(|name| sourced.get(name).cloned());
        assert_eq!(seen["REDIS_URL"], "redis://elsewhere");
    }

    #[test]
    fn limits_are_added_where_the_caller_has_none() {
        let mut settings = Env::new();
        add_limits(&mut settings);
        assert_eq!(settings["RATE_LIMIT_GLOBAL_PER_SECOND"], "100");
        let mut settings = env(&[("RATE_LIMIT_GLOBAL_PER_SECOND", "7")]);
        add_limits(&mut settings);
        assert_eq!(settings["RATE_LIMIT_GLOBAL_PER_SECOND"], "7");
    }

    #[test]
    fn a_listener_of_the_callers_that_is_taken_is_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut settings = env(&[("INGRESS_LISTEN", &address)]);
        let error = add_listeners(&mut settings).unwrap_err().to_string();
        assert!(error.contains("INGRESS_LISTEN"), "{error}");
    }

    #[test]
    fn a_listener_on_all_interfaces_is_reached_over_loopback() {
        let settings = env(&[("INGRESS_LISTEN", "0.0.0.0:8080")]);
        let address = listener(&settings, "INGRESS_LISTEN").unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:8080");
    }
}
