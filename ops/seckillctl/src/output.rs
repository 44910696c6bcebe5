//! The output of a command: text for people or JSON for programs, never both.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::anyhow;
use clap::ValueEnum;
use comfy_table::{Table, presets};
pub(crate) use seckill_eventlog::moment;

use crate::failure::Failure;

/// The form of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text in columns.
    #[default]
    Table,
    /// One JSON value.
    Json,
}

/// The result of a command, in both forms.
#[derive(Debug)]
pub(crate) struct Report {
    /// For programs.
    pub(crate) json: serde_json::Value,
    /// For people, without a newline at its end.
    pub(crate) text: String,
}

impl Report {
    /// Prints one of the two forms on standard output.
    pub(crate) fn print(&self, output: Output) -> Result<(), Failure> {
        match output {
            Output::Table => print(printable_lines(&self.text)),
            Output::Json => print(format_args!("{:#}", self.json)),
        }
    }

    /// Prints the report of a command that fails because of it. Returns the failure, also if printing fails.
    pub(crate) fn print_with(&self, output: Output, failure: anyhow::Error) -> Failure {
        match self.print(output) {
            Ok(()) | Err(Failure::NobodyReads) => failure.into(),
            Err(unwritten) => anyhow!(unwritten).context(format!("{failure:#}")).into(),
        }
    }
}

/// Writes `text` and a newline to standard output. `println!` is not used because it panics when it cannot write. Only
/// clap's help is printed in another way, and its result is passed to [`written`] too.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Turns the result of a write to standard output into the result of the command.
pub(crate) fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Failed(anyhow!(
            "the answer cannot be written to standard output: {error}; what the command was to do is done"
        )),
    })
}

/// Writes to standard error. If that fails, the error is ignored, because it cannot be shown anywhere.
pub(crate) fn tell(text: impl Display) {
    let text = printable_lines(&text.to_string());
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// Rows below headers. Each column is as wide on a terminal as its widest cell.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers);
    for row in rows {
        table.add_row(row.each_ref().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// The fields of one object, one on each line.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {}", printable(value)))
        .collect();
    lines.join("\n")
}

/// A text from outside, on one line and without characters that control a terminal.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, is_obeyed)
}

/// The same for several lines.
fn printable_lines(text: &str) -> String {
    escaped(text, |c| c != '\n' && is_obeyed(c))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, line and paragraph separators, and characters that change the direction of a text.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".into(), "Café".into()], ["2000".into(), "x".into()]];
        assert_eq!(table(["id", "t"], &rows), "id    t\n1     Café\n2000  x");
        let pairs = [("id", "1".to_owned()), ("title", "x".to_owned())];
        assert_eq!(fields(&pairs), "id     1\ntitle  x");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            printable("Café\n\u{1b}[2J\u{9b}"),
            "Café\\n\\u{1b}[2J\\u{9b}"
        );
    }
}
