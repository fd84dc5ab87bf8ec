//! Times as they are shown and kept.

use jiff::Timestamp;

/// RFC 3339 in UTC, to the second.
#[must_use]
pub fn timestamp(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form() {
        let time = Timestamp::from_millisecond(1_795_442_400_123).unwrap();
        assert_eq!(timestamp(time), "2026-11-23T14:00:00Z");
    }
}
