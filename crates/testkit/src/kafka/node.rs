//! The configuration of a broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::Security;
use super::jvm::short_lived_java;
use crate::ports::free_port;

pub(super) const HEAP_MB: u32 = 512;
/// Short, so that restarts are fast: after a SIGKILL the controller accepts the restarted broker only when the session
/// of the killed one has ended.
pub(super) const SESSION_MS: u64 = 3_000;

/// The ports of a broker that is its own controller.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where clients connect.
    pub broker: u16,
    /// The port to which only the broker itself connects.
    pub controller: u16,
}

impl Ports {
    /// Two free ports.
    ///
    /// # Errors
    /// As [`free_port`].
    pub fn free() -> Result<Self> {
        Ok(Self {
            broker: free_port()?,
            controller: free_port()?,
        })
    }
}

/// The configuration of a node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) ports: Ports,
    /// The port that the broker advertises to clients: its own port, or that of a proxy.
    pub(crate) advertised: u16,
    /// The controllers' ports, by node from 1, including the node's own.
    pub(crate) controllers: Vec<u16>,
    pub(crate) heap_mb: u32,
    /// The cluster id, by which a deployment recognises its log. Each cluster has another one.
    pub(crate) cluster_id: String,
    /// The time without heartbeats after which the controller fences the broker.
    pub(crate) session_ms: u64,
    pub(crate) security: Security,
}

impl Node {
    /// The only node of its cluster.
    pub(super) fn alone(ports: Ports) -> Self {
        Self {
            id: 1,
            ports,
            advertised: ports.broker,
            controllers: vec![ports.controller],
            heap_mb: HEAP_MB,
            cluster_id: cluster_id(),
            session_ms: SESSION_MS,
            security: Security::default(),
        }
    }
}

/// Writes the broker's configuration into `directory` and formats its log directory if that is new.
///
/// # Errors
/// When Kafka's storage tool fails, with its output.
pub fn prepare(directory: &Path, ports: Ports) -> Result<()> {
    prepare_node(directory, &directory.join("data"), &Node::alone(ports))
}

pub(super) fn prepare_node(directory: &Path, data: &Path, node: &Node) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(properties_file(directory), properties(data, node))?;
    if data.join("meta.properties").exists() {
        return Ok(());
    }
    let output = short_lived_java(64)
        .args(["kafka.tools.StorageTool", "format"])
        .args(["--cluster-id", &node.cluster_id, "--config"])
        .arg(properties_file(directory))
        .args(node.security.format_arguments())
        .stdin(Stdio::null())
        .output()
        .context("cannot run java; install a JRE of version 17 or newer")?;
    ensure!(
        output.status.success(),
        "formatting Kafka's log directory: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

pub(super) fn properties_file(directory: &Path) -> PathBuf {
    directory.join("server.properties")
}

/// A random id, in the alphabet that Kafka wants.
pub(super) fn cluster_id() -> String {
    let digits = Uuid::new_v4().simple().to_string();
    format!("{}A", &digits[..21])
}

fn properties(data: &Path, node: &Node) -> String {
    let Ports { broker, controller } = node.ports;
    let security = &node.security;
    let voters: Vec<String> = (1..)
        .zip(&node.controllers)
        .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
        .collect();
    let replicas = node.controllers.len();
    let in_sync = replicas.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{}
advertised.listeners=BROKER://127.0.0.1:{}{}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT{}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={}
broker.heartbeat.interval.ms=500
{}",
        node.id,
        voters.join(","),
        security.addresses(),
        node.advertised,
        security.addresses(),
        security.protocols(),
        data.display(),
        node.session_ms,
        security.properties(),
    )
}
