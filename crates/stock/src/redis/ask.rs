//! Asking several servers the same at once.

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, Pipeline, RedisResult};
use tokio::task::JoinSet;

use crate::redis::connection::StockOptions;

/// Asks all servers, each over a connection of its own, and returns when more than half have
/// answered, or none is left to wait for: the servers' places and what they said. One that hangs
/// holds nothing up.
pub(crate) async fn ask_majority<T>(
    servers: &[ConnectionInfo],
    question: &Pipeline,
    options: &StockOptions,
) -> Vec<(usize, RedisResult<T>)>
where
    T: FromRedisValue + Send + 'static,
{
    let mut asked = JoinSet::new();
    for (place, server) in servers.iter().enumerate() {
        let (server, question) = (server.clone(), question.clone());
        let config = connection_config(options);
        asked.spawn(async move { (place, ask(server, &question, &config).await) });
    }
    let mut answers = Vec::with_capacity(servers.len());
    let mut answered = 0;
    while let Some(answer) = asked.join_next().await {
        // One that did not end well has panicked: its server has not answered.
        let Ok((place, answer)) = answer else {
            continue;
        };
        answered += usize::from(answer.is_ok());
        answers.push((place, answer));
        if answered > servers.len() / 2 {
            break;
        }
    }
    answers
}

async fn ask<T: FromRedisValue>(
    server: ConnectionInfo,
    question: &Pipeline,
    config: &AsyncConnectionConfig,
) -> RedisResult<T> {
    let client = Client::open(server)?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(config)
        .await?;
    question.query_async(&mut connection).await
}

/// How long making a connection and each answer over it may take.
pub(crate) fn connection_config(options: &StockOptions) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout))
}
