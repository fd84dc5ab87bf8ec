//! The agent: reads policy documents, compiles them and has the kernel enforce them.

pub mod document;
pub mod policy;
