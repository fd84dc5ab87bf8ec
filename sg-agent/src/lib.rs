//! The agent: reads policy documents, compiles them and has the kernel enforce them.
//!
//! Without the feature `enforce` only the middle of it is there: from a document to an image.

#[cfg(feature = "enforce")]
pub mod agent;
#[cfg(feature = "enforce")]
pub mod cli;
pub mod compile;
#[cfg(feature = "enforce")]
pub mod config;
#[cfg(feature = "enforce")]
pub mod control;
#[cfg(feature = "enforce")]
pub mod difference;
pub mod document;
#[cfg(feature = "enforce")]
pub mod enforced;
#[cfg(feature = "enforce")]
pub mod explain;
#[cfg(feature = "enforce")]
pub mod failure;
pub mod image;
#[cfg(feature = "enforce")]
pub mod kernel;
pub mod policy;
#[cfg(feature = "enforce")]
pub mod render;
#[cfg(feature = "enforce")]
pub mod state;
#[cfg(feature = "enforce")]
pub mod view;
