//! A table beside the view: which sessions have ended.

use std::time::Duration;

use seckill_domain::{Timestamp, UserId};
use uuid::Uuid;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::books::users::user_id;
use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::sql_time::{SqlTime, interval};

/// A row has the time at which its transaction began. A transaction that began before the last read may
/// have ended after it.
const OVERLAP: Duration = Duration::from_secs(60);

/// A session that was signed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedSession {
    /// The session.
    pub session_id: Uuid,
    /// All its tokens have expired after this.
    pub expires_at: Timestamp,
}

/// A user all of whose sessions up to some moment are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSessions {
    /// The user.
    pub user_id: UserId,
    /// Those that began then or before.
    pub up_to: Timestamp,
    /// All their tokens have expired after this.
    pub expires_at: Timestamp,
}

/// What was signed out between two reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Where the next read begins, by the database's clock.
    pub as_of: Timestamp,
    /// Sessions; some may have been seen before.
    pub sessions: Vec<RevokedSession>,
    /// Users; some may have been seen before.
    pub users: Vec<EndedSessions>,
}

impl Orderbook {
    /// Stores that a session was signed out. Repeating it changes nothing.
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

    /// Stores that all sessions of a user have ended, and writes the audit if an operator ended them, in one
    /// transaction. If the database's clock is ahead, sessions that began in between have ended too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_sessions(
        &self,
        ended: EndedSessions,
        entry: Option<AuditEntry<'_>>,
    ) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO ended_sessions AS known (user_id, up_to, expires_at)
             VALUES ($1, greatest($2, now()), $3)
             ON CONFLICT (user_id) DO UPDATE
                SET up_to = greatest(known.up_to, excluded.up_to), ended_at = now(),
                    expires_at = greatest(known.expires_at, excluded.expires_at)",
        )
        .bind(ended.user_id.get())
        .bind(SqlTime(ended.up_to))
        .bind(SqlTime(ended.expires_at))
        .execute(&mut *transaction)
        .await?;
        if let Some(entry) = entry {
            insert_audit(&mut transaction, entry).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The sessions that were signed out since the last read; at the first read, all that have tokens left.
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
        let sessions: Vec<(Uuid, SqlTime)> = sqlx::query_as(
            "SELECT session_id, expires_at FROM revoked_sessions
              WHERE expires_at > now() AND ($1::timestamptz IS NULL OR revoked_at > $1 - $2)",
        )
        .bind(since.map(SqlTime))
        .bind(interval(OVERLAP))
        .fetch_all(&self.pool)
        .await?;
        let users: Vec<(i64, SqlTime, SqlTime)> = sqlx::query_as(
            "SELECT user_id, up_to, expires_at FROM ended_sessions
              WHERE expires_at > now() AND ($1::timestamptz IS NULL OR ended_at > $1 - $2)",
        )
        .bind(since.map(SqlTime))
        .bind(interval(OVERLAP))
        .fetch_all(&self.pool)
        .await?;
        let session = |(session_id, SqlTime(expires_at))| RevokedSession {
            session_id,
            expires_at,
        };
        let user = |(id, SqlTime(up_to), SqlTime(expires_at))| {
            Ok(EndedSessions {
                user_id: user_id(id)?,
                up_to,
                expires_at,
            })
        };
        Ok(Revocations {
            as_of,
            sessions: sessions.into_iter().map(session).collect(),
            users: users
                .into_iter()
                .map(user)
                .collect::<Result<_, OrderbookError>>()?,
        })
    }

    /// Deletes sessions whose tokens have all expired, and sign-ins of more than 90 days ago. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_expired_sessions(&self) -> Result<u64, OrderbookError> {
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM revoked_sessions WHERE expires_at < now()",
            "DELETE FROM ended_sessions WHERE expires_at < now()",
            "DELETE FROM sign_ins WHERE at < now() - interval '90 days'",
        ] {
            forgotten += sqlx::query(sql).execute(&self.pool).await?.rows_affected();
        }
        Ok(forgotten)
    }
}
