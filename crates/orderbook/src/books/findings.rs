//! What the consistency check finds wrong at the moment, for people to read.

use seckill_domain::{Timestamp, VoucherId};
use sqlx::FromRow;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::voucher_id;
use crate::database::sql_time::SqlTime;

/// A text in a store may be of any length.
const TEXT_CHARS: usize = 300;

/// Something that is wrong with a sale.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The sale.
    pub voucher_id: VoucherId,
    /// Its partition.
    pub partition: i32,
    /// The rule that is broken, as the label of `seckill_audit_violations` has it.
    pub invariant: String,
    /// What it is about, such as a hold; empty where it is the sale.
    pub subject: String,
    /// For people.
    pub detail: String,
}

#[derive(FromRow)]
struct RawFinding {
    voucher_id: i64,
    partition: i32,
    invariant: String,
    subject: String,
    detail: String,
    since: SqlTime,
}

/// What was there before keeps its time.
const REPLACE: &str = "
WITH found AS (
  SELECT DISTINCT ON (voucher_id, invariant, subject) *
    FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[])
      AS f (voucher_id, partition, invariant, subject, detail)
),
gone AS (
  DELETE FROM consistency_findings c
   WHERE partition = ANY($1) AND NOT EXISTS (
     SELECT FROM found f
      WHERE (f.voucher_id, f.invariant, f.subject) = (c.voucher_id, c.invariant, c.subject))
)
INSERT INTO consistency_findings (voucher_id, partition, invariant, subject, detail)
SELECT voucher_id, partition, invariant, subject, detail FROM found f
 WHERE NOT EXISTS (
   SELECT FROM consistency_findings c
    WHERE (f.voucher_id, f.invariant, f.subject) = (c.voucher_id, c.invariant, c.subject))";

impl Orderbook {
    /// Replaces the findings of these partitions. Texts are cut after 300 characters.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replace_findings(
        &self,
        partitions: &[i32],
        findings: &[Finding],
    ) -> Result<(), OrderbookError> {
        let texts = |text: fn(&Finding) -> &str| -> Vec<String> {
            findings.iter().map(|found| storable(text(found))).collect()
        };
        let vouchers = findings.iter().map(|found| found.voucher_id.get());
        let of = findings.iter().map(|found| found.partition);
        sqlx::query(REPLACE)
            .bind(partitions)
            .bind(vouchers.collect::<Vec<_>>())
            .bind(of.collect::<Vec<_>>())
            .bind(texts(|found| &found.invariant))
            .bind(texts(|found| &found.subject))
            .bind(texts(|found| &found.detail))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// At most `limit` of all findings, each with the time since which it is known, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn findings(&self, limit: u32) -> Result<Vec<(Timestamp, Finding)>, OrderbookError> {
        let rows: Vec<RawFinding> = sqlx::query_as(
            "SELECT voucher_id, partition, invariant, subject, detail, since
               FROM consistency_findings
              ORDER BY since, voucher_id, invariant, subject LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let found = rows.into_iter().map(|row| {
            let finding = Finding {
                voucher_id: voucher_id(row.voucher_id, "consistency_findings")?,
                partition: row.partition,
                invariant: row.invariant,
                subject: row.subject,
                detail: row.detail,
            };
            Ok((row.since.0, finding))
        });
        found.collect()
    }
}

/// PostgreSQL stores no NUL in a text.
fn storable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(TEXT_CHARS).map(plain).collect()
}
