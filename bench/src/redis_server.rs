//! The Redis server itself: a connection, and the identity that the scripts call its fence.

use std::time::Duration;

use anyhow::{Context, bail};
use redis::InfoDict;
use redis::aio::MultiplexedConnection;
use seckill_stock::{Address, RedisServer};

/// Long enough for a server under load.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects.
///
/// # Errors
/// When Redis cannot be reached, or there are several.
pub async fn connect(server: &RedisServer) -> anyhow::Result<MultiplexedConnection> {
    let Address::Single(info) = Address::parse(server).context("REDIS_URL")? else {
        bail!("REDIS_URL: this looks at one Redis, without Sentinel and without a Cluster");
    };
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    redis::Client::open(info)
        .context("REDIS_URL")?
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .context("connecting to Redis")
}

/// The server's fence: `run_id:master_replid`.
///
/// # Errors
/// When Redis does not say.
pub async fn fence(redis: &mut MultiplexedConnection) -> anyhow::Result<String> {
    let info: InfoDict = redis::cmd("INFO")
        .query_async(redis)
        .await
        .context("asking Redis who it is")?;
    let field = |name: &str| {
        info.get::<String>(name)
            .with_context(|| format!("INFO has no {name}"))
    };
    Ok(format!("{}:{}", field("run_id")?, field("master_replid")?))
}
