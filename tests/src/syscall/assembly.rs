//! eBPF instructions by name, for programs of a dozen lines. What they are for is told where they are
//! written; loading them is [`super::handmade`]'s.
//!
//! Numbers are those of `linux/bpf.h` and RFC 9669.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// A register, 0 to 10.
pub type Register = u8;

/// What is computed of two numbers; `Move` has only the second.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Sum.
    Add = 0x00,
    /// Product.
    Multiply = 0x20,
    /// Either bit.
    Or = 0x40,
    /// Both bits.
    And = 0x50,
    /// To lower bits, zeroes behind.
    ShiftRight = 0x70,
    /// One bit, not both.
    ExclusiveOr = 0xa0,
    /// The second.
    Move = 0xb0,
}

/// How much is loaded or stored.
#[derive(Clone, Copy, Debug)]
pub enum Width {
    /// Two octets.
    Half = 0x08,
    /// Four octets.
    Word = 0x00,
    /// Eight octets.
    Double = 0x18,
}

/// A program that grows line by line.
#[derive(Clone, Debug, Default)]
pub struct Code {
    lines: Vec<[u8; 8]>,
    to_the_end: Vec<usize>,
}

impl Code {
    fn line(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) -> &mut Self {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = number.to_le_bytes();
        self.lines.push([code, from << 4 | to, low, high, a, b, c, d]);
        self
    }

    /// `to = to OPERATION number` of 32 bits; the upper half of `to` is then zero.
    pub fn number(&mut self, operation: Operation, to: Register, number: i32) -> &mut Self {
        self.line(operation as u8 | 0x04, to, 0, 0, number)
    }

    /// `to = to OPERATION from` of 32 bits; the upper half of `to` is then zero.
    pub fn register(&mut self, operation: Operation, to: Register, from: Register) -> &mut Self {
        self.line(operation as u8 | 0x0c, to, from, 0, 0)
    }

    /// `to = from`, all of it: a pointer for instance.
    pub fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.line(Operation::Move as u8 | 0x0f, to, from, 0, 0)
    }

    /// `to = to + number`, all of it.
    pub fn advance(&mut self, to: Register, number: i32) -> &mut Self {
        self.line(Operation::Add as u8 | 0x07, to, 0, 0, number)
    }

    /// The 32 bits of `to`, from this machine's order into the network's.
    pub fn to_network_order(&mut self, to: Register) -> &mut Self {
        self.line(0xdc, to, 0, 0, 32)
    }

    /// `to = *(from + offset)`.
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) -> &mut Self {
        self.line(0x61 | width as u8, to, from, offset, 0)
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) -> &mut Self {
        self.line(0x63 | width as u8, to, from, offset, 0)
    }

    /// `to` is a map, as helpers take it.
    pub fn map(&mut self, to: Register, map: BorrowedFd<'_>) -> &mut Self {
        self.line(0x18, to, 1, 0, map.as_raw_fd()).line(0, 0, 0, 0, 0)
    }

    /// `to` points at the first value of an array.
    pub fn value_of(&mut self, to: Register, map: BorrowedFd<'_>) -> &mut Self {
        self.line(0x18, to, 2, 0, map.as_raw_fd()).line(0, 0, 0, 0, 0)
    }

    /// Calls a helper of the kernel: arguments from register 1 on, the result in 0.
    pub fn call(&mut self, helper: i32) -> &mut Self {
        self.line(0x85, 0, 0, 0, helper)
    }

    /// Goes to the end where `left > right`, both pointers.
    pub fn end_if_greater(&mut self, left: Register, right: Register) -> &mut Self {
        self.to_the_end.push(self.lines.len());
        self.line(0x2d, left, right, 0, 0)
    }

    /// Goes to the end where a pointer is none.
    pub fn end_if_null(&mut self, pointer: Register) -> &mut Self {
        self.to_the_end.push(self.lines.len());
        self.line(0x15, pointer, 0, 0, 0)
    }

    /// Ends here with what register 0 holds.
    pub fn exit(&mut self) -> &mut Self {
        self.line(0x95, 0, 0, 0, 0)
    }

    /// The whole program, whose end answers `otherwise`.
    #[must_use]
    pub fn ending(mut self, otherwise: i32) -> Vec<u8> {
        let end = self.lines.len();
        for from in std::mem::take(&mut self.to_the_end) {
            let distance = i16::try_from(end - from - 1).unwrap_or(i16::MAX);
            self.lines[from][2..4].copy_from_slice(&distance.to_le_bytes());
        }
        self.number(Operation::Move, 0, otherwise).exit();
        self.lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_leads_to_the_end_whatever_stands_between() {
        let mut code = Code::default();
        code.end_if_greater(2, 7).number(Operation::Move, 0, 5).exit();
        let expected = [
            [0x2d, 0x72, 2, 0, 0, 0, 0, 0],
            [0xb4, 0, 0, 0, 5, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
            [0xb4, 0, 0, 0, 1, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(code.ending(1), expected.concat());
    }
}
