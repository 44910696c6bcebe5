//! Finds the server that has a key, without the services and without their code.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};

/// Long, because a large sale is read in one call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the server that has the key, in the deployment of `REDIS_URL`.
pub(crate) async fn connection_for(url: &str, key: &str) -> Result<MultiplexedConnection> {
    if let Some(rest) = url.strip_prefix("redis+sentinel://") {
        let (sentinels, name) = rest.split_once('/').context("no master's name")?;
        named_by_sentinel(sentinels, name).await
    } else if let Some(nodes) = url.strip_prefix("redis+cluster://") {
        owner_in_cluster(nodes, key).await
    } else {
        connect(url.trim_start_matches("redis://")).await
    }
}

async fn connect(host: &str) -> Result<MultiplexedConnection> {
    let client = Client::open(format!("redis://{host}"))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_TIMEOUT));
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    Ok(connection.await?)
}

async fn named_by_sentinel(sentinels: &str, name: &str) -> Result<MultiplexedConnection> {
    for sentinel in sentinels.split(',') {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        if let Ok(mut connection) = connect(sentinel).await
            && let Ok((host, port)) = ask.query_async::<(String, u16)>(&mut connection).await
        {
            return connect(&format!("{host}:{port}")).await;
        }
    }
    bail!("no sentinel of {sentinels} names a master")
}

/// Asks a node for the key. A node that does not have its slot names the owner.
async fn owner_in_cluster(nodes: &str, key: &str) -> Result<MultiplexedConnection> {
    for node in nodes.split(',') {
        let Ok(mut connection) = connect(node).await else {
            continue;
        };
        let mut ask = redis::cmd("TYPE");
        match ask.arg(key).exec_async(&mut connection).await {
            Ok(()) => return Ok(connection),
            Err(error) => {
                if let Some((owner, _)) = error.redirect_node() {
                    return connect(owner).await;
                }
            }
        }
    }
    bail!("no node of {nodes} knows who has {key}")
}
