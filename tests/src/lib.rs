//! The namespace lab: real interfaces, real sockets and real packets, with the agent as a black box.
//!
//! [`lab`] builds networks out of namespaces and runs the agent in them, [`packet`] writes frames
//! byte by byte, [`counters`] compares every counter of the product with what was sent. Nothing there
//! shares code with the datapath: what the lab says about a packet comes from the RFCs, so that a
//! mistake of the parser cannot hide in the tests of it. [`programs`] and [`memory`] are the datapath
//! itself, in the kernel without an agent and in user space, to be compared.
//!
//! [`mod@reference`] says a second time, slowly, what becomes of a packet; [`agreement`] makes up sequences
//! and compares it with both forms of the datapath. [`oracle`] lets nftables judge the same traffic.
//! [`generator`] makes packets in the kernel, as many as one core can, for what measures.
//! [`vigil`] watches traffic that must never arrive and sessions that must never stop, whatever happens.

pub mod agreement;
#[cfg(feature = "lab")]
pub mod counters;
pub mod entry;
#[cfg(feature = "lab")]
pub mod generator;
#[cfg(feature = "lab")]
pub mod lab;
pub mod memory;
#[cfg(feature = "lab")]
pub mod oracle;
pub mod packet;
#[cfg(feature = "lab")]
pub mod programs;
pub mod reference;
#[cfg(feature = "lab")]
pub mod syscall;
#[cfg(feature = "lab")]
pub mod vigil;
