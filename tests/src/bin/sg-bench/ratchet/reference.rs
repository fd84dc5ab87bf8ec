//! Programs that never change, to measure others by: what a processor, a kernel and its neighbours make of
//! them, they make of the shipped ones too.
//!
//! They do what judging a packet does: they read the source address, hash it, look an element of an array
//! up by the hash, and go on with what they found there. One finds all in the nearest cache, as a policy of
//! a few prefixes is; the other waits for memory that is farther away, as many flows are.

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

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// 16 KiB, 32 look-ups.
    Near,
    /// 8 MiB, six look-ups.
    Far,
}

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

impl Reference {
    /// Loads it. A round has `repeat` packets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn new(reach: Reach, repeat: u32) -> Result<Self> {
        let (elements, steps) = match reach {
            Reach::Near => (1 << 8, 32),
            Reach::Far => (1 << 17, 6),
        };
        let table = Map::array(elements, ELEMENT)?;
        let program = Program::load(Kind::Xdp, &code(&table, elements - 1, steps))?;
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

fn code(table: &Map, mask: u32, steps: usize) -> Vec<u8> {
    use Operation::{Add, And, ExclusiveOr, Move, Multiply, ShiftRight};
    let mut code = Code::default();
    code.load(Width::Word, 6, 1, 0).load(Width::Word, 7, 1, 4);
    code.copy(2, 6).advance(2, 34).end_if_greater(2, 7);
    code.load(Width::Word, 6, 6, 26);
    for _ in 0..steps {
        code.number(Multiply, 6, 0x85eb_ca6b_u32.cast_signed());
        code.register(Move, 2, 6).number(ShiftRight, 2, 15).register(ExclusiveOr, 6, 2);
        code.register(Move, 2, 6).number(And, 2, mask.cast_signed()).store(Width::Word, 10, -4, 2);
        code.map(1, table.as_fd()).copy(2, 10).advance(2, -4).call(LOOK_UP).end_if_null(0);
        // What is found is always zero, which nobody but us knows: the next step waits for it.
        code.load(Width::Word, 2, 0, 0).register(Add, 6, 2);
    }
    code.ending(PASS)
}
