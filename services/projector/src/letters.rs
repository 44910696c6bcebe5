//! Dead letters: records that the fold has skipped, for operators. They are an effect of the rows in
//! `skipped_records`, and no part of the pipeline reads them.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use seckill_domain::Offset;
use seckill_eventlog::{DeadLetter, Record};
use seckill_orderbook::SkippedRecord;
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::metrics;
use crate::retry::until_done;

/// Publishes the records of a page that were passed over and waits until the brokers have them; `None`
/// when stopped before that. Repeated, it publishes them again, with the same source.
pub(crate) async fn publish(
    shared: &ProjectorContext,
    stop: &CancellationToken,
    partition: i32,
    skipped: &[SkippedRecord],
) -> Option<()> {
    if skipped.is_empty() {
        return Some(());
    }
    until_done(stop, &shared.health, "dead-letters", || async {
        let offsets: Vec<Offset> = skipped.iter().map(|row| row.offset).collect();
        let records = shared.records.at(partition, offsets).await?;
        let records: HashMap<Offset, Record> = records
            .into_iter()
            .map(|record| (record.offset, record))
            .collect();
        // The log may not have the record any more. Its dead letter still has its position and the reason.
        let gone: Vec<Record> = skipped
            .iter()
            .map(|row| Record::without_content(partition, row.offset))
            .collect();
        let letters: Vec<DeadLetter<'_>> = skipped
            .iter()
            .zip(&gone)
            .map(|(row, gone)| DeadLetter {
                record: records.get(&row.offset).unwrap_or(gone),
                cause: row.cause.clone(),
                group: &shared.group,
            })
            .collect();
        let sent = letters
            .iter()
            .map(|letter| shared.producer.send_dead_letter(letter));
        try_join_all(sent).await?;
        fail::fail_point!("projector.after-dead-letter");
        metrics::DEAD_LETTERS.only().increment(skipped.len() as u64);
        anyhow::Ok(())
    })
    .await
}
