//! Packets that differ, made in the kernel: a program writes another source address into a frame, with
//! the checksums that belong to it, and then sends the frame or has another program judge it.
//!
//! Test-run shows a program the same packet again and again, which flatters every cache; and a sender in
//! user space is slower than what drops its packets. What becomes of the packets is the caller's.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, BorrowedFd},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    packet::{Mac, Packet, Transport},
    syscall::{
        assembly::{Code, Operation, Register, Width},
        handmade::{Kind, Map, Program},
        mapping::Mapping,
    },
};

/// Which sources the packets have, in the order of their numbers. The address of packet `n` is `first +
/// (scattered(n) & span) * factor`, with the bits of `always` set; IPv6 has this in its last four octets,
/// and a product of it, with the bits of `always` set, as its second and third group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// How many differ, less one: of the form 2^n - 1.
    pub span: u32,
    /// How far they are apart; odd, lest some be the same.
    pub factor: u32,
    /// Where they begin.
    pub first: u32,
    /// What all have in common.
    pub always: u32,
}

/// The odd numbers that scatter: an order that no prefetcher follows.
const SCATTER: u32 = 0x9e37_79b1;
const GROUPS: u32 = 0xc2b2_ae35;

impl Sources {
    /// As many sources as flows, side by side.
    #[must_use]
    pub const fn flows(count: u32) -> Self {
        Self { span: count - 1, factor: 1, first: 0x0a00_0000, always: 0 }
    }

    /// Sources from 32.0.0.0/3 whose networks of /24 have an odd number, or of any second and third
    /// group with an odd third: between networks that [`Self::network`] gives.
    #[must_use]
    pub const fn between_networks(is_v6: bool) -> Self {
        let always = if is_v6 { 1 } else { 0x100 };
        Self { span: 0x1fff_ffff, factor: 1, first: 0x2000_0000, always }
    }

    /// One of so many networks between which the others lie: four octets of a /24, or the second and
    /// third group of a /48.
    #[must_use]
    pub fn network(random: u32, is_v6: bool) -> u32 {
        if is_v6 { random & !1 } else { 0x2000_0000 | (random & 0x1fff_fe00) }
    }
}

/// What happens to a packet that was made.
enum Then<'a> {
    Answer(i32),
    Call(&'a Map),
}

/// A frame, and the program that changes it.
#[derive(Debug)]
pub struct Generator {
    program: Program,
    frame: Vec<u8>,
    parameters: Mapping,
    sums: u64,
    sends: bool,
    _called: Option<Map>,
    _map: Map,
}

/// `XDP_TX`: back to where it came from.
const BACK: i32 = 3;

impl Generator {
    /// Sends packets like `packet` from one interface to the other: see [`Self::send`].
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn sender(packet: &Packet, from: Mac, to: Mac) -> Result<Self> {
        Self::new(packet, from, to, Kind::XdpOneBuffer, None)
    }

    /// Has `judge` judge packets like `packet`: see [`Self::judge`].
    ///
    /// # Errors
    /// The kernel refuses the program, or `judge` is of another kind.
    pub fn caller(packet: &Packet, kind: Kind, judge: BorrowedFd<'_>) -> Result<Self> {
        Self::new(packet, Mac::local(1), Mac::local(2), kind, Some(judge))
    }

    fn new(packet: &Packet, from: Mac, to: Mac, kind: Kind, judge: Option<BorrowedFd<'_>>) -> Result<Self> {
        let mut packet = packet.clone();
        match &mut packet.ip {
            crate::packet::Ip::V4(header) => header.source = [0, 0, 0, 0].into(),
            crate::packet::Ip::V6(header) => header.source = "2001::".parse()?,
        }
        let frame = packet.frame(from, to).bytes();
        let is_v6 = matches!(packet.ip, crate::packet::Ip::V6(_));
        let sum_at = match packet.transport {
            Transport::Tcp(_) => 16,
            Transport::Udp(_) => 6,
            Transport::Icmp(_) | Transport::Other(..) => anyhow::bail!("only TCP and UDP are generated"),
        };
        let sum_at = if is_v6 { 14 + 40 + sum_at } else { 14 + 20 + sum_at };
        let map = Map::array(1, PARAMETER_WORDS as u32 * 8).context("parameters")?;
        let parameters = Mapping::open(map.as_fd(), PARAMETER_WORDS)?;
        let sum = |at: usize| u64::from(!u16::from_le_bytes([frame[at], frame[at + 1]]));
        let sums = sum(24) | sum(sum_at) << 32;
        let called = judge.map(|_| Map::of_program()).transpose()?;
        let then = called.as_ref().map_or(Then::Answer(BACK), Then::Call);
        let code = code(kind, is_v6, i16::try_from(sum_at)?, &map, &then);
        let program = Program::load(kind, &code).context("the generator")?;
        if let (Some(called), Some(judge)) = (&called, judge) {
            called.set_program(judge).context("the program to be called")?;
        }
        Ok(Self { program, frame, parameters, sums, sends: called.is_none(), _called: called, _map: map })
    }

    /// From here on packets have these sources, from number `start` on.
    pub fn choose(&self, sources: Sources, start: u32) {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let Sources { span, factor, first, always } = sources;
        let words = [pair(start, span), pair(factor, first), u64::from(always), self.sums];
        for (word, value) in self.parameters.words().iter().zip(words) {
            word.store(value);
        }
    }

