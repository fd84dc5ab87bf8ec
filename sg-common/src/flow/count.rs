//! How much a direction of a flow has sent: a word in the entry that turns over, and long sums in the tail
//! that are brought up to date before it does.

/// Packets and bytes of one direction.
///
/// Bits 0–39: bytes, modulo 2^40; 40–62: packets, modulo 2^23; 63: the tail has sums. Without sums the
/// numbers are whole. The sums are what the numbers were some time ago, and less than half a turn behind or, where several CPUs
/// store at once, ahead: the whole number is the one nearest to the sum that ends in the word's. So it does not matter
/// how often, or by whom, a sum is brought up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u64);

impl Count {
    const BYTES: u32 = 40;
    const PACKETS: u32 = 23;
    const SUMS: u64 = 1 << 63;
    const ALL_BYTES: u64 = (1 << Self::BYTES) - 1;
    const ALL_PACKETS: u64 = (1 << Self::PACKETS) - 1;
    /// A half of a turn is two of these steps.
    const STEPS: u64 = 1 << (Self::BYTES - 2) | 1 << (Self::BYTES + Self::PACKETS - 2);

    /// After one packet more, of fewer than 2^38 `bytes`.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add((1 << Self::BYTES) | bytes))
    }

    /// Whether the sums must be brought up to date between this and `next`, which then is not what [`Self::after`]
    /// gives but [`Self::turned`]. Otherwise nothing has turned over.
    #[inline(always)]
    #[must_use]
    pub const fn is_due(self, next: Self) -> bool {
        (self.0 ^ next.0) & Self::STEPS != 0
    }

    /// After one packet more, of fewer than 2^38 `bytes`, when the sums are brought up to date.
    #[inline(always)]
    #[must_use]
    pub const fn turned(self, bytes: u64) -> Self {
        let total = (self.bytes() + bytes) & Self::ALL_BYTES;
        let packets = (self.packets() + 1) & Self::ALL_PACKETS;
        Self(Self::SUMS | packets << Self::BYTES | total)
    }

    /// Whether the tail has sums. They are 0 where it has none.
    #[inline(always)]
    #[must_use]
    pub const fn has_sums(self) -> bool {
        self.0 & Self::SUMS != 0
    }

    /// The whole number of packets, by their sum.
    #[inline(always)]
    #[must_use]
    pub const fn whole_packets(self, sum: u64) -> u64 {
        nearest(sum, self.packets(), Self::PACKETS)
    }

    /// The whole number of bytes, by their sum.
    #[inline(always)]
    #[must_use]
    pub const fn whole_bytes(self, sum: u64) -> u64 {
        nearest(sum, self.bytes(), Self::BYTES)
    }

    const fn packets(self) -> u64 {
        (self.0 & !Self::SUMS) >> Self::BYTES
    }

    const fn bytes(self) -> u64 {
        self.0 & Self::ALL_BYTES
    }
}

/// The number nearest to `sum` that ends in these `bits` bits.
const fn nearest(sum: u64, low: u64, bits: u32) -> u64 {
    let distance = (low.wrapping_sub(sum) << (64 - bits)) as i64 >> (64 - bits);
    sum.wrapping_add(distance as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_packets_and_bytes_where_the_layout_says() {
        let count = Count(0).after(60).after(1_500);
        assert_eq!(count.0, 2 << 40 | 1_560);
        assert_eq!((count.whole_packets(0), count.whole_bytes(0), count.has_sums()), (2, 1_560, false));
        assert_eq!(count.turned(40).0, 1 << 63 | 3 << 40 | 1_600);
    }

    #[test]
    fn a_number_is_the_nearest_that_ends_in_the_low_one() {
        for (sum, low, expected) in [
            (0, 5, 5),
            (256, 5, 261),
            (250, 5, 261),
            (261, 250, 250),
            (1 << 40, 127, (1 << 40) + 127),
            (1 << 40, 128, (1 << 40) - 128),
            (1000, 1000 & 0xff, 1000),
        ] {
            assert_eq!(nearest(sum, low, 8), expected, "{sum} {low}");
        }
    }

    /// What a table does with it: the word, and the sums of packets and bytes.
    #[derive(Default)]
    struct Kept(Count, u64, u64);

    impl Kept {
        /// `false`: the sums were left.
        fn add(&mut self, bytes: u64) -> bool {
            let next = self.0.after(bytes);
            if !self.0.is_due(next) {
                self.0 = next;
                return false;
            }
            let next = self.0.turned(bytes);
            let (packets, total) = if self.0.has_sums() { (self.1, self.2) } else { (0, 0) };
            *self = Self(next, next.whole_packets(packets), next.whole_bytes(total));
            true
        }

        fn whole(&self) -> (u64, u64) {
            (self.0.whole_packets(self.1), self.0.whole_bytes(self.2))
        }
    }

    #[test]
    fn nothing_is_lost_when_a_number_turns_over() {
        // By the longer ones, the bytes turn over some sixteen thousand times.
        for (bytes, turns) in [(60, 4), ((1 << 31) + 12_345, 65_536)] {
            // What an earlier flow of the slot left in the tail does not matter.
            let mut kept = Kept(Count(0), 0, 0);
            let (mut packets, mut carried) = (0_u64, 0);
            while packets < (1 << 23) + 100 {
                carried += u64::from(kept.add(bytes));
                packets += 1;
                if packets.trailing_zeros() >= 10 || packets % (1 << 21) < 3 {
                    assert_eq!(kept.whole(), (packets, packets * bytes), "{bytes} bytes each");
                }
            }
            assert!((turns..turns + 8).contains(&carried), "{carried} times");
        }
    }

    #[test]
    fn what_another_flow_left_in_the_tail_is_no_sum() {
        let mut kept = Kept(Count(1 << 61 | 7), 0xdead_beef_dead_beef, 0xdead_beef_dead_beef);
        kept.0 = Count(((1 << 61) - (1 << 40)) | 7);
        assert!(kept.add(60));
        assert_eq!(kept.whole(), (1 << 21, 67));
    }

    #[test]
    fn sums_that_two_cpus_bring_up_to_date_at_once_count_nothing_twice() {
        let before = Count(((1 << 61) - (1 << 40)) | 7);
        // Both have read the same word; the second stores last.
        let mut kept = Kept(before, 0, 0);
        assert!(kept.add(60));
        kept.0 = before;
        assert!(kept.add(60));
        assert_eq!(kept.whole(), (1 << 21, 67));
        // One falls back behind the turn, and it is passed again.
        kept.0 = before.turned(0);
        kept.0 = Count(kept.0.0 - (5 << 40));
        assert_eq!(kept.whole().0, (1 << 21) - 5);
        for _ in 0..10 {
            kept.add(1);
        }
        assert_eq!(kept.whole().0, (1 << 21) + 5);
    }
}
