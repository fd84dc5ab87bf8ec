//! The agent: reads policy documents, compiles them and has the kernel enforce them.

pub mod agent;
pub mod cli;
pub mod compile;
pub mod config;
pub mod control;
pub mod document;
pub mod enforced;
pub mod explain;
pub mod failure;
pub mod image;
pub mod kernel;
pub mod policy;
pub mod render;
pub mod state;
pub mod view;
