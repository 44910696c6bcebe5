//! A second set of the view's tables, in a schema of its own: made by the same migrations, written by
//! the same fold, and never by anything else.

use seckill_domain::Offset;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, LONGEST, Transaction};
use crate::database::error::OrderbookError;
use crate::rebuild::proof::Indexes;
use crate::rebuild::record::{RebuildPhase, RebuildRecord, Schemas, note_phase};

/// The tables that are folded from the log, in the order in which every transaction of the fold
/// touches them. All others keep books beside the view, and stay where they are.
pub(crate) const VIEW_TABLES: [&str; 6] = [
    "view_positions",
    "vouchers",
    "orders",
    "refunds",
    "stock_adjustments",
    "sale_reloads",
];

/// Of all databases of a server; the number has no meaning.
const ADVISORY_LOCK: i64 = 0x5ec4_111b_0a7d;

/// The lock for changing the tables beside the live ones. One process at a time has it, until it
/// ends for any reason.
#[derive(Debug)]
pub struct RebuildLock {
    _transaction: Transaction,
}

/// Tables beside the live ones. What it can do is read and fold: there is nothing in it that could
/// publish an event or reach Redis, and its rows are nobody's source of effects. The live tables are:
///
/// ```
/// async fn effects(live: &seckill_orderbook::Orderbook) {
///     let from = seckill_domain::Offset::new(0);
///     let page = live.effects_page("topic", 0, from, 10).await;
/// }
/// ```
///
/// and the same of a shadow does not compile:
///
/// ```compile_fail
/// async fn effects(shadow: &seckill_orderbook::Shadow) {
///     let from = seckill_domain::Offset::new(0);
///     let page = shadow.effects_page("topic", 0, from, 10).await;
/// }
/// ```
#[derive(Debug)]
pub struct Shadow {
    /// The live tables.
    pub(crate) live: Orderbook,
    /// The same code, over the other schema.
    pub(crate) tables: Orderbook,
    pub(crate) schema: String,
    pub(crate) schemas: Schemas,
    pub(crate) topic: String,
    pub(crate) id: i32,
}

