//! The exchange of the live tables for those beside them, while the services run.
//!
//! *All* tables of the view change places, the positions among them, under locks that nobody's
//! transaction outlives: a transaction sees rows and position of one set or of the other, never of both.
//! Without the positions among them, a snapshot from during the exchange would pair the live position
//! with rows that it does not see, and effects would be lost.

use std::time::{Duration, Instant};

use seckill_domain::Offset;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connections::{Connection, Transaction};
use crate::database::error::OrderbookError;
use crate::rebuild::record::{RebuildPhase, note_phase};
use crate::rebuild::shadow::{Shadow, VIEW_TABLES};

/// The direction of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// The copy goes live.
    Promote,
    /// The tables that the copy replaced become live again.
    Rollback,
}

/// The live tables, locked: nobody reads or writes them until this is dropped or finished.
#[derive(Debug)]
pub struct Swap {
    transaction: Transaction,
    positions: Vec<(i32, Offset)>,
    began: Instant,
}

impl Shadow {
    /// Locks the live tables; none where somebody's transaction did not end within `patience`, during
    /// which all others wait behind this.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_live(&self, patience: Duration) -> Result<Option<Swap>, OrderbookError> {
        let began = Instant::now();
        let mut transaction = self.live.pool.begin().await?;
        let millis = patience.as_millis();
        let sql = format!("SET LOCAL lock_timeout = {millis}");
        sqlx::query(&sql).execute(&mut *transaction).await?;
        // In the order of the fold, so that the two cannot deadlock. A deadlock with a program that locks
        // them in another order ends with an error, and the caller tries again.
        let live = &self.schemas.live;
        let tables = VIEW_TABLES
            .map(|table| format!("{live}.{table}"))
            .join(", ");
        let sql = format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE");
        match sqlx::query(&sql).execute(&mut *transaction).await {
            Ok(_) => {}
            Err(error) if is_busy(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition, next_offset FROM view_positions
              WHERE view = 'orders' AND topic = $1",
        )
        .bind(&self.topic)
        .fetch_all(&mut *transaction)
        .await?;
        let positions = rows.into_iter().map(|(p, next)| (p, Offset::new(next)));
        Ok(Some(Swap {
            transaction,
            positions: positions.collect(),
            began,
        }))
    }

