//! Whether the log is the one that a view was folded from. A topic that was deleted and made anew, or cut by
//! the election of a replica that lacked records, has other records at the view's position.

use seckill_domain::{LastRecord, Offset};

use crate::read::reader::ReadError;
use crate::read::record_reader::RecordReader;

/// What was found at the position of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// The record that was folded last.
    Same,
    /// Something else, or nothing; and which of the two.
    Other(String),
}

impl RecordReader {
    /// Looks for the record that a view took last of this partition, which continues at `next`. A view of
    /// before identities were kept has only its position to be recognised by.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn log_of(
        &self,
        partition: i32,
        next: Offset,
        last: Option<LastRecord>,
    ) -> Result<Log, ReadError> {
        let from = last.map_or(next, |last| last.offset);
        let found = match self.first_from(partition, from).await {
            Err(ReadError::NotInLog { from, to, .. }) => {
                return Ok(Log::Other(format!(
                    "the view has folded up to {}, and the log has {from} to {to}: it was cut or made anew",
                    next.get()
                )));
            }
            found => found?,
        };
        let Some(last) = last else {
            return Ok(Log::Same);
        };
        let at = last.offset.get();
        Ok(match found {
            Some(record) if record.offset == last.offset && record.identity() == last.identity => {
                Log::Same
            }
            Some(record) if record.offset == last.offset => Log::Other(format!(
                "the record at {at} is another one than was folded: the log was cut and has grown again, or \
                 was made anew"
            )),
            _ => Log::Other(format!(
                "the record at {at} was folded, and the log does not have it: it was cut or compacted"
            )),
        })
    }
}
