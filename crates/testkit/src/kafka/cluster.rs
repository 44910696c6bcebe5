//! Several Kafka brokers that replicate to one another.

use anyhow::Result;

use super::{Kafka, Node, Ports, SESSION_MS, Security, cluster_id, install_jars};

/// Several on one machine: small, each takes a few hundred megabytes all the same.
const HEAP_MB: u32 = 256;

/// Brokers that hold a copy of everything each; a write counts when all but one of them have it.
/// Killed when dropped.
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
        install_jars()?;
        let ports: Vec<Ports> = (0..size).map(|_| Ports::free()).collect::<Result<_>>()?;
        let controllers: Vec<u16> = ports.iter().map(|ports| ports.controller).collect();
        let cluster_id = cluster_id();
        let launch = |(id, ports): (usize, Ports)| {
            Kafka::launch(Node {
                id,
                ports,
                advertised: ports.broker,
                controllers: controllers.clone(),
                heap_mb: HEAP_MB,
                cluster_id: cluster_id.clone(),
                session_ms: SESSION_MS,
                security: Security::default(),
            })
        };
        let mut nodes: Vec<Kafka> = (1..).zip(ports).map(launch).collect::<Result<_>>()?;
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

    /// How many there are: also the number of copies of everything.
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
}
