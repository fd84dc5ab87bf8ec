//! What no input may do, as functions of bytes that panic when it does.
//!
//! The fuzzer calls them over what it invents ([`packet::run`], [`document::run`],
//! [`differential::run`]); `cargo test` calls them over the seeds in `corpus/` and over every input
//! in `regressions/` that once failed. Nothing here knows the fuzzer.

pub mod differential;
pub mod document;
pub mod packet;