impl Orderbook {
    /// Takes the lock of all that changes a rebuild; none while another process has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_rebuilds(&self) -> Result<Option<RebuildLock>, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        // Behind a pooler a session lock could belong to any client. This transaction delays nobody: it has
        // read nothing and written nothing.
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut *transaction)
            .await?;
        Ok(taken.then_some(RebuildLock {
            _transaction: transaction,
        }))
    }

    /// Puts a new rebuild on record. Its tables are made by [`Shadow::prepare`].
    ///
    /// # Errors
    /// When the database fails; also when another rebuild is open.
    pub async fn new_rebuild(
        &self,
        topic: &str,
        frozen_ends: &[(i32, Offset)],
        entry: AuditEntry<'_>,
    ) -> Result<i32, OrderbookError> {
        let mut ends = frozen_ends.to_vec();
        ends.sort_unstable();
        let ends: Vec<i64> = ends.into_iter().map(|(_, end)| end.get()).collect();
        let mut transaction = self.pool.begin().await?;
        let id: i32 = sqlx::query_scalar(
            "INSERT INTO rebuilds (id, topic, phase, frozen_ends)
             SELECT coalesce(max(id), 0) + 1, $1, 'loading', $2 FROM rebuilds RETURNING id",
        )
        .bind(topic)
        .bind(ends)
        .fetch_one(&mut *transaction)
        .await?;
        insert_audit(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// The tables of a rebuild that are not live. They may not be there yet: [`Shadow::prepare`].
    /// None where the rebuild has no tables any more.
    #[must_use]
    pub fn shadow(&self, topic: &str, record: &RebuildRecord, connections: u32) -> Option<Shadow> {
        let schema = record.schema()?;
        Some(Shadow {
            live: self.clone(),
            tables: self.over_schema(schema, connections),
            schema: schema.to_owned(),
            schemas: record.schemas.clone(),
            topic: topic.to_owned(),
            id: record.id,
        })
    }
}

impl Shadow {
    /// The rebuild's number.
    #[must_use]
    pub const fn id(&self) -> i32 {
        self.id
    }

    /// The schema's name.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Where the fold into these tables continues, a partition; 0 also where they are not made yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn positions(
        &self,
        partitions: &[i32],
    ) -> Result<Vec<(i32, Offset)>, OrderbookError> {
        let made: bool = sqlx::query_scalar("SELECT to_regclass('view_positions') IS NOT NULL")
            .fetch_one(&self.tables.pool)
            .await?;
        if !made {
            return Ok(partitions.iter().map(|p| (*p, Offset::new(0))).collect());
        }
        let view = crate::fold::positions::View::Orders;
        self.tables.positions(&self.topic, partitions, view).await
    }

    /// Makes the tables by the migrations that the live ones were made by, or brings them up to date, with
    /// the indexes that somebody has given the live ones. Until [`Self::complete`] they are without the
    /// indexes that a load would only be slowed by.
    ///
    /// Gives what they differ in otherwise: [`Self::structural_differences`]. Where there is something, they
    /// will never be able to go live.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prepare(&self) -> Result<Vec<String>, OrderbookError> {
        let schema = &self.schema;
        let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        sqlx::query(&sql).execute(&self.live.pool).await?;
        self.tables.migrate().await?;
        let mut transaction = self.tables.pool.begin().await?;
        let made: bool = sqlx::query_scalar("SELECT to_regclass('rebuild_indexes') IS NULL")
            .fetch_one(&mut *transaction)
            .await?;
        if made {
            self.make_more_indexes(&mut transaction).await?;
            self.set_indexes_aside(&mut transaction).await?;
            self.grant_as_live(&mut transaction).await?;
        }
        transaction.commit().await?;
        self.differences(Indexes::NotYetMade).await
    }

    /// Those that the live tables have and no migration makes.
    async fn make_more_indexes(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let definitions: Vec<String> = sqlx::query_scalar(
            "SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ' || $1 || '.', ' ON ' || $2 || '.')
               FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid
               JOIN pg_class AS c ON c.oid = i.indexrelid
              WHERE t.relnamespace = $1::regnamespace AND t.relname = ANY($3)
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
                AND NOT EXISTS (SELECT FROM pg_class AS own
                                 WHERE own.relnamespace = $2::regnamespace AND own.relname = c.relname)",
        )
        .bind(&self.schemas.live)
        .bind(&self.schema)
        .bind(VIEW_TABLES.as_slice())
        .fetch_all(&mut *connection)
        .await?;
        for sql in definitions {
            sqlx::query(&sql).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Primary keys stay: the fold finds the rows of a sale by them.
    async fn set_indexes_aside(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        for sql in [
            "CREATE TABLE rebuild_indexes (name text PRIMARY KEY, definition text NOT NULL)",
            "INSERT INTO rebuild_indexes
             SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
              WHERE indrelid = 'orders'::regclass AND NOT indisprimary",
        ] {
            sqlx::query(sql).execute(&mut *connection).await?;
        }
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM rebuild_indexes")
            .fetch_all(&mut *connection)
            .await?;
        for name in names {
            let sql = format!("DROP INDEX {name}");
            sqlx::query(&sql).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Copies the privileges of the live tables, so that they are the same after the exchange.
    async fn grant_as_live(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let grants: Vec<String> = sqlx::query_scalar(
            "SELECT format('GRANT %s ON %s.%I TO %s', acl.privilege_type, $1, c.relname,
                    CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END)
               FROM pg_class AS c, aclexplode(c.relacl) AS acl
              WHERE c.relnamespace = $3::regnamespace AND c.relname = ANY($2)
                AND acl.grantee <> c.relowner",
        )
        .bind(&self.schema)
        .bind(VIEW_TABLES.as_slice())
        .bind(&self.schemas.live)
        .fetch_all(&mut *connection)
        .await?;
        for sql in grants {
            sqlx::query(&sql).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Ends the load: makes what [`Self::prepare`] left out, walls included, and has the planner look
    /// at the tables. Can be repeated.
    ///
    /// # Errors
    /// When the database fails, or a wall does not hold: then the copy is not what a fold writes.
    pub async fn complete(&self) -> Result<(), OrderbookError> {
        let missing: Vec<(String, String)> =
            sqlx::query_as("SELECT name, definition FROM rebuild_indexes ORDER BY name")
                .fetch_all(&self.tables.pool)
                .await?;
        let (first, second) = missing.split_at(missing.len() / 2);
        let (first, second) =
            futures_util::future::join(self.build(first), self.build(second)).await;
        first.and(second)?;
        self.analyze().await?;
        let mut transaction = self.live.pool.begin().await?;
        note_phase(&mut transaction, self.id, RebuildPhase::Following, None).await?;
        Ok(transaction.commit().await?)
    }

    async fn build(&self, indexes: &[(String, String)]) -> Result<(), OrderbookError> {
        for (name, definition) in indexes {
            let mut transaction = self.tables.pool.begin().await?;
            transaction.takes_up_to(LONGEST).await?;
            for sql in [
                "SET LOCAL maintenance_work_mem = '256MB'",
                definition.as_str(),
            ] {
                sqlx::query(sql).execute(&mut *transaction).await?;
            }
            sqlx::query("DELETE FROM rebuild_indexes WHERE name = $1")
                .bind(name)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    pub(crate) async fn analyze(&self) -> Result<(), OrderbookError> {
        let mut transaction = self.tables.pool.begin().await?;
        transaction.takes_up_to(LONGEST).await?;
        for table in VIEW_TABLES {
            let sql = format!("ANALYZE {table}");
            sqlx::query(&sql).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// How many records are passed over, here as by the live fold.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn skipped(&self) -> Result<i64, OrderbookError> {
        let count = sqlx::query_scalar(
            r#"SELECT count(*) FROM skipped_records AS s JOIN view_positions AS p USING (topic, partition)
                WHERE s.topic = $1 AND p.view = 'orders' AND s."offset" < p.next_offset"#,
        );
        Ok(count.bind(&self.topic).fetch_one(&self.live.pool).await?)
    }

    /// Drops the tables, for good.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_tables(
        self,
        phase: RebuildPhase,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        self.tables.close().await;
        let mut transaction = self.live.pool.begin().await?;
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        sqlx::query(&sql).execute(&mut *transaction).await?;
        note_phase(&mut transaction, self.id, phase, None).await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}
