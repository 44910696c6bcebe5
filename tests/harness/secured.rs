//! Stores with TLS, client certificates and logins. The test itself uses additional listeners without TLS.

use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, Result};
use seckill_testkit::kafka::{SecureListener, Security};
use seckill_testkit::ports::free_port;
use seckill_testkit::postgres::query;
use seckill_testkit::stack::secret;
use seckill_testkit::tls::{Authority, Certificate, text};
use seckill_testkit::{Kafka, Postgres, Redis, TestStack, workspace_root};

/// The user name of the services in the stores.
const USER: &str = "shop";

/// The roles of the services, and how each signs in to Kafka.
const SERVICES: [(&str, &str); 3] = [
    ("ingress", "SCRAM-SHA-256"),
    ("projector", "PLAIN"),
    ("timeout", "SCRAM-SHA-512"),
];

/// Settings by name.
pub type Settings = Vec<(&'static str, String)>;

/// The stores, and the settings of the services for them.
#[derive(Debug)]
pub struct Secured {
    /// The authority that signed the stores' certificates.
    pub authority: Authority,
    /// The password for all stores, also in URLs.
    pub password: String,
    /// The certificate of the services.
    client: Certificate,
    kafka_port: u16,
    redis_port: u16,
    /// The part of the database URL after the login.
    database: String,
}

impl Secured {
    /// Starts all three stores. Their certificates are of a new authority, and `issue` makes each of them.
    ///
    /// # Errors
    /// When a store does not come up.
    pub fn start(
        issue: impl Fn(&Authority, &str) -> Result<Certificate>,
    ) -> Result<(TestStack, Self)> {
        let (authority, password) = (Authority::new()?, secret());
        let (kafka_port, redis_port) = (free_port()?, free_port()?);
        let certificate = issue(&authority, "kafka")?;
        let security = listener(kafka_port, certificate, &authority, &password);
        let tls = redis_arguments(&authority, &issue(&authority, "redis")?);
        let tls = tls.iter().map(String::as_str);
        let port = redis_port.to_string();
        let tls: Vec<&str> = ["--tls-port", &port].into_iter().chain(tls).collect();
        let (certificate, ca) = (issue(&authority, "postgres")?, authority.ca());
        // Side by side: a broker takes seconds.
        let (kafka, postgres) = thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::secured(&security));
            let postgres = Postgres::secured(&certificate, &ca);
            (kafka.join(), postgres)
        });
        let kafka = kafka.unwrap_or_else(|panic| resume_unwind(panic))?;
        let (postgres, redis) = (postgres?, Redis::start_with(&tls)?);
        let rule = [&format!(">{password}"), "~*", "&*", "+@all"];
        redis.cli(&[&["ACL", "SETUSER", USER, "reset", "on"][..], &rule].concat())?;
        let stack = TestStack::builder()
            .kafka(kafka)
            .redis(redis)
            .postgres(postgres)
            .start()?;
        let url = stack.setting("DATABASE_URL");
        let (_, database) = url.split_once('@').context("a URL with a user")?;
        make_roles(url, &password)?;
        let secured = Self {
            database: database.to_owned(),
            client: authority.issue("shop")?,
            authority,
            password,
            kafka_port,
            redis_port,
        };
        Ok((stack, secured))
    }

    /// The settings with which the services reach the stores.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings_with(&self.authority, &self.password)
    }

    /// The same for the role of one service, which has its own way to sign in to Kafka.
    #[must_use]
    pub fn settings_of(&self, service: &str) -> Settings {
        let (owner, role) = (format!("//{USER}:"), format!("//seckill_{service}:"));
        let own = SERVICES.iter().find(|(name, _)| *name == service);
        let mut settings = self.settings();
        for (name, value) in &mut settings {
            match (*name, own) {
                ("DATABASE_URL", _) => *value = value.replacen(&owner, &role, 1),
                ("KAFKA_SASL_MECHANISM", Some((_, own))) => (*own).clone_into(value),
                _ => {}
            }
        }
        settings
    }

    /// The same with another trusted authority or another password.
    #[must_use]
    pub fn settings_with(&self, trusted: &Authority, password: &str) -> Settings {
        let ca = text(&trusted.ca());
        let (own, key) = (text(&self.client.certificate), text(&self.client.key));
        let database = format!(
            "postgres://{USER}:{password}@{}?sslmode=verify-full&sslrootcert={ca}&sslcert={own}&sslkey={key}",
            self.database
        );
        let redis = format!("rediss://{USER}:{password}@127.0.0.1:{}", self.redis_port);
        let brokers = format!("127.0.0.1:{}", self.kafka_port);
        let mut settings = kafka_settings(brokers, trusted, &self.client, password);
        settings.extend(redis_settings(redis, trusted, &self.client));
        settings.push(("DATABASE_URL", database));
        settings
    }
}

