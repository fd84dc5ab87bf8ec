//! `history` for people.

use std::io::{self, Write};

use super::{
    Show, Style,
    grid::{
        Column::{Narrow, Number, Text},
        Grid, Tone, plain,
    },
};
use crate::view::{History, UnlockUse};

/// Characters of a digest that tell policies apart.
const DIGEST: usize = 12;

impl Show for History {
    fn show(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        if self.generations.is_empty() {
            writeln!(out, "{}", style.paint(Tone::Faint, "no policy was ever in force"))?;
            return unlocks(&self.unlocks, out, style);
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
        grid.write(out)?;
        unlocks(&self.unlocks, out, style)
    }
}

/// The uses of `unlock`, where there are any.
fn unlocks(uses: &[UnlockUse], out: &mut dyn Write, style: Style) -> io::Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut grid = Grid::new(style, &[Text("UNLOCKED"), Narrow("BY", 16), Text("WHAT")]);
    for one in uses {
        let what = match (&one.service, &one.address) {
            (Some(service), Some(address)) => {
                let interface = one.interface.as_deref().unwrap_or("every interface");
                let seconds = one.seconds.unwrap_or_default();
                format!("{service} for {address} on {interface}, for {seconds} s")
            }
            _ if one.what == "all" => "ended all enforcement".to_owned(),
            _ => "closed what was unlocked".to_owned(),
        };
        grid.row([plain(one.time.clone()), plain(one.author.clone()), plain(what)]);
    }
    grid.write(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Format, write};

    #[test]
    fn unlocks_follow_the_generations() {
        let of = |what: &str, service: Option<&str>| UnlockUse {
            time: "2026-11-23T14:00:00Z".to_owned(),
            author: "root".to_owned(),
            what: what.to_owned(),
            service: service.map(str::to_owned),
            address: service.map(|_| "192.0.2.1".to_owned()),
            interface: None,
            seconds: service.map(|_| 600),
        };
        let unlocks = vec![of("all", None), of("end", None), of("unlock", Some("tcp/22"))];
        let mut out = Vec::new();
        let view = History { generations: vec![], unlocks };
        write(&mut out, Format::Table, Style::default(), &view).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "no policy was ever in force\n\n\
                        UNLOCKED              BY    WHAT\n\
                        2026-11-23T14:00:00Z  root  ended all enforcement\n\
                        2026-11-23T14:00:00Z  root  closed what was unlocked\n\
                        2026-11-23T14:00:00Z  root  tcp/22 for 192.0.2.1 on every interface, for 600 s\n";
        assert_eq!(text, expected);
    }
}
