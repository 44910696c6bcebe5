//! Several Kafka brokers that replicate to one another.

use anyhow::Result;

use super::node::{Node, Ports, SESSION_MS, cluster_id};
use super::{Kafka, Security, jvm};

/// Small, because several run on one machine, and each needs a few hundred megabytes anyway.
const HEAP_MB: u32 = 256;

/// Brokers that each have a copy of everything. A write is acknowledged when all brokers except one have it. Killed
/// when dropped.
#[derive(Debug)]
pub struct KafkaCluster {
    nodes: Vec<Kafka>,
}

impl KafkaCluster {
    /// Starts `size` empty brokers, which takes many seconds.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start(size: usize) -> Result<Self> {
        Self::launch(vec![Security::default(); size], SESSION_MS)
    }

    /// The same, with brokers that the controller fences only after `session_ms` without a heartbeat.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn with_session_timeout(size: usize, session_ms: u64) -> Result<Self> {
        Self::launch(vec![Security::default(); size], session_ms)
    }

    /// The same, with one broker for each item of `security`, and with listeners over TLS beside the plain one.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn secured(security: Vec<Security>) -> Result<Self> {
        Self::launch(security, SESSION_MS)
    }

    fn launch(security: Vec<Security>, session_ms: u64) -> Result<Self> {
        jvm::make_archive()?;
        let ports = security.iter().map(|_| Ports::free());
        let ports: Vec<Ports> = ports.collect::<Result<_>>()?;
        let controllers: Vec<u16> = ports.iter().map(|ports| ports.controller).collect();
        let cluster_id = cluster_id();
        let launch = |(id, (ports, security)): (usize, (Ports, Security))| {
            Kafka::launch(Node {
                id,
                ports,
                advertised: ports.broker,
                controllers: controllers.clone(),
                heap_mb: HEAP_MB,
                cluster_id: cluster_id.clone(),
                session_ms,
                security,
            })
        };
        let mut nodes: Vec<Kafka> = (1..)
            .zip(ports.into_iter().zip(security))
            .map(launch)
            .collect::<Result<_>>()?;
        for node in &mut nodes {
            node.wait_until_ready()?;
        }
        Ok(Self { nodes })
    }

    /// All brokers, for `KAFKA_BROKERS`.
    #[must_use]
    pub fn brokers(&self) -> String {
        let each: Vec<String> = self.nodes.iter().map(Kafka::brokers).collect();
        each.join(",")
    }

    /// The number of brokers, which is also the number of copies of everything.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// SIGKILL to the broker with this id, from 1.
    ///
    /// # Errors
    /// When the operating system refuses.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        self.nodes[id - 1].kill()
    }

    /// Starts a killed broker again with the same data on the same port, and waits until it
    /// answers.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn restart(&mut self, id: usize) -> Result<()> {
        self.nodes[id - 1].restart()
    }

    /// SIGSTOP to the broker with this id, from 1.
    ///
    /// # Errors
    /// When the operating system refuses.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn pause(&mut self, id: usize) -> Result<()> {
        self.nodes[id - 1].pause()
    }

    /// SIGCONT to a paused broker.
    ///
    /// # Errors
    /// When the operating system refuses.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn resume(&mut self, id: usize) -> Result<()> {
        self.nodes[id - 1].resume()
    }
}
