//! A program that never changes, to measure others by: what a processor, a kernel and its neighbours make of
//! it, they make of the shipped ones too.
//!
//! It does what judging a packet does: it reads the source address, hashes it, looks an element of an array
//! up by the hash, and goes on with what it found there. All of it is in the nearest cache: how long memory
//! takes depends on the neighbours more than on any program, and is no matter for a ratchet.

use std::os::fd::AsFd as _;

use anyhow::Result;
use sg_tests::{
    generator::{Generator, Sources},
    packet::{Packet, Tcp},
    syscall::{
        assembly::{Code, Operation, Width},
        handmade::{Kind, Map, Program},
    },
};

/// A reference, and an empty program beside it.
pub(crate) struct Reference {
    /// What calls the empty program, and what calls the other.
    generators: [Generator; 2],
    repeat: u32,
    _table: Map,
}

/// `XDP_PASS`.
const PASS: i32 = 2;
/// `bpf_map_lookup_elem`, which the kernel writes out for arrays.
const LOOK_UP: i32 = 1;
/// As many octets as a cache line has.
const ELEMENT: u32 = 64;
/// 16 KiB of them.
const ELEMENTS: u32 = 1 << 8;
/// Look-ups for each packet.
const STEPS: usize = 32;

impl Reference {
    /// Loads it. A round has `repeat` packets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn new(repeat: u32) -> Result<Self> {
        let table = Map::array(ELEMENTS, ELEMENT)?;
        let program = Program::load(Kind::Xdp, &code(&table))?;
        let empty = Program::load(Kind::Xdp, &Code::default().ending(PASS))?;
        let address = "192.0.2.10".parse()?;
        let packet = Packet::new(address, address, Tcp::new(40_000, 443, Tcp::SYN));
        let caller = |judge| Generator::caller(&packet, Kind::Xdp, judge);
        let generators = [caller(empty.as_fd())?, caller(program.as_fd())?];
        Ok(Self { generators, repeat, _table: table })
    }

    /// The mean time of a packet without and with it, in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn round(&self) -> Result<[f64; 2]> {
        let mut times = [0.0; 2];
        for (time, generator) in times.iter_mut().zip(&self.generators) {
            generator.choose(Sources::between_networks(false), 0);
            *time = generator.judge(self.repeat)?.1;
        }
        Ok(times)
    }
}

fn code(table: &Map) -> Vec<u8> {
    use Operation::{Add, And, ExclusiveOr, Move, Multiply, ShiftRight};
    let mut code = Code::default();
    code.load(Width::Word, 6, 1, 0).load(Width::Word, 7, 1, 4);
    code.copy(2, 6).advance(2, 34).end_if_greater(2, 7);
    code.load(Width::Word, 6, 6, 26);
    for _ in 0..STEPS {
        code.number(Multiply, 6, 0x85eb_ca6b_u32.cast_signed());
        code.register(Move, 2, 6).number(ShiftRight, 2, 15).register(ExclusiveOr, 6, 2);
        code.register(Move, 2, 6).number(And, 2, (ELEMENTS - 1).cast_signed()).store(Width::Word, 10, -4, 2);
        code.map(1, table.as_fd()).copy(2, 10).advance(2, -4).call(LOOK_UP).end_if_null(0);
        // What is found is always zero, which nobody but us knows: the next step waits for it.
        code.load(Width::Word, 2, 0, 0).register(Add, 6, 2);
    }
    code.ending(PASS)
}
