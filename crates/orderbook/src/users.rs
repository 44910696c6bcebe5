//! Books beside the view: who signed in, and which sessions were signed out.

use std::time::Duration;

use seckill_domain::{Timestamp, UserId};
use seckill_identity::{Address, user_number};
use uuid::Uuid;

use crate::sql_time::{SqlTime, interval};
use crate::{Orderbook, OrderbookError};

/// A transaction's time is that of its beginning: one that began earlier than the last look may
/// have ended after it.
const OVERLAP: Duration = Duration::from_secs(60);

/// A session that was signed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedSession {
    /// The session.
    pub session_id: Uuid,
    /// No token of it is good after this.
    pub expires_at: Timestamp,
}

/// What was signed out between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Where the next look begins, by the database's clock.
    pub as_of: Timestamp,
    /// Sessions; some may have been seen before.
    pub sessions: Vec<RevokedSession>,
}

impl Orderbook {
    /// The user of an address, made at the first call. Where a mailbox is one user, an address that is no
    /// user's is its mailbox' user; an address that was one before stays that one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_of(
        &self,
        address: &Address,
        mailbox_is_one_user: bool,
    ) -> Result<UserId, OrderbookError> {
        let mailbox = address.mailbox();
        let shared = mailbox_is_one_user.then_some(&mailbox);
        if let Some(known) = self.known_user(address, shared).await? {
            return Ok(known);
        }
        let key: Vec<u8> = sqlx::query_scalar("SELECT key FROM user_id_key")
            .fetch_one(&self.pool)
            .await?;
        let mut attempt = 0;
        loop {
            let id = user_id(user_number(&key, shared.unwrap_or(address), attempt))?;
            // Of several users of one mailbox the first is the mailbox' user.
            if self.insert_user(id, address, Some(&mailbox)).await?
                || (shared.is_none() && self.insert_user(id, address, None).await?)
            {
                return Ok(id);
            }
            // Somebody else made it in between, or the number is another address's.
            if let Some(known) = self.known_user(address, shared).await? {
                return Ok(known);
            }
            attempt += 1;
        }
    }

    async fn insert_user(
        &self,
        id: UserId,
        address: &Address,
        mailbox: Option<&Address>,
    ) -> Result<bool, OrderbookError> {
        let made = sqlx::query(
            "INSERT INTO users (user_id, email, mailbox) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id.get())
        .bind(address.as_str())
        .bind(mailbox.map(Address::as_str))
        .execute(&self.pool)
        .await?;
        Ok(made.rows_affected() == 1)
    }

    /// The address' own user before its mailbox'.
    async fn known_user(
        &self,
        address: &Address,
        mailbox: Option<&Address>,
    ) -> Result<Option<UserId>, OrderbookError> {
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT user_id FROM users WHERE email = $1 OR mailbox = $2
              ORDER BY email = $1 DESC LIMIT 1",
        )
        .bind(address.as_str())
        .bind(mailbox.map(Address::as_str))
        .fetch_optional(&self.pool)
        .await?;
        id.map(user_id).transpose()
    }

    /// Notes that a session was signed out. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_session(
        &self,
        session: RevokedSession,
        user: UserId,
    ) -> Result<(), OrderbookError> {
        sqlx::query(
            "INSERT INTO revoked_sessions (session_id, user_id, expires_at) VALUES ($1, $2, $3)
             ON CONFLICT (session_id) DO NOTHING",
        )
        .bind(session.session_id)
        .bind(user.get())
        .bind(SqlTime(session.expires_at))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The sessions signed out since the last look, all that count at the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoked_sessions(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Revocations, OrderbookError> {
        let SqlTime(as_of): SqlTime = sqlx::query_scalar("SELECT now()")
            .fetch_one(&self.pool)
            .await?;
        let rows: Vec<(Uuid, SqlTime)> = sqlx::query_as(
            "SELECT session_id, expires_at FROM revoked_sessions
              WHERE expires_at > now() AND ($1::timestamptz IS NULL OR revoked_at > $1 - $2)",
        )
        .bind(since.map(SqlTime))
        .bind(interval(OVERLAP))
        .fetch_all(&self.pool)
        .await?;
        let session = |(session_id, SqlTime(expires_at))| RevokedSession {
            session_id,
            expires_at,
        };
        Ok(Revocations {
            as_of,
            sessions: rows.into_iter().map(session).collect(),
        })
    }

    /// Forgets sessions whose tokens have all expired; says how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_expired_sessions(&self) -> Result<u64, OrderbookError> {
        let deleted = sqlx::query("DELETE FROM revoked_sessions WHERE expires_at < now()")
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected())
    }
}

const MISSING: OrderbookError = OrderbookError::Row {
    table: "users",
    column: "user_id",
};

fn user_id(id: i64) -> Result<UserId, OrderbookError> {
    UserId::new(id).map_err(|_| MISSING)
}
