//! Shows views: as JSON, as YAML, or as tables for people. Writes to whatever it is given.
//!
//! JSON and YAML are the views themselves. Tables fit 100 columns; colour is the caller's choice.

use std::io::{self, Write};

use serde::Serialize;

mod applied;
mod audited;
mod check;
mod counters;
mod drops;
mod explain;
mod flows;
mod grid;
mod history;
mod metrics;
mod numbers;
mod plan;
mod status;
mod unlock;

pub use grid::Style;
pub use metrics::{CONTENT_TYPE, metrics};

/// The forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
    /// For scripts and people.
    Yaml,
}

/// A view that people can read.
pub trait Show: Serialize {
    /// Writes it for people.
    ///
    /// # Errors
    ///
    /// When the writer fails.
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()>;
}

/// Writes `view` in `format`, and a line end.
///
/// # Errors
///
/// When the writer fails.
pub fn write<V: Show>(out: &mut dyn Write, format: Format, style: Style, view: &V) -> io::Result<()> {
    match format {
        Format::Table => view.show(out, style),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, view)?;
            writeln!(out)
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(view).map_err(io::Error::other)?;
            writeln!(out, "{}", text.trim_end())
        }
    }
}

/// Writes `view` as one of many: JSON on a line, YAML as a document.
///
/// # Errors
///
/// When the writer fails.
pub fn write_next<V: Show>(out: &mut dyn Write, format: Format, style: Style, view: &V) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, view)?;
            writeln!(out)
        }
        Format::Yaml => {
            writeln!(out, "---")?;
            write(out, format, style, view)
        }
        Format::Table => write(out, format, style, view),
    }
}

#[cfg(test)]
mod tests;
