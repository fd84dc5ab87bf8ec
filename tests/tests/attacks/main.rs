//! Packets that must not get through: a test of its own for every one, at XDP, at TC and for a guest.
//!
//! The letters and numbers in the names are those of the rows of the list of attacks: L link, I internet
//! protocol, F fragments, X extension headers, T TCP, U UDP, C ICMP, M martians, Z zones, S floods and spoofing,
//! G packets in pieces, R what changes meanwhile. Frames are written octet by octet ([`bytes`]); each is
//! judged for itself and amid an open connection, its verdict, reason and length are compared with every
//! counter of the product, and what passes is seen to arrive ([`range`], [`rows`], [`session`]).
#![expect(clippy::cast_possible_truncation, reason = "lengths of frames that the tests write themselves")]

mod bytes;
mod pool;
mod range;
mod rows;
mod session;

mod abuse;
mod fragments;
mod icmp;
mod infrastructure;
mod internet;
mod link;
mod martians;
mod meanwhile;
mod media;
mod pieces;
mod superpackets;
mod transport;
mod zones;