    /// Exchanges the tables. The fold into these has to have come exactly to [`Swap::positions`]. Gives
    /// the time from the first lock to the end.
    ///
    /// # Errors
    /// When the database fails or the positions differ: nothing is changed then.
    pub async fn exchange(
        self,
        mut swap: Swap,
        which: Exchange,
        entry: AuditEntry<'_>,
    ) -> Result<Duration, OrderbookError> {
        let connection = &mut *swap.transaction;
        self.check_positions(connection).await?;
        self.carry_over(connection).await?;
        let (new_name, phase) = match which {
            Exchange::Promote => (&self.schemas.retired, RebuildPhase::Promoted),
            Exchange::Rollback => (&self.schemas.copy, RebuildPhase::Following),
        };
        self.change_places(connection, new_name).await?;
        let pause_ms = i64::try_from(swap.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        note_phase(connection, self.id, phase, Some(pause_ms)).await?;
        insert_audit(connection, entry).await?;
        swap.transaction.commit().await?;
        let pause = swap.began.elapsed();
        self.tables.close().await;
        Ok(pause)
    }

    async fn check_positions(&self, connection: &mut Connection) -> Result<(), OrderbookError> {
        let sql = format!(
            "SELECT count(*) FROM {}.view_positions AS live
               FULL JOIN {}.view_positions AS own USING (view, topic, partition)
              WHERE view = 'orders' AND topic = $1
                AND coalesce(live.next_offset, 0) <> coalesce(own.next_offset, 0)",
            self.schemas.live, self.schema
        );
        let differing: i64 = sqlx::query_scalar(&sql)
            .bind(&self.topic)
            .fetch_one(connection)
            .await?;
        if differing == 0 {
            Ok(())
        } else {
            Err(OrderbookError::Row {
                table: "view_positions",
                column: "next_offset",
            })
        }
    }

    /// What the log does not say: how far the effects are, and what Redis was told of each sale.
    async fn carry_over(&self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let (schema, live) = (&self.schema, &self.schemas.live);
        for sql in [
            format!("DELETE FROM {schema}.view_positions WHERE view = 'effects'"),
            format!(
                "INSERT INTO {schema}.view_positions
                 SELECT * FROM {live}.view_positions WHERE view = 'effects'"
            ),
            // The positions are the same, and so is the log.
            format!(
                "UPDATE {schema}.view_positions AS own
                    SET last_offset = live.last_offset, last_identity = live.last_identity,
                        skip_decisions = live.skip_decisions, log_number = live.log_number
                   FROM {live}.view_positions AS live
                  WHERE own.view = 'orders' AND live.view = 'orders'
                    AND own.topic = live.topic AND own.partition = live.partition"
            ),
            format!(
                "UPDATE {schema}.vouchers AS own
                    SET loaded = own.loaded OR live.loaded, retired = live.retired
                   FROM {live}.vouchers AS live
                  WHERE own.voucher_id = live.voucher_id
                    AND (live.loaded AND NOT own.loaded OR live.retired <> own.retired)"
            ),
        ] {
            sqlx::query(&sql).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn change_places(
        &self,
        connection: &mut Connection,
        new_name: &str,
    ) -> Result<(), sqlx::Error> {
        let (schema, live) = (&self.schema, &self.schemas.live);
        // The books beside the copy go where its tables' successors are: the fold may go on there.
        let rest: Vec<String> = sqlx::query_scalar(
            "SELECT format('ALTER TABLE %s SET SCHEMA', oid::regclass) FROM pg_class
              WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND relname <> ALL($2)
             UNION ALL
             SELECT format('ALTER FUNCTION %s SET SCHEMA', oid::regprocedure) FROM pg_proc
              WHERE pronamespace = $1::regnamespace",
        )
        .bind(schema)
        .bind(VIEW_TABLES.as_slice())
        .fetch_all(&mut *connection)
        .await?;
        let views = self.views_of_live(connection).await?;
        let mut steps = vec![format!("CREATE SCHEMA {new_name}")];
        for table in VIEW_TABLES {
            steps.push(format!("ALTER TABLE {live}.{table} SET SCHEMA {new_name}"));
            steps.push(format!("ALTER TABLE {schema}.{table} SET SCHEMA {live}"));
        }
        steps.extend(rest.iter().map(|step| format!("{step} {new_name}")));
        steps.push(format!("DROP SCHEMA {schema}"));
        steps.extend(views);
        // One round trip for everything, because all services are waiting.
        let steps = steps.join("; ");
        sqlx::raw_sql(&steps).execute(&mut *connection).await?;
        Ok(())
    }

    /// Statements that make somebody's views of the live tables anew: a view goes on to read the tables
    /// that it was made of, wherever they are put.
    async fn views_of_live(&self, connection: &mut Connection) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
                    ' WITH (' || array_to_string(v.reloptions, ', ') || ')',
                    rtrim(pg_get_viewdef(v.oid), ';'))
               FROM pg_class AS v
              WHERE v.relkind = 'v' AND EXISTS (
                    SELECT FROM pg_rewrite AS r
                      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                      JOIN pg_class AS t ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
                     WHERE r.ev_class = v.oid AND t.relnamespace = $1::regnamespace
                       AND t.relname = ANY($2))",
        )
        .bind(&self.schemas.live)
        .bind(VIEW_TABLES.as_slice())
        .fetch_all(connection)
        .await
    }
}

impl Swap {
    /// Where the live fold stands, a partition that it has been in.
    #[must_use]
    pub fn positions(&self) -> &[(i32, Offset)] {
        &self.positions
    }

    /// How long the tables have been locked.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.began.elapsed()
    }

    /// Releases the tables, with nothing changed.
    ///
    /// # Errors
    /// When the database fails: then it has let them go itself.
    pub async fn give_up(self) -> Result<(), OrderbookError> {
        Ok(self.transaction.rollback().await?)
    }
}

/// The lock could not be taken in time, or because of a deadlock.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error();
    let code = code.and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
