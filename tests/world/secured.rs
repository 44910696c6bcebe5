//! Stores that speak TLS to whoever shows a certificate and signs in. The test itself comes by plain listeners beside.

use anyhow::{Context, Result};
use seckill_testkit::kafka::{SecureListener, Security};
use seckill_testkit::ports::free_port;
use seckill_testkit::postgres::query;
use seckill_testkit::stack::secret;
use seckill_testkit::tls::{Authority, Certificate, text};
use seckill_testkit::{Kafka, Postgres, Redis, TestStack, workspace_root};

/// Whom the stores know the services as.
const USER: &str = "shop";

/// As their roles are called.
const SERVICES: [&str; 3] = ["ingress", "projector", "timeout"];

/// Settings by name.
pub type Settings = Vec<(&'static str, String)>;

/// The stores, and what the services are told about them.
#[derive(Debug)]
pub struct Secured {
    /// Who signed the stores' certificates.
    pub authority: Authority,
    /// The password of each store, also those that are in a URL.
    pub password: String,
    /// What the services show.
    client: Certificate,
    kafka_port: u16,
    redis_port: u16,
    /// Behind the login.
    database: String,
}

impl Secured {
    /// Starts all three. Their certificates are of an authority of their own, and `issue` makes each of them.
    ///
    /// # Errors
    /// When a store does not come up.
    pub fn start(
        issue: impl Fn(&Authority, &str) -> Result<Certificate>,
    ) -> Result<(TestStack, Self)> {
        let (authority, password) = (Authority::new()?, secret());
        let (kafka_port, redis_port) = (free_port()?, free_port()?);
        let kafka = Kafka::secured(&Security {
            listeners: vec![SecureListener {
                port: kafka_port,
                certificate: issue(&authority, "kafka")?,
                clients_of: authority.ca(),
            }],
            login: (USER.to_owned(), password.clone()),
        })?;
        let redis = redis(&authority, &issue(&authority, "redis")?, redis_port)?;
        let rule = [&format!(">{password}"), "~*", "&*", "+@all"];
        redis.cli(&[&["ACL", "SETUSER", USER, "reset", "on"][..], &rule].concat())?;
        let postgres = Postgres::secured(&issue(&authority, "postgres")?, &authority.ca())?;
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

    /// How the services reach the stores.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings_with(&self.authority, &self.password)
    }

    /// The same for the role of a service.
    #[must_use]
    pub fn settings_of(&self, service: &str) -> Settings {
        let (owner, role) = (format!("//{USER}:"), format!("//seckill_{service}:"));
        let mut settings = self.settings();
        for (_, value) in settings
            .iter_mut()
            .filter(|(name, _)| *name == "DATABASE_URL")
        {
            *value = value.replacen(&owner, &role, 1);
        }
        settings
    }

    /// The same for one who trusts another authority, or has another password.
    #[must_use]
    pub fn settings_with(&self, trusted: &Authority, password: &str) -> Settings {
        let ca = text(&trusted.ca());
        let (own, key) = (text(&self.client.certificate), text(&self.client.key));
        let database = format!(
            "postgres://{USER}:{password}@{}?sslmode=verify-full&sslrootcert={ca}&sslcert={own}&sslkey={key}",
            self.database
        );
        vec![
            ("KAFKA_BROKERS", format!("127.0.0.1:{}", self.kafka_port)),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".to_owned()),
            ("KAFKA_SASL_USERNAME", USER.to_owned()),
            ("KAFKA_SASL_PASSWORD", password.to_owned()),
            ("KAFKA_SSL_CA_LOCATION", ca.clone()),
            ("KAFKA_SSL_CERTIFICATE_LOCATION", own.clone()),
            ("KAFKA_SSL_KEY_LOCATION", key.clone()),
            (
                "REDIS_URL",
                format!("rediss://{USER}:{password}@127.0.0.1:{}", self.redis_port),
            ),
            ("REDIS_SSL_CA_LOCATION", ca),
            ("REDIS_SSL_CERTIFICATE_LOCATION", own),
            ("REDIS_SSL_KEY_LOCATION", key),
            ("DATABASE_URL", database),
        ]
    }
}

fn redis(authority: &Authority, certificate: &Certificate, port: u16) -> Result<Redis> {
    let (own, key) = (text(&certificate.certificate), text(&certificate.key));
    let (ca, port) = (text(&authority.ca()), port.to_string());
    Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &own,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ])
}

/// The owner of the tables, who may rebuild, and a role for each service.
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
    for service in SERVICES {
        query(
            url,
            &format!("ALTER ROLE seckill_{service} PASSWORD '{password}'"),
        )?;
    }
    Ok(())
}
