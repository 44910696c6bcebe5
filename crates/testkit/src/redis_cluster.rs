//! A Redis Cluster of three masters with one replica each.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::ports::free_port;
use crate::redis::Redis;
use crate::wait::wait_for;

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Six nodes, numbered from 0: three masters, and then their replicas in the same order. Killed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The ports for TLS, for nodes and clients.
    tls_ports: Vec<u16>,
}

impl RedisCluster {
    /// Starts all nodes and waits until every slot is served and every replica has its master's data. A master that
    /// does not answer for `node_timeout_ms` is replaced.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(node_timeout_ms: u32) -> Result<Self> {
        Self::with(node_timeout_ms, &[])
    }

    /// The same with TLS between the nodes and for clients that use [`RedisCluster::tls_hosts`]. `tls` are additional
    /// arguments of the nodes.
    ///
    /// # Errors
    /// As [`RedisCluster::start`].
    pub fn with(node_timeout_ms: u32, tls: &[&str]) -> Result<Self> {
        let mut nodes = Vec::with_capacity(2 * MASTERS);
        let mut bus_ports = Vec::with_capacity(2 * MASTERS);
        let mut tls_ports = Vec::new();
        let node_timeout = node_timeout_ms.to_string();
        for _ in 0..2 * MASTERS {
            let bus_port = free_port()?.to_string();
            let tls_port = free_port()?;
            let tls_port_text = tls_port.to_string();
            let mut settings = vec![
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus_port,
                "--cluster-node-timeout",
                &node_timeout,
                "--cluster-require-full-coverage",
                "no",
                "--cluster-allow-replica-migration",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ];
            if !tls.is_empty() {
                settings.extend(["--tls-port", &tls_port_text, "--tls-cluster", "yes"]);
                settings.extend(["--tls-replication", "yes"]);
                settings.extend(tls);
                tls_ports.push(tls_port);
            }
            nodes.push(Redis::start_with(&settings)?);
            bus_ports.push(bus_port);
        }
        let cluster = Self { nodes, tls_ports };
        cluster.introduce(&bus_ports)?;
        for (number, replica) in cluster.nodes[MASTERS..].iter().enumerate() {
            let master = cluster.id(number)?;
            replica.cli(&["CLUSTER", "REPLICATE", &master])?;
        }
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    /// Connects all nodes to each other, and distributes the slots.
    fn introduce(&self, bus_ports: &[String]) -> Result<()> {
        for (number, node) in self.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            if number < MASTERS {
                let (first, last) = (SLOTS * number / MASTERS, SLOTS * (number + 1) / MASTERS - 1);
                let range = [first.to_string(), last.to_string()];
                node.cli(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
            }
        }
        let plain = self.nodes.iter().map(Redis::port).collect();
        let ports: Vec<u16> = if self.tls_ports.is_empty() {
            plain
        } else {
            self.tls_ports.clone()
        };
        for (port, bus_port) in ports.iter().zip(bus_ports).skip(1) {
            let port = port.to_string();
            self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, bus_port])?;
        }
        for node in &self.nodes {
            wait_for("the nodes' acquaintance", START_TIMEOUT, || {
                let known = node.cli(&["CLUSTER", "NODES"])?;
                let met = known.lines().count() == self.nodes.len() && !known.contains("handshake");
                Ok(met.then_some(()))
            })?;
        }
        Ok(())
    }

    fn wait_until_whole(&self) -> Result<()> {
        for (number, node) in self.nodes.iter().enumerate() {
            wait_for("the Cluster", START_TIMEOUT, || {
                let info = node.cli(&["CLUSTER", "INFO"])?;
                let replication = node.cli(&["INFO", "replication"])?;
                let role = if number < MASTERS {
                    "connected_slaves:1"
                } else {
                    "master_link_status:up"
                };
                let whole = info.contains("cluster_state:ok") && replication.contains(role);
                Ok(whole.then_some(()))
            })?;
        }
        Ok(())
    }

    /// For `REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port()));
        let hosts: Vec<String> = hosts.collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// For `REDIS_URL`, all nodes by their name.
    #[must_use]
    pub fn tls_hosts(&self) -> String {
        let hosts = self
            .tls_ports
            .iter()
            .map(|port| format!("localhost:{port}"));
        let hosts: Vec<String> = hosts.collect();
        hosts.join(",")
    }

    /// A node, from 0.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn node(&self, number: usize) -> &Redis {
        &self.nodes[number]
    }

    /// The same, to kill and pause.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    /// Begins to move a slot with its keys from one master to another. Both masters know it, and no key has moved yet.
    ///
    /// # Errors
    /// When a node does not answer or refuses.
    pub fn move_begins(&self, slot: usize, from: usize, to: usize) -> Result<()> {
        self.set_slot(to, slot, "IMPORTING", from)?;
        self.set_slot(from, slot, "MIGRATING", to)
    }

    /// Moves keys of such a slot. Keys that do not exist are left out.
    ///
    /// # Errors
    /// As [`RedisCluster::move_begins`].
    pub fn move_keys(&self, keys: &[&str], from: usize, to: usize) -> Result<()> {
        let port = self.nodes[to].port().to_string();
        let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        command.extend(keys);
        self.nodes[from].cli(&command)?;
        Ok(())
    }

    /// Ends the move: the slot, whose keys have all moved, belongs to the new master.
    ///
    /// # Errors
    /// As [`RedisCluster::move_begins`].
    pub fn move_ends(&self, slot: usize, from: usize, to: usize) -> Result<()> {
        let others = (0..MASTERS).filter(|number| *number != from && *number != to);
        for node in [to, from].into_iter().chain(others) {
            self.set_slot(node, slot, "NODE", to)?;
        }
        Ok(())
    }

    fn set_slot(&self, node: usize, slot: usize, state: &str, of: usize) -> Result<()> {
        let (slot, of) = (slot.to_string(), self.id(of)?);
        self.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, state, &of])?;
        Ok(())
    }

    /// A node's id.
    ///
    /// # Errors
    /// When it does not answer.
    ///
    /// # Panics
    /// If there is no such node.
    fn id(&self, number: usize) -> Result<String> {
        self.nodes[number].cli(&["CLUSTER", "MYID"])
    }

    /// The master, from 0 to 2, that was given a key's slot at the start, and that slot.
    ///
    /// # Errors
    /// When no node answers.
    pub fn first_owner(&self, key: &str) -> Result<(usize, usize)> {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key])?;
        let slot: usize = slot.parse()?;
        let owner = (0..MASTERS).rfind(|number| SLOTS * number / MASTERS <= slot);
        Ok((owner.context("a slot below zero")?, slot))
    }
}
