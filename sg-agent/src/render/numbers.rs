//! Numbers as people read them: exact where they are counts, short where they are sizes.

/// A count with its digits in threes: `1 234 567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A count of things: `1 group`, `1 204 prefixes`. A word that ends in x takes `es`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(number))
}

/// A size in bytes: `17 B`, `1.5 KiB`, `320 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = number as f64;
    let mut unit = None;
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(next);
    }
    match unit {
        None => format!("{number} B"),
        Some(unit) if value < 10.0 => format!("{value:.1} {unit}"),
        Some(unit) => format!("{value:.0} {unit}"),
    }
}

/// A share of a whole: `12 of 4 096 (0.3 %)`.
pub(super) fn share(used: u64, capacity: u64) -> String {
    let percent = if capacity == 0 { 0.0 } else { used as f64 / capacity as f64 * 100.0 };
    format!("{} of {} ({percent:.1} %)", count(used), count(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (80 << 10, "80 KiB"), (320 << 20, "320 MiB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!((counted(1, "group"), counted(2, "group")), ("1 group".to_owned(), "2 groups".to_owned()));
        assert_eq!(counted(1204, "prefix"), "1 204 prefixes");
        assert_eq!(share(12, 4096), "12 of 4 096 (0.3 %)");
        assert_eq!(share(0, 0), "0 of 0 (0.0 %)");
    }
}
