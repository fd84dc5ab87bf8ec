//! What `from`, `to`, `members`, `entries` and `addresses` take: addresses, networks, and names of
//! them.

use sg_common::addr::{Family, InvalidPrefix, Prefix};

use super::{
    diagnostic::quote,
    draft::Named,
    report::{Mark, Report},
    spelling,
};

/// The words for whole families.
pub(super) const ANYWHERE: [&str; 3] = ["anywhere", "anywhere-ipv4", "anywhere-ipv6"];

/// Reads an item of `from` or `to`. `None`: the report says why.
pub(super) fn peer(text: &str, at: Mark, report: &mut Report) -> Option<Named> {
    match text {
        "anywhere" => return Some(Named::Anywhere),
        "anywhere-ipv4" => return Some(Named::Prefix(Prefix::any(Family::V4))),
        "anywhere-ipv6" => return Some(Named::Prefix(Prefix::any(Family::V6))),
        _ => {}
    }
    for (kind, make) in
        [("list", Named::PrefixList as fn(String) -> Named), ("group", Named::Group as fn(String) -> Named)]
    {
        let Some(name) = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':')) else { continue };
        if spelling::is_name(name) {
            return Some(make(name.to_owned()));
        }
        report.error(at, format!("{} is not a name, which `{kind}:` needs", quote(name)));
        return None;
    }
    if is_addresslike(text) {
        return prefix(text, at, report).map(Named::Prefix);
    }
    Some(Named::Unclear(text.to_owned()))
}

/// Reads an address or a network; cleared host bits are a warning. `None`: the report says why.
pub(super) fn prefix(text: &str, at: Mark, report: &mut Report) -> Option<Prefix> {
    match Prefix::parse(text) {
        Ok((prefix, false)) => Some(prefix),
        Ok((prefix, true)) => {
            let message = format!("{} has host bits set; it means the network {prefix}", quote(text));
            report.warn_suggest(at, message, Some(prefix.to_string()));
            Some(prefix)
        }
        Err(error) => {
            let why = match error {
                InvalidPrefix::Address => "not an IPv4 or IPv6 address or CIDR".to_owned(),
                InvalidPrefix::Length { .. } | InvalidPrefix::Mapped => error.to_string(),
            };
            report.suggest(at, format!("{}: {why}", quote(text)), repaired(text, error));
            None
        }
    }
}

/// What was perhaps meant by a text that is no prefix.
fn repaired(text: &str, error: InvalidPrefix) -> Option<String> {
    match error {
        InvalidPrefix::Mapped => {
            let (address, length) = text.split_once('/').unwrap_or((text, ""));
            let bare = address.rsplit(':').next().filter(|bare| bare.contains('.'))?;
            let length = match length {
                "" => String::new(),
                length => format!("/{}", length.parse::<u8>().ok()?.checked_sub(96)?),
            };
            Some(format!("{bare}{length}"))
        }
        InvalidPrefix::Address | InvalidPrefix::Length { .. } => None,
    }
}

/// Whether a text is meant as an address, rather than as a word.
fn is_addresslike(text: &str) -> bool {
    let part = text.split('/').next().unwrap_or_default();
    let v4 = part.contains('.') && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let v6 = part.contains(':') && part.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
    v4 || v6
}
