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
        except: &["sg-agent/src/document/load"],
        names: &["std::fs", "std::env", "fs"],
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
        for (line, text) in source.lines() {
            for name in rule.names.iter().filter(|name| names(text, name)) {
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

/// Whether `text` uses the path `name`: `name::`, or `use name`, not as a part of a longer one.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + name.len()..]);
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let imported = before.trim_end().ends_with("use") || before.trim_end().ends_with("crate");
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        begins && (after.starts_with("::") || (imported && ends))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_by_use_and_in_full_but_not_as_a_part() {
        for text in
            ["use aya::maps::Array;", "let map = aya::maps::Array::new();", "use aya;", "extern crate aya;"]
        {
            assert!(names(text, "aya"), "{text}");
        }
        for text in ["use aya_obj::btf;", "use malaya::x;", "let aya = 1;", "use crate::aya::x;", "aya.run()"]
        {
            assert!(!names(text, "aya"), "{text}");
        }
        assert!(names("use std::fs;", "std::fs"));
        assert!(!names("use std::fsync::x;", "std::fs"));
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
            ("sg-agent/src/document/load.rs", "use std::fs;", 0),
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
            Source::new("sg-common/src/addr.rs", "fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n");
        assert_eq!(forbidden(&source), []);
    }
}
