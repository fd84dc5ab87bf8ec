//! `history` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Number, Text},
        Grid, Tone, plain,
    },
};
use crate::view::History;

/// Characters of a digest that tell policies apart.
const DIGEST: usize = 12;

impl Show for History {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        if self.generations.is_empty() {
            return writeln!(out, "{}", style.paint(Tone::Faint, "no policy was ever in force"));
        }
        let columns = [
            Number("GENERATION"),
            Text("APPLIED"),
            Narrow("BY", 16),
            Narrow("FOR", 24),
            Text("POLICY"),
            Number("RULES"),
        ];
        let mut grid = Grid::new(style, &columns);
        for shown in &self.generations {
            let mark = if shown.in_force { "*" } else { "" };
            grid.row([
                plain(format!("{mark}{}", shown.generation)),
                plain(shown.applied.clone()),
                plain(shown.author.clone()),
                plain(shown.cause.clone()),
                plain(shown.digest.chars().take(DIGEST).collect::<String>()),
                plain(shown.rules.to_string()),
            ]);
        }
        grid.write(out)
    }
}
