//! Brings the schema up to date, in one transaction: all of it, or nothing.
//!
//! The migrator of sqlx takes a session lock and prepares statements by name. Neither works through a pooler. The
//! table of applied migrations, `_sqlx_migrations`, is the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migration, Migrator};

use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, LONGEST};
use crate::database::error::{OrderbookError, sqlstate};

const UNDEFINED_TABLE: &str = "42P01";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The advisory lock, which all databases of a server share; the number has no meaning.
const ADVISORY_LOCK: i64 = 0x5ec4_111b_0a7e;

const BOOKS: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version bigint PRIMARY KEY, description text NOT NULL,
    installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL,
    checksum bytea NOT NULL, execution_time bigint NOT NULL)";

impl Orderbook {
    /// Checks that the schema has all migrations that this program knows, unchanged. Migrations of newer versions
    /// do not matter.
    ///
    /// # Errors
    /// When the database is away, lacks a migration or has another one under its number.
    pub async fn check_schema(&self) -> Result<(), OrderbookError> {
        let made = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(&self.pool)
            .await;
        let made: HashMap<i64, Vec<u8>> = match made {
            Ok(rows) => rows.into_iter().collect(),
            Err(error) => match sqlstate(&error).as_deref() {
                Some(UNDEFINED_TABLE) => HashMap::new(),
                Some(INSUFFICIENT_PRIVILEGE) => return Err(OrderbookError::SchemaHidden),
                _ => return Err(error.into()),
            },
        };
        for migration in MIGRATIONS.iter() {
            let version = migration.version;
            match made.get(&version) {
                None => return Err(OrderbookError::SchemaBehind { version }),
                Some(checksum) if **checksum != *migration.checksum => {
                    return Err(MigrateError::VersionMismatch(version).into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Brings the schema up to date. Instances that start together take turns.
    ///
    /// # Errors
    /// When the database is away or a migration fails: then nothing is changed.
    pub async fn migrate(&self) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        transaction.takes_up_to(LONGEST).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(BOOKS).execute(&mut *transaction).await?;
        let made: Vec<(i64, Vec<u8>, bool)> = sqlx::query_as(
            "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version",
        )
        .fetch_all(&mut *transaction)
        .await?;
        for (version, checksum, success) in &made {
            let known = MIGRATIONS.iter().find(|one| one.version == *version);
            match known {
                _ if !success => return Err(MigrateError::Dirty(*version).into()),
                None => return Err(MigrateError::VersionMissing(*version).into()),
                Some(one) if *one.checksum != **checksum => {
                    return Err(MigrateError::VersionMismatch(*version).into());
                }
                Some(_) => {}
            }
        }
        let is_made = |one: &&Migration| made.iter().any(|(version, ..)| *version == one.version);
        for migration in MIGRATIONS.iter().filter(|one| !is_made(one)) {
            make(&mut transaction, migration).await?;
        }
        Ok(transaction.commit().await?)
    }
}

async fn make(connection: &mut Connection, migration: &Migration) -> Result<(), OrderbookError> {
    let (begun, version) = (Instant::now(), migration.version);
    let made = sqlx::raw_sql(&migration.sql)
        .execute(&mut *connection)
        .await;
    made.map_err(|error| MigrateError::ExecuteMigration(error, version))?;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ($1, $2, true, $3, $4)",
    )
    .bind(version)
    .bind(&*migration.description)
    .bind(&*migration.checksum)
    .bind(nanos(begun.elapsed()))
    .execute(connection)
    .await?;
    Ok(())
}

fn nanos(took: Duration) -> i64 {
    i64::try_from(took.as_nanos()).unwrap_or(i64::MAX)
}
