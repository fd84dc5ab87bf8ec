//! How a flow lies in memory: a bucket of tags, an entry of one cache line, and a tail.

use super::FlowState;
#[cfg(doc)]
use super::{Count, FlowKey};
use crate::{
    shared::{Half, Word},
    tuple::Direction,
};

/// Slots in a bucket.
pub const SLOTS: u32 = 16;

/// Sixteen 16-bit tags of the flows in the bucket's entries; tag 0 means that the slot is free.
///
/// Slot `4 * w + l` has lane `l` of word `w`, lane 0 being the lowest 16 bits.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bucket {
    /// The tags, four to a word.
    pub tags: [Word; 4],
}

const _: () = assert!(size_of::<Bucket>() == 32);

/// One flow: all that its packets read and write, in one cache line.
///
/// Who may write what, and how a reader knows that an entry has not changed hands under it, is told in
/// [`super::table`].
#[derive(Debug, Default)]
#[repr(C)]
pub struct Entry {
    /// A [`Life`].
    pub life: Word,
    /// An [`Origin`].
    pub origin: Word,
    /// The last word of the [`FlowKey`]: zone, protocol and ports.
    pub ports: Word,
    /// IPv4: the local address in the high half, the remote one in the low. IPv6: a mixture of what the
    /// [`Tail`] has.
    pub addresses: Word,
    /// Bits 0–31: the tick at which the flow was opened; 32–47: the 16-bit value and 48–49: the
    /// table that the opening packet selected, which are judged again when the policy changes.
    pub opening: Word,
    /// TCP: the sequence number that follows what each direction has sent, inbound and outbound; 0 for a
    /// direction not heard yet.
    pub next_sequence: [Half; 2],
    /// A [`Count`] for each direction, inbound and outbound.
    pub counts: [Word; 2],
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is a cache line");

/// What few packets of a flow need, at its entry's place in a map of its own: lines that are not read do not
/// stand between those that are.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Tail {
    /// IPv6: the words of the [`FlowKey`] that are addresses.
    pub addresses: [Word; 4],
    /// Packets, inbound and outbound, as [`Count`] tells.
    pub packets: [Word; 2],
    /// Bytes, inbound and outbound, likewise.
    pub bytes: [Word; 2],
}

const _: () = assert!(size_of::<Tail>() == 64, "so is what goes with it");

/// Whether a slot holds a flow, which incarnation, its state, and when it was last seen.
///
/// Bits 0–31: the tick of a recent packet; 32–35: state number, 0 free, 1 being written;
/// 36: the direction that opened it; 37: an IPv6 flow; 48–63: version, one more for each flow that the slot
/// held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub u64);

impl Life {
    const BUSY: u64 = 1;
    /// Marks the flows whose addresses are in their [`Tail`].
    pub const IPV6: u64 = 1 << 37;

    /// A live IPv4 flow in a slot of this version.
    #[inline(always)]
    #[must_use]
    pub const fn new(version: u16, state: FlowState, opener: Direction, seen: u32) -> Self {
        Self((version as u64) << 48 | (opener as u64) << 36 | (state as u64) << 32 | seen as u64)
    }

    /// The same flow, of IPv6 where `family` is [`Self::IPV6`] and not 0.
    #[inline(always)]
    #[must_use]
    pub const fn of_family(self, family: u64) -> Self {
        Self(self.0 | family)
    }

    /// [`Self::IPV6`], or 0.
    #[inline(always)]
    #[must_use]
    pub const fn family(self) -> u64 {
        self.0 & Self::IPV6
    }

    /// The slot while its next flow is being written.
    #[inline(always)]
    #[must_use]
    pub const fn busy_after(self) -> Self {
        Self((self.version().wrapping_add(1) as u64) << 48 | Self::BUSY << 32)
    }

    /// The slot once its flow is gone.
    #[inline(always)]
    #[must_use]
    pub const fn freed(self) -> Self {
        Self((self.version() as u64) << 48)
    }

    /// How many flows the slot has held, modulo 2^16.
    #[inline(always)]
    #[must_use]
    pub const fn version(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The state, or `None` for a slot that is free or being written.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> Option<FlowState> {
        FlowState::from_number((self.0 >> 32) as u8 & 0xf)
    }

    /// Whether the slot is being written.
    #[inline(always)]
    #[must_use]
    pub const fn is_busy(self) -> bool {
        self.0 >> 32 & 0xf == Self::BUSY
    }

    /// The direction that opened the flow.
    #[inline(always)]
    #[must_use]
    pub const fn opener(self) -> Direction {
        if self.0 >> 36 & 1 == 0 { Direction::Inbound } else { Direction::Outbound }
    }

    /// The tick of a recent packet.
    #[inline(always)]
    #[must_use]
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// The same flow in another state, seen at another tick.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, state: FlowState, seen: u32) -> Self {
        Self(self.0 & 0xffff_fff0_0000_0000 | (state as u64) << 32 | seen as u64)
    }

