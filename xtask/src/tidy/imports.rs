//! Who may know whom: the middle of the agent knows neither the kernel nor the outside.

use crate::tidy::source::Source;
use crate::tidy::{Finding, Severity};

/// What some modules must not name.
struct Rule {
    /// Modules: `x.rs` and all under `x/`.
    modules: &'static [&'static str],
    /// Files of these modules that may.
    except: &'static [&'static str],
    /// Paths that must not be named.
    names: &'static [&'static str],
    /// Why, for the message.
    reason: &'static str,
}

const RULES: [Rule; 5] = [
    Rule {
        modules: &[
            "sg-agent/src/document",
            "sg-agent/src/policy",
            "sg-agent/src/compile",
            "sg-agent/src/image",
        ],
        except: &[],
        names: &[
            "aya",
            "tokio",
            "clap",
            "axum",
            "rtnetlink",
            "tracing",
            "std::os::unix::net",
            "std::time",
            "std::process",
        ],
        reason: "a policy is compiled without kernel, sockets, clocks and logs",
    },
    Rule {
        modules: &[
            "sg-agent/src/document",
            "sg-agent/src/policy",
            "sg-agent/src/compile",
            "sg-agent/src/image",
        ],
        except: &["sg-agent/src/document/files"],
        names: &["std::fs", "std::env"],
        reason: "only the document's loader reads files",
    },
    Rule {
        modules: &["sg-agent/src/policy", "sg-agent/src/compile", "sg-agent/src/image"],
        except: &[],
        names: &["serde", "serde_json", "serde_saphyr", "crate::document"],
        reason: "a validated policy does not know how it was written",
    },
    Rule {
        modules: &["sg-agent/src/kernel"],
        except: &[],
        names: &["crate::policy", "crate::document", "crate::compile", "clap", "axum"],
        reason: "the kernel side sees images, never policies",
    },
    Rule {
        modules: &["sg-common/src", "sg-ebpf/src"],
        except: &[],
        names: &["std", "alloc"],
        reason: "it also runs in the kernel",
    },
];

/// Every line that names what its module must not.
pub(crate) fn forbidden(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.covers(&source.path)) {
        for (line, path) in paths(source) {
            for name in rule.names.iter().filter(|name| is_under(&path, name)) {
                let what = format!("names `{name}`: {}", rule.reason);
                findings.push(source.finding(Severity::Error, line, what));
            }
        }
    }
    findings
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        let within = |modules: &[&str]| modules.iter().any(|module| is_in(path, module));
        within(self.modules) && !within(self.except)
    }
}

fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn is_under(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that the file names, imports in full, with its line: that of the statement's end for
/// an import.
fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut import: Option<String> = None;
    for (line, text) in source.lines() {
        let statement = match import.take() {
            Some(begun) => begun + text,
            None => match after_use(text) {
                Some(rest) => rest.to_owned(),
                None => {
                    paths.extend(in_code(text).map(|path| (line, path.to_owned())));
                    continue;
                }
            },
        };
        match statement.split_once(';') {
            Some((tree, _)) => flatten("", tree, &mut |path| paths.push((line, path))),
            None => import = Some(statement),
        }
    }
    paths
}

/// What follows the keyword, if an import begins on this line.
fn after_use(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let text = match text.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or(rest, |(_, rest)| rest),
        Some(rest) => rest,
        None => text,
    };
    let text = text.trim_start();
    text.strip_prefix("use ").or_else(|| text.strip_prefix("extern crate "))
}

/// Words with `::` in them.
fn in_code(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| word.contains("::"))
}

/// Writes the tree of an import out: `a::{b, c::{d, self}}` is `a::b`, `a::c::d` and `a::c::self`.
fn flatten(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some((path, group)) = tree.split_once('{') else {
        let path = tree.split_once(" as ").map_or(tree, |(path, _)| path).trim();
        if !path.is_empty() {
            found(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", path.trim());
    let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let (mut depth, mut start) = (0_usize, 0);
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&prefix, &group[start..index], found);
                start = index + 1;
            }
            _ => {}
        }
    }
    flatten(&prefix, &group[start..], found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_written_out_and_code_is_searched() {
        let text = "pub(crate) use std::{\n    fs::{self, File}, env,\n};\nuse aya as a;\n\
                    extern crate tokio;\nlet x = std::process::id();\nlet aya = aya_obj::y;\n";
        let found: Vec<_> = paths(&Source::new("a.rs", text)).into_iter().map(|(_, path)| path).collect();
        let expected =
            ["std::fs::self", "std::fs::File", "std::env", "aya", "tokio", "std::process::id", "aya_obj::y"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_is_under_itself_and_its_parents_only() {
        assert!(is_under("aya", "aya") && is_under("aya::maps::Array", "aya"));
        assert!(!is_under("aya_obj::btf", "aya") && !is_under("crate::aya", "aya"));
    }

    #[test]
    fn rules_hold_in_a_module_and_below_it_and_spare_the_exceptions() {
        let rows = [
            ("sg-agent/src/compile.rs", "use aya::Ebpf;", 1),
            ("sg-agent/src/compile/tree.rs", "use aya::Ebpf;", 1),
            ("sg-agent/src/compiler.rs", "use aya::Ebpf;", 0),
            ("sg-agent/src/kernel/maps.rs", "use aya::Ebpf;", 0),
            ("sg-agent/src/kernel/maps.rs", "use crate::policy::Policy;", 1),
            ("sg-agent/src/document/parse.rs", "use std::fs;", 1),
            ("sg-agent/src/document/files.rs", "use std::fs;", 0),
            ("sg-agent/src/document/tests/files.rs", "use std::fs;", 0),
            ("sg-agent/src/document/schema/tests.rs", "use std::fs;", 0),
            ("sg-agent/src/policy/eval.rs", "use serde::Serialize;", 1),
            ("sg-common/src/wire/eth.rs", "use std::net::Ipv4Addr;", 1),
            ("sg-common/src/wire/eth.rs", "use core::fmt;", 0),
        ];
        for (path, text, expected) in rows {
            assert_eq!(forbidden(&Source::new(path, text)).len(), expected, "{path}: {text}");
        }
    }

    #[test]
    fn tests_may_name_anything() {
        let source =
            Source::new("sg-common/src/addr.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n");
        assert_eq!(forbidden(&source), []);
    }
}
