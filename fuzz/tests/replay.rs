//! Every seed and every input that once failed, without the fuzzer.
//!
//! A failure becomes a named test: its input, as small as it gets, is put into `regressions/TARGET/`
//! under a name that says what it does, and the name into the list here.
#![expect(clippy::unwrap_used, reason = "a test: what is checked in is there")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

/// A body, and where its inputs lie.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 3] = [
    ("packet", sg_fuzz::packet::run),
    ("document", sg_fuzz::document::run),
    ("differential", sg_fuzz::differential::run),
];

/// A test for each input of `regressions/`, named as its file is.
macro_rules! regressions {
    ($($target:ident { $($name:ident)* })*) => {
        $(mod $target {
            $(#[test]
            fn $name() {
                super::replay(stringify!($target), stringify!($name));
            })*

            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];
        })*

        const NAMED: [(&str, &[&str]); 3] = [$((stringify!($target), $target::NAMES)),*];
    };
}

regressions! {
    packet {
        quotation_that_is_not_at_hand
        neighbour_solicitation_without_a_target
        padding_that_is_no_transport_header
    }
    document { a_name_of_a_file_with_control_characters column_past_the_end_of_a_directive }
    differential {
        an_error_about_untracked_traffic_has_no_rule
        flows_that_expired_hide_nothing
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn replay(target: &str, name: &str) {
    let (_, body) = TARGETS.into_iter().find(|(known, _)| *known == target).unwrap();
    body(&fs::read(root().join("regressions").join(target).join(name)).unwrap());
}

/// The files below a folder of a target.
fn files(folder: &str, target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root().join(folder).join(target)) else { return vec![] };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != ".gitkeep"));
    paths.sort();
    paths
}

#[test]
fn seeds_pass() {
    for (target, body) in TARGETS {
        let seeds = files("corpus", target);
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        let examples = if target == "document" { files("..", "examples") } else { vec![] };
        for path in seeds.iter().chain(&examples).filter(|path| path.is_file()) {
            let input = fs::read(path).unwrap();
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| body(&input)));
            assert!(outcome.is_ok(), "{target}: {}", path.display());
        }
    }
}

#[test]
fn every_regression_is_a_named_test() {
    for (target, names) in NAMED {
        let found: BTreeSet<_> = files("regressions", target)
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let named = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, named, "files in fuzz/regressions/{target}, and the list in this test");
    }
}
