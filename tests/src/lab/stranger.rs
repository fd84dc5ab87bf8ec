//! Someone on another network than the instance, with sources of their choosing.

use std::net::IpAddr;

use anyhow::Result;

use super::{Arena, Namespace, Setup, arena::Family, wire};
use crate::packet::Mac;

/// A namespace that reaches the instance. A guest's stranger sits behind another wire, so that the
/// machine forwards between them; a host's is the far end of its own. Answers of the instance to
/// sources that are nobody's leave it, and end without a word.
///
/// # Errors
/// `ip` refuses.
pub fn arrive(arena: &Arena) -> Result<Namespace> {
    for family in Family::ALL {
        let peer = arena.peer_address(family);
        arena.instance().ip(&[&format!("route add default via {peer}")])?;
    }
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        arena.machine.set(key, "0")?;
    }
    if arena.setup == Setup::Guest { behind_the_machine(arena) } else { Ok(arena.far.clone()) }
}

fn behind_the_machine(arena: &Arena) -> Result<Namespace> {
    let near = ["10.99.0.1/24", "fd99::1/64"];
    let stranger = arena.another_wire("out0", &near, &["10.99.0.2/24", "fd99::2/64"])?;
    let addresses: [(IpAddr, IpAddr); 2] = [
        ([10, 99, 0, 1].into(), [10, 99, 0, 2].into()),
        ([0xfd99, 0, 0, 0, 0, 0, 0, 1].into(), [0xfd99, 0, 0, 0, 0, 0, 0, 2].into()),
    ];
    for (near, far) in addresses {
        wire::neighbour(&arena.machine, "out0", far, Mac::local(4))?;
        wire::neighbour(&stranger, "far1", near, Mac::local(3))?;
        stranger.ip(&[&format!("route add default via {near}")])?;
    }
    arena.machine.set("ipv4/conf/out0/rp_filter", "0")?;
    arena.machine.forward()?;
    arena.machine.ip(&["route add blackhole default"])?;
    Ok(stranger)
}
