//! A program that calls another: it judges as that one does, and is none of it.
//!
//! A TCX hook has no program twice. To get to the head of one, a program that is there already is
//! stood in for until it has left its old place: no packet is unjudged meanwhile, and none is lost.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use super::{set::Loaded, syscall};

/// The name of such programs.
const NAME: &str = "sg_stand_in";

/// A program that calls another.
pub(crate) struct StandIn {
    pub(crate) program: Loaded,
    /// The kernel empties it when nobody holds it, and then everything is dropped.
    _array: OwnedFd,
}

impl StandIn {
    /// One for this classifier.
    pub(crate) fn of(program: &Loaded) -> io::Result<Self> {
        let array = syscall::program_array(program.fd.as_fd())?;
        let [a, b, c, d] = array.as_raw_fd().to_ne_bytes();
        // Source register 1 says that the number is a map's descriptor. The registers are halves of
        // an octet, which the order of octets swaps.
        let registers = if cfg!(target_endian = "little") { 0x12 } else { 0x21 };
        let third = if cfg!(target_endian = "little") { 0x03 } else { 0x30 };
        let word = |number: i32| number.to_ne_bytes();
        let [e, f, g, h] = word(12);
        let [i, j, k, l] = word(2);
        let instructions = [
            [0x18, registers, 0, 0, a, b, c, d], // r2 = the array
            [0; 8],
            [0xb7, third, 0, 0, 0, 0, 0, 0], // r3 = 0
            [0x85, 0, 0, 0, e, f, g, h],     // tail_call(r1, r2, r3)
            [0xb7, 0, 0, 0, i, j, k, l],     // r0 = TC_ACT_SHOT, should nobody be there
            [0x95, 0, 0, 0, 0, 0, 0, 0],     // exit
        ];
        let fd = syscall::load_classifier(&instructions, NAME)?;
        let (id, _) = syscall::program_info(fd.as_fd())?;
        Ok(Self { program: Loaded { fd, id, name: NAME }, _array: array })
    }
}
