//! Tables: for people, for programs, for the documents; and all that a run has made.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde_json::{Value, json};

use crate::chart::Chart;

/// What a run has made so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order in which they were made.
    pub(crate) tables: Vec<Table>,
    /// Likewise.
    pub(crate) charts: Vec<Chart>,
}

impl Report {
    /// Shows a table, and keeps it.
    ///
    /// # Errors
    /// Nobody reads.
    pub(crate) fn add(&mut self, table: Table) -> io::Result<()> {
        writeln!(io::stdout(), "\n### {}\n\n{}", table.title, table.markdown())?;
        self.tables.push(table);
        Ok(())
    }

    /// All of it for programs.
    pub(crate) fn json(&self) -> Value {
        json!({"tables": self.tables.iter().map(Table::json).collect::<Vec<_>>()})
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A number, and how many digits behind the point are worth showing.
    Number(f64, usize),
    /// Nothing was measured here.
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A table with a name that the documents know it by.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The name.
    pub(crate) id: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// What stands in the columns; the first names the row.
    pub(crate) columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows yet.
    pub(crate) fn new(id: &'static str, title: &'static str, columns: &[&str]) -> Self {
        Self { id, title, columns: columns.iter().map(|&name| name.to_owned()).collect(), rows: vec![] }
    }

    /// The rows as the documents have them.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n| ---", self.columns.join(" | "));
        for _ in 1..self.columns.len() {
            text.push_str(" | ---:");
        }
        text.push_str(" |\n");
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(shown).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// The rows for programs: as long as the columns, whose names may repeat.
    pub(crate) fn json(&self) -> Value {
        let value = |cell: &Cell| match cell {
            Cell::Text(text) => json!(text),
            Cell::Number(number, _) => json!(number),
            Cell::Empty => Value::Null,
        };
        let rows: Vec<Vec<_>> = self.rows.iter().map(|row| row.iter().map(value).collect()).collect();
        json!({"id": self.id, "title": self.title, "columns": self.columns, "rows": rows})
    }
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Empty => String::new(),
        Cell::Number(value, digits) => number(*value, *digits),
    }
}

/// A number with its thousands apart, and so many digits behind the point.
pub(crate) fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !out.ends_with('-') {
            out.push(' ');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_their_thousands_apart() {
        let rows =
            [(1_234_567.0, 0, "1 234 567"), (0.5, 2, "0.50"), (-123.0, 0, "-123"), (1000.25, 1, "1 000.2")];
        for (value, digits, expected) in rows {
            assert_eq!(number(value, digits), expected);
        }
    }

    #[test]
    fn a_table_is_the_same_for_people_and_programs() {
        let mut table = Table::new("t", "A table", &["", "ns"]);
        table.rows.push(vec!["denied".into(), Cell::Number(41.6, 0)]);
        table.rows.push(vec!["new".into(), Cell::Empty]);
        assert_eq!(table.markdown(), "|  | ns |\n| --- | ---: |\n| denied | 42 |\n| new |  |\n");
        let json = table.json();
        assert_eq!(json["rows"], json!([["denied", 41.6], ["new", null]]));
    }
}
