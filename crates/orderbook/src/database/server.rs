//! The version and the settings of the database's server, for its operators.

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;

/// One server, as a session of ours sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseServer {
    /// `server_version`, as `15.14`.
    pub version: String,
    /// `server_version_num`, as 150014.
    pub version_number: i32,
    /// Settings that decide whether a COMMIT survives a crash, each with its value: `fsync`, `full_page_writes`,
    /// `synchronous_commit`.
    pub durability: Vec<(String, String)>,
    /// Whether it is a standby, which accepts no writes.
    pub is_standby: bool,
    /// Whether a pooler is in between that shares one session among many clients.
    pub is_pooled: bool,
}

impl Orderbook {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn server(&self) -> Result<DatabaseServer, OrderbookError> {
        let (version, version_number, is_standby) = sqlx::query_as(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,
                    pg_is_in_recovery()",
        )
        .fetch_one(&self.pool)
        .await?;
        let durability = sqlx::query_as(
            "SELECT name, setting FROM pg_settings
             WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await?;
        let own = self.pool.session().connect_directly().await?;
        Ok(DatabaseServer {
            version,
            version_number,
            durability,
            is_standby,
            is_pooled: own.is_none(),
        })
    }
}
