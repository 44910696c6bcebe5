//! Plain text tables.

use comfy_table::{CellAlignment, Table, presets};

/// Columns as wide on a terminal as their widest cell, the first one flush left, the others flush right.
#[must_use]
pub fn render(rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((2, 0));
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// A number with commas between thousands.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["", "p50"], ["orders ✔", "12.5"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(render(&rows), "             p50\n  orders ✔  12.5\n");
        let rows = [["", "p50"], ["订单", "12.5"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(render(&rows), "         p50\n  订单  12.5\n");
    }

    #[test]
    fn thousands_are_set_apart() {
        let numbers = [0, 999, 1000, 22_000, 1_234_567].map(count);
        assert_eq!(numbers, ["0", "999", "1,000", "22,000", "1,234,567"]);
    }
}
