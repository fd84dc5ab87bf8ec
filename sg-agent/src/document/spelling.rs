//! The nearest right spelling of a word that is none.

/// Longer words than any name are not compared.
const LONGEST: usize = 63;
/// Jaro–Winkler likeness from which words count as near although many letters differ: `entry` and
/// `entries`.
const ALIKE: f64 = 0.87;

/// The candidate that differs least from `word`, if it is near enough to be what was meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    // A third of the letters may be wrong, and one in any word of two or more; or the ending.
    let allowed = (length / 3).max(usize::from(length > 1));
    let word = word.to_lowercase();
    let mut best: Option<(usize, f64, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > allowed.max(2) {
            continue;
        }
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        let likeness = strsim::jaro_winkler(&word, &lower);
        let near = distance <= allowed || likeness >= ALIKE;
        let nearer =
            best.is_none_or(|(least, most, _)| distance < least || distance == least && likeness > most);
        if near && nearer {
            best = Some((distance, likeness, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}

/// Whether `text` is a name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
pub(super) fn is_name(text: &str) -> bool {
    let byte_fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= LONGEST
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(byte_fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["inbound", "outbound", "description", "tags", "members"];
        for (word, expected) in [
            ("inbond", Some("inbound")),
            ("Inbound", Some("inbound")),
            ("desciption", Some("description")),
            ("tag", Some("tags")),
            ("memberships", None),
            ("memebrs", Some("members")),
            ("egress", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }

    #[test]
    fn of_equally_near_words_the_one_that_looks_alike_is_found() {
        for (word, words, expected) in [
            ("htps", ["ftps", "https", "http"], "https"),
            ("entry", ["description", "entries", "file"], "entries"),
        ] {
            assert_eq!(nearest(word, words), Some(expected), "{word}");
        }
    }

    #[test]
    fn names_are_what_the_policy_says() {
        for (text, is) in [
            ("web", true),
            ("sg-0123abcd", true),
            ("0", true),
            ("a.b_c-d", true),
            ("", false),
            ("-a", false),
            (".a", false),
            ("a b", false),
            ("ä", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_name(text), is, "{text}");
        }
    }
}
