//! Asks the sentinels which server is the master.

use std::collections::HashMap;

use redis::{ConnectionInfo, ErrorKind, RedisError, ServerErrorKind};

use crate::redis::ask::ask_majority;
use crate::redis::connection::StockOptions;
use crate::redis::error::StockError;

/// One sentinel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The sentinels' count of failovers. The answer with the highest count is the newest.
    pub(crate) config_epoch: u64,
}

/// Asks all sentinels for the master. Takes the newest answer as soon as a majority has answered, or all that can
/// answer have: a sentinel that was cut off still names the former master.
pub(crate) async fn master(
    sentinels: &[ConnectionInfo],
    name: &str,
    options: &StockOptions,
) -> Result<Named, StockError> {
    let mut ask = redis::pipe();
    ask.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    ask.cmd("SENTINEL").arg("MASTER").arg(name);
    let answers = ask_majority(sentinels, &ask, options).await;
    let mut latest: Option<Named> = None;
    let mut failure = StockError::Misconfigured("REDIS_URL names no sentinel".to_owned());
    for (_, answer) in answers {
        match answer.map_err(|error| refused(name, error)).and_then(read) {
            Ok(named) => {
                let later = latest
                    .as_ref()
                    .is_none_or(|l| l.config_epoch < named.config_epoch);
                if later {
                    latest = Some(named);
                }
            }
            Err(error) => failure = error,
        }
    }
    latest.ok_or(failure)
}

fn refused(name: &str, error: RedisError) -> StockError {
    match error.kind() {
        // "No such master with that name."
        ErrorKind::Server(ServerErrorKind::ResponseError) => StockError::Misconfigured(format!(
            "the sentinels watch no master named {name}: see REDIS_URL"
        )),
        _ => StockError::from(error),
    }
}

fn read(
    (address, fields): (Option<(String, u16)>, HashMap<String, String>),
) -> Result<Named, StockError> {
    let config_epoch = fields
        .get("config-epoch")
        .and_then(|text| text.parse().ok());
    match (address, config_epoch) {
        (Some((host, port)), Some(config_epoch)) => Ok(Named {
            host,
            port,
            config_epoch,
        }),
        _ => Err(StockError::Protocol(
            "a sentinel's answer names no master".to_owned(),
        )),
    }
}
