//! Aligned columns within 100 characters, and the few colours there are.

use std::io::{self, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

/// The width that every table fits.
pub(super) const WIDTH: u16 = 100;

/// Whether colour is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colour, as on a terminal.
    pub colour: bool,
}

/// What a text means, as far as colour goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
    Title,
}

impl Style {
    /// `text` in the colour of its meaning.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Title => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Text, wrapped where there is no room.
    Text(&'static str),
    /// Text of at most this width, wrapped.
    Narrow(&'static str, u16),
    /// Text that is never wrapped.
    Whole(&'static str),
    /// A number.
    Number(&'static str),
}

/// Rows under aligned columns.
pub(super) struct Grid {
    table: Table,
    style: Style,
}

impl Grid {
    pub(super) fn new(style: Style, columns: &[Column]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH);
        if style.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let header = columns.iter().map(|column| {
            let (Column::Text(name) | Column::Narrow(name, _) | Column::Whole(name) | Column::Number(name)) =
                column;
            let cell = Cell::new(name);
            if style.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        table.set_header(Row::from(header.collect::<Vec<_>>()));
        for (index, kind) in columns.iter().enumerate() {
            let Some(column) = table.column_mut(index) else { continue };
            column.set_padding((0, 2));
            match kind {
                Column::Text(_) => {}
                Column::Narrow(_, width) => {
                    column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(*width)));
                }
                Column::Whole(_) => {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
                Column::Number(_) => {
                    column.set_cell_alignment(CellAlignment::Right);
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        Self { table, style }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        let style = self.style;
        let cells = cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new_owned(text);
            match tone {
                _ if !style.colour => cell,
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Bad => cell.fg(Color::Red),
                Tone::Faint => cell.add_attribute(Attribute::Dim),
                Tone::Title => cell.add_attribute(Attribute::Bold),
            }
        });
        self.table.add_row(Row::from(cells.collect::<Vec<_>>()));
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A plain cell.
pub(super) fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

/// `label: text`, the text wrapped and indented behind the label.
pub(super) fn field(out: &mut dyn Write, style: Style, label: &str, text: &str) -> io::Result<()> {
    const LABEL: usize = 14;
    let mut lines = wrap(text, usize::from(WIDTH) - LABEL).into_iter();
    let first = lines.next().unwrap_or_default();
    let label = format!("{label:<LABEL$}");
    writeln!(out, "{}{first}", style.paint(Tone::Faint, &label))?;
    for line in lines {
        writeln!(out, "{:LABEL$}{line}", "")?;
    }
    Ok(())
}

/// Breaks `text` at spaces, and words that are too long anywhere.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut characters: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + characters.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while characters.len() > width {
            let rest = characters.split_off(width);
            lines.push(characters.into_iter().collect());
            characters = rest;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += characters.len();
        line.extend(characters);
    }
    if length > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}
