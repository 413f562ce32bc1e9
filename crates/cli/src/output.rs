//! Results on stdout: sheets of cells as a table for people, CSV or JSON lines for programs.
//!
//! **Owns** how values look. **Does not own** which values: commands make [`Sheet`]s.
//!
//! I1: one value has one text: the same in tables, CSV and JSON, but for numbers, which are bare in JSON, and NULL.
//! I2: a reader that goes away (`| head`) ends the output quietly.

mod cell;
mod summary;

use std::io::{self, BufWriter, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table};
use watershed_types::{Error, Result};

pub use cell::Cell;
pub use summary::{account_cells, outcome};

use crate::arguments::Format;

/// Rows and columns to be printed.
#[derive(Debug, Default)]
pub struct Sheet {
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// A sheet with these columns; one that ends with `>` is right-aligned.
    pub fn new(columns: &[&str]) -> Sheet {
        let columns = columns.iter().map(|c| (c.trim_end_matches('>').to_owned(), c.ends_with('>'))).collect();
        Sheet { columns, rows: vec![] }
    }

    /// A sheet with these columns, each with whether it is right-aligned.
    pub fn with_columns(columns: Vec<(String, bool)>) -> Sheet {
        Sheet { columns, rows: vec![] }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The table for people, each line after `indent`.
    pub fn table(&self, indent: &str) -> String {
        let mut table = Table::new();
        table.load_preset("     ──            ").set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|(name, _)| name));
        for row in &self.rows {
            table.add_row(row.iter().map(Cell::shown));
        }
        for (column, (_, right)) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, 2));
            if *right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut out = String::new();
        for line in table.lines() {
            out.push_str(indent);
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Prints the sheet.
    pub fn print(&self, format: Format) -> Result<()> {
        let mut out = String::new();
        match format {
            Format::Table => out = self.table(""),
            Format::Csv => {
                let header: Vec<String> = self.columns.iter().map(|(name, _)| cell::csv_field(name)).collect();
                out.push_str(&header.join(","));
                out.push_str("\r\n");
                for row in &self.rows {
                    let fields: Vec<String> = row.iter().map(Cell::csv).collect();
                    out.push_str(&fields.join(","));
                    out.push_str("\r\n");
                }
            }
            Format::Json => {
                for row in &self.rows {
                    let fields: Vec<String> = self.columns.iter().zip(row).map(|((name, _), cell)| format!("{}:{}", cell::json_text(name), cell.json())).collect();
                    out.push_str(&format!("{{{}}}\n", fields.join(",")));
                }
            }
        }
        print(&out)
    }
}

/// Prints text on stdout.
pub fn print(text: &str) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::unavailable("CLI0008", "standard output cannot be written").caused_by(error)),
        Ok(()) => Ok(()),
    }
}

/// Prints one JSON value on a line.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value}\n"))
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1536` as `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    String::new()
}

/// `1 row`, `2 rows`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", thousands(number)) }
}

/// How long ago a time was, for people.
pub fn ago(micros: i64) -> String {
    let seconds = (chrono::Utc::now().timestamp_micros() - micros).max(0) / 1_000_000;
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m {}s ago", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m ago", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(123), "123");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(12), "12 B");
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(2000, "row"), "2,000 rows");
    }

    #[test]
    fn a_table_aligns_numbers_right_and_has_no_frame() {
        let mut sheet = Sheet::new(&["name", "rows>"]);
        sheet.push(vec![Cell::text("a"), Cell::number(7)]);
        sheet.push(vec![Cell::text("longer"), Cell::number(1234)]);
        let table = sheet.table("");
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!((lines[0], lines[2], lines[3]), ("name     rows", "a           7", "longer   1234"));
    }
}
