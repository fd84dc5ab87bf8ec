//! The agent: reads policy documents, compiles them and has the kernel enforce them.

pub mod compile;
pub mod image;
pub mod policy;