    /// Sends so many packets from an interface of the calling thread's network namespace to its peer.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn send(&self, count: u32, interface: u32) -> Result<()> {
        ensure!(self.sends, "what calls another program does not send");
        self.program.run_live(&self.frame, count, interface).context("send from within the kernel")
    }

    /// Has so many packets judged. Gives the last answer, and the mean time of one in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn judge(&self, count: u32) -> Result<(u32, f64)> {
        let (answer, mean) = self.program.run(&self.frame, count)?;
        Ok((answer, mean.as_nanos() as f64))
    }

    /// The source address of packet `number`, as the program makes it.
    #[must_use]
    pub fn source(sources: Sources, number: u32, is_v6: bool) -> IpAddr {
        let Sources { span, factor, first, always } = sources;
        let low = first.wrapping_add((number.wrapping_mul(SCATTER) & span).wrapping_mul(factor));
        if is_v6 {
            let groups = low.wrapping_mul(GROUPS) | always;
            let half = |word: u32| ((word >> 16) as u16, word as u16);
            let ((b, c), (g, h)) = (half(groups), half(low));
            return std::net::Ipv6Addr::new(0x2001, b, c, 0, 0, 0, g, h).into();
        }
        std::net::Ipv4Addr::from_bits(low | always).into()
    }
}

/// [`Sources`] and where the program is, as it reads them; then the sums of the checksums' other parts.
const PARAMETER_WORDS: usize = 4;
const COUNT: i16 = 0;
const SPAN: i16 = 4;
const FACTOR: i16 = 8;
const FIRST: i16 = 12;
const ALWAYS: i16 = 16;
const NETWORK_SUM: i16 = 24;
const TRANSPORT_SUM: i16 = 28;

// What registers hold throughout.
const DATA: Register = 6;
const END: Register = 7;
const VALUE: Register = 8;
const CONTEXT: Register = 9;

/// `bpf_tail_call`.
const TAIL_CALL: i32 = 12;

fn code(kind: Kind, is_v6: bool, sum_at: i16, parameters: &Map, then: &Then<'_>) -> Vec<u8> {
    use Operation::{Add, And, Move, Multiply, Or};
    use Width::Word;
    // The places of `data` and `data_end` in `struct xdp_md` and `struct __sk_buff`.
    let (data, end) = if kind == Kind::Tc { (76, 80) } else { (0, 4) };
    let mut code = Code::default();
    code.copy(CONTEXT, 1).load(Word, DATA, 1, data).load(Word, END, 1, end);
    code.copy(2, DATA).advance(2, i32::from(sum_at) + 2).end_if_greater(2, END);
    code.value_of(VALUE, parameters.as_fd());
    code.load(Word, 3, VALUE, COUNT).number(Add, 3, 1).store(Word, VALUE, COUNT, 3);
    code.number(Multiply, 3, SCATTER.cast_signed());
    for (operation, parameter) in [(And, SPAN), (Multiply, FACTOR), (Add, FIRST)] {
        code.load(Word, 2, VALUE, parameter).register(operation, 3, 2);
    }
    code.load(Word, 2, VALUE, ALWAYS);
    // Register 4 sums up the octets that change: sums are the same in either order of octets.
    if is_v6 {
        code.register(Move, 5, 3).number(Multiply, 5, GROUPS.cast_signed()).register(Or, 5, 2);
        code.to_network_order(3).store(Word, DATA, 34, 3);
        code.to_network_order(5).store(Word, DATA, 24, 5);
        add_halves(&mut code, 4, 3);
        add_halves(&mut code, 0, 5);
        code.register(Add, 4, 0);
    } else {
        code.register(Or, 3, 2).to_network_order(3).store(Word, DATA, 26, 3);
        add_halves(&mut code, 4, 3);
        write_checksum(&mut code, NETWORK_SUM, 24);
    }
    write_checksum(&mut code, TRANSPORT_SUM, sum_at);
    match then {
        Then::Answer(answer) => code.number(Move, 0, *answer).exit(),
        Then::Call(map) => code.copy(1, CONTEXT).map(2, map.as_fd()).number(Move, 3, 0).call(TAIL_CALL),
    };
    code.ending(0)
}

/// The sum of both halves of `from`, which is gone afterwards.
fn add_halves(code: &mut Code, to: Register, from: Register) {
    code.register(Operation::Move, to, from).number(Operation::And, to, 0xffff);
    code.number(Operation::ShiftRight, from, 16).register(Operation::Add, to, from);
}

/// Writes the checksum of what changed, in register 4, and of what did not.
fn write_checksum(code: &mut Code, rest: i16, at: i16) {
    code.load(Width::Word, 5, VALUE, rest).register(Operation::Add, 5, 4);
    for _ in 0..2 {
        code.register(Operation::Move, 2, 5).number(Operation::ShiftRight, 2, 16);
        code.number(Operation::And, 5, 0xffff).register(Operation::Add, 5, 2);
    }
    code.number(Operation::ExclusiveOr, 5, 0xffff).store(Width::Half, DATA, at, 5);
}
