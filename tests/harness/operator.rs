//! The operators' command line, and its results in the stores.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use redis::AsyncCommands;
use seckill_domain::VoucherId;

use crate::world::World;

/// Arguments that carry out a command without a question.
pub const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "a test", "--actor", "kim"];

impl World {
    /// Runs `seckillctl`, and gives what it printed.
    ///
    /// # Errors
    /// When it fails, with its status and its output.
    pub fn seckillctl(&self, command: &[&str]) -> Result<String> {
        tokio::task::block_in_place(|| self.stack.seckillctl(command))
    }

    /// The same, with [`EXECUTE`].
    ///
    /// # Errors
    /// As [`Self::seckillctl`].
    pub fn execute(&self, command: &[&str]) -> Result<String> {
        self.seckillctl(&[command, &EXECUTE].concat())
    }

    /// Runs a command with [`EXECUTE`] that has to be refused. Returns its status and output.
    ///
    /// # Errors
    /// When it is carried out.
    pub fn refused(&self, command: &[&str]) -> Result<String> {
        match self.execute(command) {
            Ok(printed) => bail!("{command:?} was carried out: {printed}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// Everything that a repair of this sale could change: every row of the tables, its numbers and holds in Redis, and
    /// the audit.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn contents(&self, voucher: VoucherId) -> Result<Vec<String>> {
        let pool = self.database().await?;
        let mut found = Vec::new();
        for table in [
            "vouchers",
            "orders",
            "refunds",
            "stock_adjustments",
            "sale_reloads",
            "skipped_records",
            "ops_audit",
        ] {
            let sql = format!("SELECT t::text FROM {table} t ORDER BY 1");
            let rows: Vec<String> = sqlx::query_scalar(&sql).fetch_all(&pool).await?;
            found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        let mut redis = self.redis().await?;
        let numbers = ["stock", "held", "unsettled", "corrections", "epoch"];
        let sale = self.sale_key(voucher, "sale");
        let numbers: Vec<Option<String>> = redis.hmget(sale, &numbers[..]).await?;
        found.push(format!("numbers: {numbers:?}"));
        let holds: BTreeMap<String, String> =
            redis.hgetall(self.sale_key(voucher, "holds")).await?;
        found.push(format!("holds: {holds:?}"));
        Ok(found)
    }
}
