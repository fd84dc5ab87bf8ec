//! Documents as somebody may write them: by YAML's grammar, with here and there what is odd or wrong.

/// What a document is made of. The first of each are what policies have; the rest is odd.
const SCALARS: (&[&str], &[&str]) = (
    &[
        "a",
        "tcp/443",
        "10.0.0.0/8",
        "::1",
        "::/0",
        "list:l",
        "two words",
        "'q'",
        "\"r\"",
        "'a: b'",
        "\"#\"",
        "-1",
    ],
    &[
        "",
        "''",
        "\"\"",
        "::",
        ":::",
        "'it''s'",
        "\"\\n\"",
        "0o17",
        "0x1F",
        "~",
        ".inf",
        "..",
        "...",
        "a#b",
        "a,b",
        "a[b",
        "a]b",
        "a{b",
        "a}b",
        "a'b",
        "--",
        "---",
        "- a",
        "?",
        "? a",
        "!t",
        "&x 1",
        "*x",
        "|",
        "|-\n   text",
        "%Y",
        "@a",
        "<<",
        "'<<'",
        "a - b",
        "a ? b",
        "a ! b",
        "a [b",
        "a ]",
        "a 'b'",
        "a :b",
        "a :",
        "a: b",
        "a #c",
        "ä",
        "'ä'",
        "\\",
        "~ b",
        "a\u{a0}b",
        "a\n  b",
        "'a\n  b'",
        "'a' b",
        "'a':",
        "\"a\":b",
        "x:",
        "+ a",
        "/ #b",
    ],
);
const KEYS: (&[&str], &[&str]) = (
    &["a", "b", "c", "k", "'l'", "\"m\"", "n o", "p-q"],
    &[
        "", "::1", "~", "<<", "'<<'", "a:b", "- a", "? a", "[x]", "{x: y}", "'it''s'", "\"a\" ", "a#",
        "&a k", "a,b", "ä",
    ],
);
/// What stands between the parts of a flow collection.
const GAPS: (&[&str], &[&str]) = (
    &["", "", " ", "\n        ", " # n\n          ", "\n\n      "],
    &["\n", "\n ", "\n# n\n", "#x\n ", "\t", "\n--- ", "\r\n  "],
);
/// What ends a line of a block.
const ENDS: (&[&str], &[&str]) = (
    &["\n", "\n", "\n", " # ä \u{2028} [x\n", "  \n\n", "\n# at the left\n", "\n        # at the right\n"],
    &["#x\n", " \t\n", " ]\n", ",\n", " # \u{85}x: y\n", "\r\n", " 'x'\n", ":\n"],
);
/// How deep collections are nested.
const DEPTH: usize = 5;

/// The document of a number, in which one part in `odd` is.
pub(super) fn written(seed: u64, odd: usize) -> String {
    let mut writer = Writer { state: seed | 1, odd, text: String::new() };
    let begin = writer.below(8);
    writer.text.push_str(["---\n", "# c\n\n---  # d\n", "\n  # c\n"].get(begin).copied().unwrap_or_default());
    if writer.below(8) == 0 {
        writer.flow(0);
        writer.of(ENDS);
    } else {
        let column = writer.below(8).saturating_sub(5);
        writer.indent(column);
        writer.block(column, 0, false);
    }
    writer.text
}

struct Writer {
    state: u64,
    odd: usize,
    text: String,
}

impl Writer {
    /// A number below `end`, by xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn is_odd(&mut self) -> bool {
        self.below(self.odd) == 0
    }

    fn of(&mut self, (usual, odd): (&[&str], &[&str])) {
        let from = if self.is_odd() { odd } else { usual };
        let part = from[self.below(from.len())];
        self.text.push_str(part);
    }

    fn either(&mut self, usual: &str, odd: &str) {
        let part = if self.is_odd() { odd } else { usual };
        self.text.push_str(part);
    }

    fn indent(&mut self, columns: usize) {
        let columns = if self.is_odd() { self.below(columns + 3) } else { columns };
        self.text.push_str(&" ".repeat(columns));
    }

    /// A key; most have a name of their own.
    fn key(&mut self) {
        self.of(KEYS);
        if self.text.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            let number = self.below(40);
            self.text.push_str(&number.to_string());
        }
    }

    fn flow(&mut self, depth: usize) {
        let kind = if depth < DEPTH { self.below(4) } else { 0 };
        let [open, close] = match kind {
            0 | 1 => return self.of(SCALARS),
            2 => ["[", "]"],
            _ => ["{", "}"],
        };
        self.text.push_str(open);
        self.of(GAPS);
        for number in 0..self.below(4) {
            if number > 0 {
                self.text.push(',');
                self.of(GAPS);
            }
            if kind == 3 {
                self.key();
                self.either(":", "");
                self.either(" ", "");
                self.of(GAPS);
            }
            self.flow(depth + 1);
            self.of(GAPS);
        }
        self.either("", ",");
        self.either(close, "");
    }

    /// A collection in lines of its own, or of a dash; its first one is begun up to its column.
    fn block(&mut self, column: usize, depth: usize, is_beside: bool) {
        let is_sequence = is_beside || self.below(2) == 0;
        for number in 0..=self.below(4) {
            if number > 0 {
                self.indent(column);
            }
            if is_sequence {
                self.text.push('-');
            } else {
                self.key();
                self.either(":", " :");
            }
            match if depth < DEPTH { self.below(6) } else { 5 } {
                0 | 1 => {
                    self.of(ENDS);
                    let further = column + 1 + self.below(3);
                    self.indent(further);
                    self.block(further, depth + 1, false);
                }
                2 if is_sequence => {
                    let gap = 1 + self.below(3);
                    self.text.push_str(&" ".repeat(gap));
                    self.block(column + 1 + gap, depth + 1, false);
                }
                2 => {
                    self.of(ENDS);
                    self.indent(column);
                    self.block(column, depth + 1, true);
                }
                3 if !is_sequence => self.of(ENDS),
                _ => {
                    self.text.push(' ');
                    self.flow(0);
                    self.of(ENDS);
                }
            }
        }
    }
}
