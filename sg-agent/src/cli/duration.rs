//! Times as they are typed.

use std::time::Duration;

use crate::control::server::CONFIRM_SECONDS;

/// A time with its unit, seconds where it has none: from a second to a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("`{unit}` is no unit of time: s, m or h")),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds));
    match seconds {
        Some(seconds) if CONFIRM_SECONDS.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("from {} s to {} s", CONFIRM_SECONDS.start(), CONFIRM_SECONDS.end())),
        None => Err("a number and a unit are expected, as in 60s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("60s", 60), ("90", 90), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0s", "s", "-1s", "1.5m", "25h", "1d", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
