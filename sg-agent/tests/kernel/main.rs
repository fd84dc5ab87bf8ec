//! The loaded programs, on interfaces of a network namespace of each test's own, with a BPF file
//! system of its own. Needs root; without it the tests say so and do nothing.

#[cfg(test)]
mod adopting;
#[cfg(test)]
mod attaching;
#[cfg(test)]
mod detaching;
#[cfg(test)]
mod falling_back;
#[cfg(test)]
mod mending;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod watching;
