//! Comparisons that stay free of branches, and how the optimiser is kept from making some.
//!
//! A branch on each of a node's keys is two to the power of keys ways for the verifier to follow,
//! and Linux 6.1 follows most of them. Written as arithmetic alone a comparison does not stay so:
//! where the optimiser knows that both sides are short it makes a branch of it again.

/// 1 if `a < b`: both are below 2^63.
#[inline(always)]
pub(crate) fn below(a: u64, b: u64) -> u32 {
    (difference(a, b) >> 63) as u32
}

/// 1 if `a < b` for any two numbers: the borrow of `a - b`.
#[inline(always)]
pub(crate) fn below_u64(a: u64, b: u64) -> u32 {
    (((!a & b) | ((!a | b) & difference(a, b))) >> 63) as u32
}

/// `new` if `is_new` is 1, `old` if it is 0.
#[inline(always)]
pub(crate) fn pick(is_new: u32, new: u64, old: u64) -> u64 {
    old ^ ((old ^ new) & u64::from(is_new).wrapping_neg())
}

/// `a - b`, wrapping, of which the optimiser knows nothing more.
#[inline(always)]
fn difference(a: u64, b: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    #[expect(unsafe_code, reason = "a barrier for the optimiser is inline assembly")]
    {
        let mut difference = a;
        // SAFETY: subtracts a register from another.
        unsafe { core::arch::asm!("{0} -= {1}", inout(reg) difference, in(reg) b, options(nomem, nostack)) };
        difference
    }
    #[cfg(not(target_arch = "bpf"))]
    a.wrapping_sub(b)
}

/// `a + b`, wrapping, once all before it is done: begun all at once, the comparisons of a node need
/// more of the stack than a BPF program has.
#[inline(always)]
pub(crate) fn sum(a: u64, b: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    #[expect(unsafe_code, reason = "a barrier for the optimiser is inline assembly")]
    {
        let mut sum = a;
        // SAFETY: adds a register to another.
        unsafe { core::arch::asm!("{0} += {1}", inout(reg) sum, in(reg) b, options(nostack)) };
        sum
    }
    #[cfg(not(target_arch = "bpf"))]
    a.wrapping_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_agree_with_the_operator() {
        let edges = [0, 1, 2, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, u64::MAX - 1, u64::MAX];
        for a in edges {
            for b in edges {
                assert_eq!(below_u64(a, b), u32::from(a < b), "{a:#x} < {b:#x}");
                let (a, b) = (a >> 1, b >> 1);
                assert_eq!(below(a, b), u32::from(a < b), "{a:#x} < {b:#x}");
            }
        }
    }

    #[test]
    fn one_picks_the_new_and_none_the_old() {
        assert_eq!(pick(1, u64::MAX, 5), u64::MAX);
        assert_eq!(pick(0, u64::MAX, 5), 5);
    }
}
