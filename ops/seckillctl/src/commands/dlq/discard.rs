//! Discards dead letters.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use seckill_orderbook::SkipFate;
use serde_json::json;

use super::letter::Letter;
use super::{Desk, Selection, list};
use crate::act::Act;
use crate::failure::Failure;
use crate::output::Report;

pub(super) async fn run(
    desk: &Desk,
    selection: &Selection,
    file: &Path,
    act: &Act,
) -> Result<Report, Failure> {
    let letters = desk.selected(selection).await?;
    let count = letters.len();
    let warrant = act.warrant(&format!("discard {count}"), count)?;
    let executed = warrant.is_some();
    if let Some(warrant) = warrant {
        // Write the file to disk before the letters are marked as discarded.
        let written = export(&letters, file);
        written.with_context(|| format!("cannot export to {}", file.display()))?;
        let sources: Vec<_> = letters
            .iter()
            .map(|l| (l.source.partition, l.source.offset))
            .collect();
        let topic = &desk.log.topics.events;
        let entry = warrant.entry(count);
        let noted = desk
            .orderbook
            .note_fate(topic, &sources, SkipFate::Discarded, entry);
        noted
            .await
            .context("the letters are exported, but not discarded")?;
    }
    let verb = if executed { "discarded" } else { "to discard" };
    let names: Vec<_> = letters.iter().map(|l| l.source.to_string()).collect();
    let (letters, closing) = (list(&letters).text, act.closing(executed));
    Ok(Report {
        text: format!("{letters}\n{count} {verb}{closing}"),
        json: json!({ "discarded": names, "export": file, "executed": executed }),
    })
}

/// Never overwrites a file, because it may be the only copy of letters that were discarded before.
fn export(letters: &[Letter], file: &Path) -> std::io::Result<()> {
    let mut lines = BufWriter::new(File::create_new(file)?);
    for letter in letters {
        writeln!(lines, "{}", letter.json())?;
    }
    lines.into_inner()?.sync_all()
}
