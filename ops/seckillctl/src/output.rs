//! What a command prints: text for people or JSON for programs, never a mixture.

use clap::ValueEnum;
use seckill_domain::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The form of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text in columns.
    #[default]
    Table,
    /// One JSON value.
    Json,
}

/// What a command has to say, in both forms.
#[derive(Debug)]
pub(crate) struct Report {
    /// For programs.
    pub(crate) json: serde_json::Value,
    /// For people, without a newline at its end.
    pub(crate) text: String,
}

impl Report {
    /// Prints one of the two forms on standard output.
    pub(crate) fn print(&self, output: Output) {
        match output {
            Output::Table => println!("{}", self.text),
            Output::Json => println!("{:#}", self.json),
        }
    }
}

/// Rows under headers, in columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headers.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths);
        let padded: Vec<_> = padded.map(|(c, w)| format!("{c:<w$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let body = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    let lines: Vec<_> = std::iter::once(line(headers)).chain(body).collect();
    lines.join("\n")
}

/// One thing's fields, a line each.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}

/// A text of somebody else's, on one line and without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// A moment as RFC 3339 in UTC.
///
/// # Panics
/// Never: RFC 3339 can write each of them.
pub(crate) fn moment(at: Timestamp) -> String {
    let nanos = i128::from(at.as_micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .expect("from 1970 to 9999")
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

    #[test]
    fn a_moment_is_printed_in_utc_with_its_microseconds() {
        let at = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(moment(at), "2023-11-14T22:13:20.000001Z");
        assert_eq!(moment(Timestamp::MAX), "9999-12-31T23:59:59.999999Z");
    }
}
