//! Stores, topics and secrets of one cross-service test, and the services on them.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use anyhow::Result;
use uuid::Uuid;

use crate::kafka::{Kafka, KafkaCluster};
use crate::ports::free_port;
use crate::postgres::{Database, Postgres};
use crate::redis::Redis;
use crate::service::{Env, Service, ServiceSpec, run_binary};
use crate::shared::{fresh_database, migrated_database, shared_kafka, unique_prefix};
use crate::tls::text;

/// Few, so that a broker that many tests share stays fast, but more than one, so that keys matter.
const EVENT_PARTITIONS: u32 = 4;

/// The stores that a test needs for itself, beside Redis, which it always gets. Shared stores must not be stopped.
#[derive(Debug, Default)]
pub struct Builder {
    private_kafka: bool,
    private_postgres: bool,
    kafka: Option<Kafka>,
    kafka_cluster: Option<KafkaCluster>,
    topic_copies: Option<usize>,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    schema: Option<String>,
    seckillctl: Option<PathBuf>,
    settings: Env,
}

impl Builder {
    /// The test's own broker, which it may kill and pause. This takes some seconds more.
    #[must_use]
    pub fn private_kafka(mut self) -> Self {
        self.private_kafka = true;
        self
    }

    /// The test's own PostgreSQL server, which it may kill.
    #[must_use]
    pub fn private_postgres(mut self) -> Self {
        self.private_postgres = true;
        self
    }

    /// A broker that the test has started itself.
    #[must_use]
    pub fn kafka(mut self, broker: Kafka) -> Self {
        self.kafka = Some(broker);
        self
    }

    /// Several brokers, which the test may kill.
    #[must_use]
    pub fn kafka_cluster(mut self, brokers: KafkaCluster) -> Self {
        self.kafka_cluster = Some(brokers);
        self
    }

    /// Copies of each topic: as many as there are brokers, unless a test wants fewer.
    #[must_use]
    pub fn topic_copies(mut self, copies: usize) -> Self {
        self.topic_copies = Some(copies);
        self
    }

    /// A PostgreSQL server that the test has started itself.
    #[must_use]
    pub fn postgres(mut self, server: Postgres) -> Self {
        self.postgres = Some(server);
        self
    }

    /// A Redis that the test has started itself.
    #[must_use]
    pub fn redis(mut self, server: Redis) -> Self {
        self.redis = Some(server);
        self
    }

    /// The tables are in this schema, and belong to a role with a `search_path` to it.
    #[must_use]
    pub fn schema(mut self, name: &str) -> Self {
        self.schema = Some(name.to_owned());
        self
    }

    /// Topics and tables are made by this `seckillctl`, of another release.
    #[must_use]
    pub fn made_by(mut self, seckillctl: &Path) -> Self {
        self.seckillctl = Some(seckillctl.to_owned());
        self
    }

