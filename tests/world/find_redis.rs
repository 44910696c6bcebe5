//! Finds the server that has a key, past the services and past their own way of finding it.

use anyhow::{Context, Result, bail};
use redis::Client;
use redis::aio::MultiplexedConnection;

/// A connection to the server that `REDIS_URL` and a key lead to.
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
    Ok(client.get_multiplexed_async_connection().await?)
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

/// A node that has not the key's slot says who has.
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
