//! The table of rebuilds.

use seckill_domain::{Offset, Timestamp};
use sqlx::FromRow;

use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::sql_time::SqlTime;

/// The phase of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildPhase {
    /// The log is being folded up to the frozen ends.
    Loading,
    /// The copy is complete, and follows the live tables when it is told to.
    Following,
    /// The copy is live; the tables that it replaced are kept.
    Promoted,
    /// The copy was given up.
    Aborted,
    /// The tables that the copy replaced were dropped.
    Pruned,
}

impl RebuildPhase {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Loading,
        Self::Following,
        Self::Promoted,
        Self::Aborted,
        Self::Pruned,
    ];

    /// As the table and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Following => "following",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Pruned => "pruned",
        }
    }

    /// Whether there are tables beside the live ones.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Loading | Self::Following | Self::Promoted)
    }
}

/// The schemas of a rebuild, as SQL spells them.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Schemas {
    /// Of the live tables: the first of the role's `search_path`.
    pub live: String,
    /// Of the copy.
    pub copy: String,
    /// Of the tables that the copy replaced.
    pub retired: String,
}

/// One rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildRecord {
    /// Its number, which its schema carries.
    pub id: i32,
    /// Where its tables are.
    pub schemas: Schemas,
    /// Its phase.
    pub phase: RebuildPhase,
    /// Where the load ends, a partition.
    pub frozen_ends: Vec<(i32, Offset)>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was last compared with the live tables, and how many sales differed.
    pub proof: Option<(Timestamp, i64)>,
    /// For how long nobody could write when it was promoted or rolled back, in milliseconds.
    pub pause_ms: Option<i64>,
}

impl RebuildRecord {
    /// The schema of the tables beside the live ones, if there are any.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        match self.phase {
            RebuildPhase::Loading | RebuildPhase::Following => Some(&self.schemas.copy),
            RebuildPhase::Promoted => Some(&self.schemas.retired),
            RebuildPhase::Aborted | RebuildPhase::Pruned => None,
        }
    }
}

#[derive(FromRow)]
struct RawRebuild {
    id: i32,
    #[sqlx(flatten)]
    schemas: Schemas,
    phase: String,
    frozen_ends: Vec<i64>,
    started_at: SqlTime,
    proven_at: Option<SqlTime>,
    differing: Option<i64>,
    pause_ms: Option<i64>,
}

impl TryFrom<RawRebuild> for RebuildRecord {
    type Error = OrderbookError;

    fn try_from(row: RawRebuild) -> Result<Self, OrderbookError> {
        let phase = RebuildPhase::ALL
            .into_iter()
            .find(|phase| phase.as_str() == row.phase);
        let proof = row.proven_at.zip(row.differing);
        Ok(Self {
            id: row.id,
            schemas: row.schemas,
            phase: phase.ok_or(OrderbookError::Row {
                table: "rebuilds",
                column: "phase",
            })?,
            frozen_ends: (0..)
                .zip(row.frozen_ends.into_iter().map(Offset::new))
                .collect(),
            started_at: row.started_at.0,
            proof: proof.map(|(at, differing)| (at.0, differing)),
            pause_ms: row.pause_ms,
        })
    }
}

impl Orderbook {
    /// All rebuilds, the newest first.
    ///
    /// # Errors
    /// When the database fails, or is of an older version.
    pub async fn rebuilds(&self, topic: &str) -> Result<Vec<RebuildRecord>, OrderbookError> {
        let rows: Vec<RawRebuild> = sqlx::query_as(
            // Several deployments may have a schema each in one database; their rebuilds are numbered alike.
            "SELECT id, phase, frozen_ends, started_at, proven_at, differing, pause_ms,
                    quote_ident(home) AS live,
                    quote_ident(left('rebuild_' || id || of_home, 63)) AS copy,
                    quote_ident(left('retired_' || id || of_home, 63)) AS retired
               FROM rebuilds, LATERAL (
                    SELECT nspname AS home,
                           CASE nspname WHEN 'public' THEN '' ELSE '_' || nspname END AS of_home
                      FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
                     WHERE pg_class.oid = 'rebuilds'::regclass) AS homes
              WHERE topic = $1 ORDER BY id DESC",
        )
        .bind(topic)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RebuildRecord::try_from).collect()
    }

    /// Notes the outcome of a comparison with the live tables.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_proof(&self, id: i32, differing: usize) -> Result<(), OrderbookError> {
        sqlx::query("UPDATE rebuilds SET proven_at = now(), differing = $2 WHERE id = $1")
            .bind(id)
            .bind(i64::try_from(differing).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

pub(crate) async fn note_phase(
    connection: &mut Connection,
    id: i32,
    phase: RebuildPhase,
    pause_ms: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE rebuilds SET phase = $2, changed_at = now(), proven_at = NULL,
                differing = NULL, pause_ms = coalesce($3, pause_ms) WHERE id = $1",
    )
    .bind(id)
    .bind(phase.as_str())
    .bind(pause_ms)
    .execute(connection)
    .await?;
    Ok(())
}