    /// An additional environment variable for every service of this stack. It overrides the stack's own value.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts what is missing, makes the topics and migrates the database with `seckillctl`.
    ///
    /// # Errors
    /// When a store does not come up, or `seckillctl` is not built or fails.
    pub fn start(self) -> Result<TestStack> {
        // Side by side: together they take no longer than the slowest.
        let (kafka, postgres, redis) = thread::scope(|scope| {
            let kafka = scope.spawn(|| match self.kafka {
                None => self.private_kafka.then(Kafka::start).transpose(),
                given => Ok(given),
            });
            let postgres = scope.spawn(|| match self.postgres {
                None => self.private_postgres.then(Postgres::start).transpose(),
                given => Ok(given),
            });
            let redis = self.redis.map_or_else(Redis::start, Ok);
            (joined(kafka), joined(postgres), redis)
        });
        let (kafka, postgres, redis) = (kafka?, postgres?, redis?);
        let (brokers, replicas) = match (&kafka, &self.kafka_cluster) {
            (_, Some(cluster)) => (cluster.brokers(), cluster.size()),
            (Some(broker), None) => (broker.brokers(), 1),
            (None, None) => (shared_kafka()?, 1),
        };
        // A server that others share has a database with this build's tables already, to be copied.
        let is_shared = postgres.is_none() && self.schema.is_none() && self.seckillctl.is_none();
        let database = match &postgres {
            Some(server) => server.fresh_database()?,
            None if is_shared => migrated_database()?,
            None => fresh_database()?,
        };
        let database_url = match &self.schema {
            Some(schema) => database.with_schema(schema)?,
            None => database.url(),
        };
        let mut env = environment(&brokers, &redis.url(), &database_url);
        env.extend(self.settings);
        let replicas = self.topic_copies.unwrap_or(replicas).to_string();
        let create = ["topics", "create", "--replication", &replicas];
        let seckillctl = self.seckillctl.unwrap_or_else(|| "seckillctl".into());
        let seckillctl = text(&seckillctl);
        thread::scope(|scope| {
            let topics = scope.spawn(|| run_binary(&seckillctl, &create, &env));
            if !is_shared {
                run_binary(&seckillctl, &["db", "migrate"], &env)?;
            }
            joined(topics)
        })?;
        Ok(TestStack {
            redis,
            database,
            postgres,
            kafka,
            kafka_cluster: self.kafka_cluster,
            env,
        })
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let ended = thread.join();
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

fn environment(brokers: &str, redis_url: &str, database_url: &str) -> Env {
    let settings = [
        ("KAFKA_BROKERS", brokers.to_owned()),
        ("REDIS_URL", redis_url.to_owned()),
        ("DATABASE_URL", database_url.to_owned()),
        ("TOPIC_PREFIX", unique_prefix()),
        ("EVENT_PARTITIONS", EVENT_PARTITIONS.to_string()),
        ("ADMIN_TOKEN", secret()),
        ("TOKEN_SECRET", secret()),
        ("PAYMENT_WEBHOOK_SECRET", secret()),
        // A test is one client that sends many requests. Tests of rate limits set their own values.
        ("RATE_LIMIT_USER_PER_SECOND", "0".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ];
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// A random secret of 64 hexadecimal digits.
#[must_use]
pub fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// The stores of one cross-service test: its own Redis, its own database, and its own topics on a broker that is
/// usually shared.
#[derive(Debug)]
pub struct TestStack {
    /// This test's Redis, to kill, restart and pause.
    pub redis: Redis,
    /// This test's database. Before its server: fields are dropped in this order.
    pub database: Database,
    /// This test's PostgreSQL server, if it asked for one.
    pub postgres: Option<Postgres>,
    /// This test's broker, if it asked for one.
    pub kafka: Option<Kafka>,
    /// This test's brokers, if it asked for several.
    pub kafka_cluster: Option<KafkaCluster>,
    env: Env,
}

impl TestStack {
    /// A stack on the shared Kafka and PostgreSQL.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// For a stack with more stores of its own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The environment that all services of this stack share: the stores, `TOPIC_PREFIX`, secrets.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// One variable of [`TestStack::env`].
    ///
    /// # Panics
    /// If it is not set.
    #[must_use]
    pub fn setting(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// Runs `seckillctl` on this stack and gives what it printed.
    ///
    /// # Errors
    /// When it fails, with its output.
    pub fn seckillctl(&self, arguments: &[&str]) -> Result<String> {
        run_binary("seckillctl", arguments, &self.env)
    }

    /// Starts an ingress on free ports; any number of them may run.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_ingress(&self, extra_env: &[(&str, &str)]) -> Result<Service> {
        Service::start(self.ingress(extra_env)?)
    }

    /// Starts a projector; any number of them may run.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_projector(&self, extra_env: &[(&str, &str)]) -> Result<Service> {
        Service::start(self.projector(extra_env)?)
    }

    /// Starts a timeout service; any number of them may run.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_timeout(&self, extra_env: &[(&str, &str)]) -> Result<Service> {
        Service::start(self.timeout(extra_env)?)
    }

    /// An ingress that is not started yet, for [`Service::launch`].
    ///
    /// # Errors
    /// When no port is free.
    pub fn ingress(&self, extra_env: &[(&str, &str)]) -> Result<ServiceSpec> {
        let port = free_port()?;
        let mut spec = self.spec("seckill-ingress", "INGRESS_ADMIN_LISTEN", extra_env)?;
        spec.env
            .insert("INGRESS_LISTEN".to_owned(), format!("127.0.0.1:{port}"));
        spec.port = Some(port);
        Ok(spec)
    }

    /// A projector that is not started yet, for [`Service::launch`].
    ///
    /// # Errors
    /// When no port is free.
    pub fn projector(&self, extra_env: &[(&str, &str)]) -> Result<ServiceSpec> {
        self.spec("seckill-projector", "PROJECTOR_ADMIN_LISTEN", extra_env)
    }

    /// A timeout service that is not started yet, for [`Service::launch`].
    ///
    /// # Errors
    /// When no port is free.
    pub fn timeout(&self, extra_env: &[(&str, &str)]) -> Result<ServiceSpec> {
        self.spec("seckill-timeout", "TIMEOUT_ADMIN_LISTEN", extra_env)
    }

    fn spec(
        &self,
        binary: &str,
        admin_listen: &str,
        extra_env: &[(&str, &str)],
    ) -> Result<ServiceSpec> {
        let admin_port = free_port()?;
        let mut env = self.env.clone();
        env.insert(admin_listen.to_owned(), format!("127.0.0.1:{admin_port}"));
        for (name, value) in extra_env {
            env.insert((*name).to_owned(), (*value).to_owned());
        }
        Ok(ServiceSpec {
            binary: binary.to_owned(),
            env,
            admin_port,
            port: None,
        })
    }
}
