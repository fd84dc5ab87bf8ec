//! nftables as an independent judge of the same traffic.
//!
//! One policy is enforced twice: by the agent on one box, and as a ruleset of `nft` with connection
//! tracking ([`ruleset`]) on another ([`crossing`]). The same packets ([`probes`]) cross both, and
//! arrive or do not.
//!
//! # What is left out, because the two differ on purpose
//!
//! * A bare SYN in the direction of replies: to conntrack a simultaneous open, here a new connection.
//! * A connection that is picked up in the middle: conntrack believes whoever speaks first, here it
//!   must look like the opener.
//! * What follows a reset, and packets outside of windows: conntrack calls them invalid, here they
//!   pass and change nothing.
//! * SCTP and DCCP: conntrack knows their ports.
//! * ICMP redirects: conntrack relates them to flows. Errors about a packet that was never seen to go
//!   the other way: conntrack relates them to the flow, here they are related to nothing.
//! * Fragments, bad checksums, malformed packets and martians: conntrack and the stack of the box put
//!   together, repair or drop them before any rule.
//! * Changes of the policy: a ruleset that is replaced leaves tracked connections alone.

pub mod crossing;
pub mod probes;
pub mod ruleset;

pub use crossing::{Crossing, Judge};
pub use probes::Probe;
