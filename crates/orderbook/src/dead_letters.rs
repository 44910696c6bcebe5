//! Which dead letters an operator has dealt with.

use std::collections::HashMap;

use seckill_domain::Offset;

use crate::admin::{AuditEntry, insert_audit};
use crate::{Orderbook, OrderbookError};

/// What was done about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LetterFate {
    /// Its record was written into the event topic again.
    Redriven,
    /// It was exported and given up.
    Discarded,
}

impl LetterFate {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redriven, Self::Discarded];

    /// As the table and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

impl Orderbook {
    /// The letters of a topic that were dealt with, by the partition and the offset at which their
    /// records stood in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn handled_letters(
        &self,
        topic: &str,
    ) -> Result<HashMap<(i32, Offset), LetterFate>, OrderbookError> {
        let rows: Vec<(i32, i64, String)> = sqlx::query_as(
            r#"SELECT partition, "offset", fate FROM dead_letters_handled WHERE topic = $1"#,
        )
        .bind(topic)
        .fetch_all(&self.pool)
        .await?;
        let handled = |(partition, offset, fate): (i32, i64, String)| {
            let fate = LetterFate::ALL.into_iter().find(|f| f.as_str() == fate);
            let fate = fate.ok_or(OrderbookError::Row {
                table: "dead_letters_handled",
                column: "fate",
            })?;
            Ok(((partition, Offset::new(offset)), fate))
        };
        rows.into_iter().map(handled).collect()
    }

    /// Notes what was done about `letters`, and the command that did it: both or neither. What was
    /// done about a letter before stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn handle_letters(
        &self,
        topic: &str,
        letters: &[(i32, Offset)],
        fate: LetterFate,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) =
            letters.iter().map(|(p, o)| (*p, o.get())).unzip();
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            r#"INSERT INTO dead_letters_handled (topic, partition, "offset", fate)
               SELECT $1, l.partition, l."offset", $4
                 FROM unnest($2::integer[], $3::bigint[]) AS l (partition, "offset")
               ON CONFLICT DO NOTHING"#,
        )
        .bind(topic)
        .bind(partitions)
        .bind(offsets)
        .bind(fate.as_str())
        .execute(&mut *transaction)
        .await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}