/// A broker's listener over TLS. Clients need a certificate of the authority and have to sign in.
#[must_use]
pub fn listener(
    port: u16,
    certificate: Certificate,
    authority: &Authority,
    password: &str,
) -> Security {
    Security {
        listeners: vec![SecureListener {
            port,
            certificate,
            clients_of: authority.ca(),
        }],
        login: (USER.to_owned(), password.to_owned()),
    }
}

/// The settings of a client for this listener.
#[must_use]
pub fn kafka_settings(
    brokers: String,
    trusted: &Authority,
    own: &Certificate,
    password: &str,
) -> Settings {
    vec![
        ("KAFKA_BROKERS", brokers),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".to_owned()),
        ("KAFKA_SASL_USERNAME", USER.to_owned()),
        ("KAFKA_SASL_PASSWORD", password.to_owned()),
        ("KAFKA_SSL_CA_LOCATION", text(&trusted.ca())),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", text(&own.certificate)),
        ("KAFKA_SSL_KEY_LOCATION", text(&own.key)),
    ]
}

/// The settings of a client for a Redis over TLS.
#[must_use]
pub fn redis_settings(url: String, trusted: &Authority, own: &Certificate) -> Settings {
    vec![
        ("REDIS_URL", url),
        ("REDIS_SSL_CA_LOCATION", text(&trusted.ca())),
        ("REDIS_SSL_CERTIFICATE_LOCATION", text(&own.certificate)),
        ("REDIS_SSL_KEY_LOCATION", text(&own.key)),
    ]
}

/// Arguments for a Redis with this certificate. Clients need one of the same authority.
#[must_use]
pub fn redis_arguments(authority: &Authority, certificate: &Certificate) -> Vec<String> {
    let files = [
        ("--tls-cert-file", text(&certificate.certificate)),
        ("--tls-key-file", text(&certificate.key)),
        ("--tls-ca-cert-file", text(&authority.ca())),
        ("--tls-auth-clients", "yes".to_owned()),
    ];
    files
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// The settings as references, as functions need them.
#[must_use]
pub fn borrowed(settings: &Settings) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

/// Makes the owner of the tables, who may rebuild them, and a role for each service.
fn make_roles(url: &str, password: &str) -> Result<()> {
    let all = format!(
        "DO $$ DECLARE name text; BEGIN
           EXECUTE format('ALTER DATABASE %I OWNER TO {USER}', current_database());
           FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
             EXECUTE format('ALTER TABLE public.%I OWNER TO {USER}', name);
           END LOOP;
         END $$"
    );
    for sql in [
        &format!("CREATE ROLE {USER} LOGIN PASSWORD '{password}'"),
        &format!("GRANT ALL ON SCHEMA public TO {USER}"),
        &all,
        &format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {USER}"),
    ] {
        query(url, sql)?;
    }
    let roles = std::fs::read_to_string(workspace_root().join("ops/postgres/roles.sql"))?;
    query(url, &roles)?;
    for (service, _) in SERVICES {
        query(
            url,
            &format!("ALTER ROLE seckill_{service} PASSWORD '{password}'"),
        )?;
    }
    Ok(())
}
