//! Compares two sets of tables: one hash for each sale, of every column that comes from the log.

use std::collections::BTreeMap;

use seckill_domain::VoucherId;

use crate::database::connect::Orderbook;
use crate::database::connections::LONGEST;
use crate::database::error::OrderbookError;
use crate::fold::book_snapshot::BookSnapshot;
use crate::rebuild::shadow::{Shadow, VIEW_TABLES};

/// What one sale has in all tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Rows of `orders`.
    pub orders: i64,
    /// Rows of the other tables.
    pub others: i64,
    /// The sum of the rows' hashes, table by table: the order of the rows does not matter.
    pub hash: String,
}

impl BookSnapshot {
    /// Every sale's fingerprint. What is written by the loads of Redis and not by the fold (`loaded`,
    /// `retired`) is not in it.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn fingerprints(
        &mut self,
    ) -> Result<BTreeMap<VoucherId, Fingerprint>, OrderbookError> {
        self.transaction.takes_up_to(LONGEST).await?;
        sqlx::query("SET LOCAL TimeZone = 'UTC'")
            .execute(&mut *self.transaction)
            .await?;
        let mut found: BTreeMap<VoucherId, Fingerprint> = BTreeMap::new();
        for table in VIEW_TABLES.into_iter().skip(1) {
            let row = match table {
                "vouchers" => "(to_jsonb(t) - 'loaded' - 'retired')::text",
                _ => "t::text",
            };
            let sql = format!(
                "SELECT voucher_id, count(*), sum(hashtextextended({row}, 0)::numeric)::text
                   FROM {table} AS t GROUP BY voucher_id"
            );
            let rows: Vec<(i64, i64, String)> = sqlx::query_as(&sql)
                .fetch_all(&mut *self.transaction)
                .await?;
            for (voucher, count, hash) in rows {
                let voucher = crate::database::rows::voucher_id(voucher, table)?;
                let print = found.entry(voucher).or_default();
                match table {
                    "orders" => print.orders += count,
                    _ => print.others += count,
                }
                print.hash.push_str(&format!("{table}:{hash} "));
            }
        }
        Ok(found)
    }
}

impl Shadow {
    /// A snapshot of these tables.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn snapshot(&self) -> Result<BookSnapshot, OrderbookError> {
        self.tables.book_snapshot(&self.topic).await
    }

    /// What these tables are made of and the live ones are not, or the other way round, a line each:
    /// columns, constraints, indexes, settings, and what refers to the tables and would go on to refer to
    /// the old ones. Empty when they can take each other's place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn structural_differences(&self) -> Result<Vec<String>, OrderbookError> {
        self.differences(Indexes::Compared).await
    }

    pub(crate) async fn differences(
        &self,
        indexes: Indexes,
    ) -> Result<Vec<String>, OrderbookError> {
        let (live, own) = (
            structure(&self.live, &self.schemas.live, indexes),
            structure(&self.tables, &self.schema, indexes),
        );
        let (live, own) = futures_util::future::join(live, own).await;
        let (live, own) = (live?, own?);
        let only = |ours: &[String], theirs: &[String], whose: &str| -> Vec<String> {
            let missing = ours.iter().filter(|line| !theirs.contains(line));
            missing.map(|line| format!("{whose}: {line}")).collect()
        };
        let only_live = only(&live, &own, "only in the live tables");
        Ok([only_live, only(&own, &live, "only in the copy")].concat())
    }
}

/// Whether indexes are part of a comparison: a copy that is being loaded has not all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexes {
    Compared,
    NotYetMade,
}

/// Views are left out: [`Shadow::exchange`] makes them anew.
async fn structure(
    book: &Orderbook,
    schema: &str,
    indexes: Indexes,
) -> Result<Vec<String>, OrderbookError> {
    let lines = sqlx::query_scalar(
        "WITH t AS (SELECT oid, relname, reloptions FROM pg_class
                     WHERE relnamespace = $1::regnamespace AND relname = ANY($2))
         SELECT format('table %s %s', relname, reloptions) FROM t
         UNION ALL
         SELECT format('column %s.%s %s %s %s %s %s', relname, attname, attnum,
                format_type(atttypid, atttypmod), attnotnull, attgenerated,
                pg_get_expr(adbin, adrelid))
           FROM t JOIN pg_attribute ON attrelid = t.oid AND attnum > 0 AND NOT attisdropped
           LEFT JOIN pg_attrdef ON adrelid = t.oid AND adnum = attnum
         UNION ALL
         SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(c.oid))
           FROM t JOIN pg_constraint AS c ON conrelid = t.oid
         UNION ALL
         SELECT format('index %s', replace(pg_get_indexdef(indexrelid), $1 || '.', ''))
           FROM t JOIN pg_index ON indrelid = t.oid WHERE $3
         UNION ALL
         SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
           FROM t JOIN pg_depend AS d ON refclassid = 'pg_class'::regclass AND refobjid = t.oid
           LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
           LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
           LEFT JOIN pg_class AS v ON v.oid = r.ev_class
          WHERE d.deptype IN ('n', 'a') AND c.relkind IS DISTINCT FROM 'i'
            AND v.relkind IS DISTINCT FROM 'v'
         ORDER BY 1",
    )
    .bind(schema)
    .bind(VIEW_TABLES.as_slice())
    .bind(indexes == Indexes::Compared)
    .fetch_all(&book.pool)
    .await?;
    Ok(lines)
}
