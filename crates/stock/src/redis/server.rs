//! The version, the state and the settings of each master, for `seckillctl doctor`.

use crate::redis::connection::{StockConnection, info_field};
use crate::redis::error::StockError;
use crate::redis::nodes::Deployment;

/// The settings on which the guarantees of this system depend.
const SETTINGS: [&str; 5] = [
    "appendonly",
    "appendfsync",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
    "cluster-node-timeout",
];

/// How Redis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisShape {
    /// One server.
    Alone,
    /// A master that sentinels watch.
    Sentinel,
    /// A master of a Cluster.
    Cluster,
}

/// One master.
#[derive(Debug, Clone)]
pub struct MasterServer {
    /// `host:port`.
    pub address: String,
    /// What the server reports about itself, or why it could not be asked.
    pub told: Result<MasterFacts, StockError>,
}

/// What a master reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterFacts {
    /// `redis_version`, for example `7.0.15`.
    pub version: String,
    /// How it runs.
    pub shape: RedisShape,
    /// How many replicas it has.
    pub replicas: u32,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// Its other settings. A setting that this user may not read is missing.
    pub settings: Vec<(&'static str, String)>,
    /// Why it refuses writes. None if it accepts them.
    pub refuses_writes: Option<String>,
}

impl MasterFacts {
    /// The value of a setting, if this user may read it.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl StockConnection {
    pub(crate) async fn facts(&self) -> Result<MasterFacts, StockError> {
        let info = self.info().await?;
        let mut settings = Vec::new();
        for name in SETTINGS {
            if let Some(value) = self.told_setting(name).await? {
                settings.push((name, value));
            }
        }
        let replicas = info_field(&info, "connected_slaves")?;
        let refused = self.check_writable().await.err();
        Ok(MasterFacts {
            version: info_field(&info, "redis_version")?.to_owned(),
            shape: match self.deployment() {
                Deployment::Single => RedisShape::Alone,
                Deployment::Sentinel { .. } => RedisShape::Sentinel,
                Deployment::Cluster => RedisShape::Cluster,
            },
            replicas: replicas.parse().unwrap_or(0),
            eviction: info_field(&info, "maxmemory_policy")?.to_owned(),
            settings,
            refuses_writes: refused.map(|error| match error {
                StockError::Unavailable(why) => why.to_string(),
                other => other.to_string(),
            }),
        })
    }
}
