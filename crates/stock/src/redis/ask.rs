//! Sends the same request to several servers at once.

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, Pipeline, RedisResult};
use tokio::task::JoinSet;

use crate::redis::connection::StockOptions;

/// Asks all servers, each over its own connection. Returns as soon as more than half have answered, or all have
/// answered or failed, so that one server that hangs does not delay the result. Each result comes with the index of
/// its server.
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
        // The task has panicked, so there is no answer from its server.
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

/// The time-outs for making a connection and for each answer.
pub(crate) fn connection_config(options: &StockOptions) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout))
}
