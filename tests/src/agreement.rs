//! The same question asked three ways: the [reference](crate::reference), `decide` in user space, and
//! the loaded programs by test-run, over sequences of packets, waits and changes of the policy.
//!
//! [`case`] is such a sequence and its written form, [`policies`] and [`traffic`] make them up from a
//! seed, [`trial`] runs one and tells where the answers part, and [`shrink`] makes what is left of
//! it small enough to read.

pub mod case;
mod compiled;
pub mod dice;
#[cfg(feature = "lab")]
mod kernel;
pub mod policies;
#[cfg(feature = "lab")]
pub mod shrink;
#[cfg(feature = "lab")]
mod tables;
pub mod traffic;
#[cfg(feature = "lab")]
pub mod trial;

pub use case::{Case, Step, Unlock};
pub use compiled::{NODES, compiled};
pub use dice::Dice;
#[cfg(feature = "lab")]
pub use kernel::Kernel;
#[cfg(feature = "lab")]
pub use trial::{Difference, Tally, Trial};
