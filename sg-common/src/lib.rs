//! What the kernel programs and the agent agree on, and nowhere else.
//!
//! Both sides compile this crate: the programs for the BPF target, the agent, the tests and the
//! fuzzers for the host. It holds the packet parser ([`wire`]), the flow table ([`flow`]), the
//! compiled policy's layout and lookup ([`image`]), the decision itself ([`decide`]), what
//! the operator opens past it ([`unlock`]), what audit mode remembers ([`audited`]) and the layout of
//! every map ([`abi`]). It allocates nothing, knows no clock and does no IO.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod addr;
pub mod audited;
mod branchless;
pub mod decide;
pub mod flow;
pub mod image;
pub mod shared;
pub mod tuple;
pub mod unlock;
pub mod verdict;
pub mod wire;