    /// Whether the flow has been idle for longer than its timeout. Ticks wrap.
    #[inline(always)]
    #[must_use]
    pub const fn is_expired(self, state: FlowState, now: u32, timeouts: &[u32; 8]) -> bool {
        let idle = now.wrapping_sub(self.seen());
        // Another CPU may have seen it a tick later than this one's clock: that is not idleness.
        idle > timeouts[state.timeout() as usize] && idle < u32::MAX - 64
    }
}

/// Which rule of which generation admitted a flow.
///
/// Bits 0–27: rule number, all ones for none; 28–51: generation; 52–63: the low bits of the slot's
/// version, so that a write meant for one flow never lands on the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub u64);

impl Origin {
    /// The rule number that stands for no rule.
    pub const NO_RULE: u32 = (1 << 28) - 1;

    /// A flow admitted by `rule` under `generation` in a slot of this version.
    #[inline(always)]
    #[must_use]
    pub const fn new(version: u16, generation: u64, rule: u32) -> Self {
        Self(
            (version as u64 & 0xfff) << 52 | (generation & 0x00ff_ffff) << 28 | (rule & Self::NO_RULE) as u64,
        )
    }

    /// Whether this belongs to the incarnation that `life` tells of.
    #[inline(always)]
    #[must_use]
    pub const fn belongs_to(self, life: Life) -> bool {
        self.0 >> 52 == life.version() as u64 & 0xfff
    }

    /// The low 24 bits of the generation.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 28) as u32 & 0x00ff_ffff
    }

    /// The rule number, or [`Origin::NO_RULE`].
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u32 {
        self.0 as u32 & Self::NO_RULE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_gives_back_what_it_was_made_of() {
        let life = Life::new(0xfffe, FlowState::Revoked, Direction::Outbound, 77);
        assert_eq!((life.version(), life.seen()), (0xfffe, 77));
        assert_eq!((life.state(), life.opener()), (Some(FlowState::Revoked), Direction::Outbound));
        let next = life.with(FlowState::Closing, 78);
        assert_eq!((next.version(), next.seen()), (0xfffe, 78));
        assert_eq!((next.state(), next.opener()), (Some(FlowState::Closing), Direction::Outbound));
        let busy = life.busy_after();
        assert_eq!((busy.version(), busy.state(), busy.is_busy()), (0xffff, None, true));
        assert_eq!((busy.busy_after().version(), busy.freed().version()), (0, 0xffff));
        assert_eq!((busy.0, busy.freed().0), (0xffff << 48 | 1 << 32, 0xffff << 48));
        assert_eq!(life.0, 0xfffe << 48 | 1 << 36 | 13 << 32 | 77);
        assert!(!life.is_busy() && !busy.freed().is_busy());
        let wide = life.of_family(Life::IPV6);
        assert_eq!((wide.0, wide.family(), life.family()), (life.0 | 1 << 37, 1 << 37, 0));
        assert_eq!(life.of_family(0), life);
        assert_eq!(wide.with(FlowState::Closing, 78), next.of_family(Life::IPV6), "it stays of its family");
        assert_eq!((wide.busy_after(), wide.freed()), (busy, life.freed()));
        let inbound = Life::new(1, FlowState::RevokedTcp, Direction::Inbound, u32::MAX);
        assert_eq!((inbound.opener(), inbound.0), (Direction::Inbound, 1 << 48 | 14 << 32 | 0xffff_ffff));
    }

    #[test]
    fn an_origin_gives_back_what_it_was_made_of() {
        let origin = Origin::new(0xabcd, 0x0112_3456, 99);
        assert_eq!((origin.generation(), origin.rule()), (0x0012_3456, 99));
        assert_eq!(origin.0, 0xbcd1_2345_6000_0063, "bits are where the layout says");
        assert_eq!(Origin::NO_RULE, 0x0fff_ffff);
        assert_eq!(Origin::new(1, 2, Origin::NO_RULE).rule(), Origin::NO_RULE);
        assert!(Origin::new(0x1bcd, 0, 0).belongs_to(Life::new(
            0xabcd,
            FlowState::Icmp,
            Direction::Inbound,
            0
        )));
        assert!(origin.belongs_to(Life::new(0xabcd, FlowState::Icmp, Direction::Inbound, 0)));
        assert!(!origin.belongs_to(Life::new(0xabce, FlowState::Icmp, Direction::Inbound, 0)));
    }

    #[test]
    fn expiry_survives_the_wrap_of_the_clock() {
        let timeouts = [100; 8];
        for (seen, now, expired) in [
            (0, 100, false),
            (0, 101, true),
            (u32::MAX - 10, 80, false),
            (u32::MAX - 10, 90, true),
            (50, 49, false),
            (100, 35, false),
            (100, 34, true),
        ] {
            let life = Life::new(0, FlowState::Icmp, Direction::Inbound, seen);
            assert_eq!(life.is_expired(FlowState::Icmp, now, &timeouts), expired, "{seen} {now}");
        }
    }
}
