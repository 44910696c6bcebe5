//! Cuts off the end of a partition, which also happens when a replica without the last records is elected.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The beginning of a batch of records: its first offset (8 bytes), and the number of bytes that follow (4 bytes).
const HEAD_BYTES: usize = 12;

/// Removes the last `batches` batches of a partition in the log directory of a stopped broker. Returns the offset at
/// which the log ends now. The broker then starts as after a crash that has lost them.
pub(super) fn cut(data: &Path, partition: &str, batches: usize) -> Result<i64> {
    let directory = data.join(partition);
    let segment = directory.join(format!("{:020}.log", 0));
    let bytes = fs::read(&segment).with_context(|| segment.display().to_string())?;
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
        let (offset, length) = head.split_at(8);
        starts.push((at, i64::from_be_bytes(offset.try_into()?)));
        at += HEAD_BYTES + usize::try_from(i32::from_be_bytes(length.try_into()?))?;
    }
    ensure!(
        starts.len() > batches,
        "{} batches in {partition}",
        starts.len()
    );
    let (length, end) = starts[starts.len() - batches];
    let file = OpenOptions::new().write(true).open(&segment)?;
    file.set_len(u64::try_from(length)?)?;
    // Remove the broker's indexes of the records. It makes them again from the remaining records.
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let kind = path.extension().unwrap_or_default();
        if ["index", "timeindex", "snapshot"]
            .iter()
            .any(|k| kind == *k)
        {
            fs::remove_file(path)?;
        }
    }
    for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
        let path = data.join(file);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(end)
}
