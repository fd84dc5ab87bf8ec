//! The nearest right spelling of a word that is none.

/// Longer words than any name are not compared.
const LONGEST: usize = 63;

/// The candidate that differs least from `word`, if it is near enough to be what was meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    // A third of the letters may be wrong, and one in any word of two or more.
    let allowed = (length / 3).max(usize::from(length > 1));
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
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
            ("memebrs", Some("members")),
            ("egress", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
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
