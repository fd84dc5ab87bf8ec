//! Whether an ingress hook should be XDP.
//!
//! `auto` takes native XDP only where it costs the stack nothing: on physical NICs whose driver is
//! known to run it beside its normal receive path. A veth loses segmentation by it (6.0 against
//! 14.6 Gbit/s of TCP), virtio loses receive offloads, and most virtual interfaces have no native
//! XDP at all. A driver that refuses, as many do for a large MTU, falls back to TC.

use std::fs;

use super::{AttachRequest, HookChoice, links::Interface};

/// Drivers that run XDP natively, multi-buffer frames included, and keep software GRO behind it.
const DRIVERS: [&str; 11] =
    ["bnxt_en", "ena", "gve", "i40e", "ice", "igb", "igc", "ixgbe", "mlx5_core", "nfp", "sfc"];

/// What the ingress hook should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Native XDP, else TC.
    PreferXdp(String),
    /// Native XDP or an error.
    ForceXdp,
    /// TC.
    Tc(String),
}

/// Chooses for an interface.
pub(crate) fn choose(request: &AttachRequest, interface: &Interface) -> Choice {
    match request.hook {
        HookChoice::Tc => Choice::Tc("asked for".to_owned()),
        HookChoice::Xdp => Choice::ForceXdp,
        HookChoice::Auto => {
            suggest(interface.kind.as_deref(), interface.bare_ip, driver(interface).as_deref())
        }
    }
}

fn suggest(kind: Option<&str>, bare_ip: bool, driver: Option<&str>) -> Choice {
    if bare_ip {
        return Choice::Tc("an interface of bare IP has no native XDP".to_owned());
    }
    match (kind, driver) {
        (Some("veth"), _) => Choice::Tc("native XDP takes segmentation offload from a veth".to_owned()),
        (Some(kind), _) => Choice::Tc(format!("native XDP has a cost, or is not to be had, on a {kind}")),
        (None, Some("virtio_net")) => {
            Choice::Tc("native XDP takes receive offloads from virtio_net".to_owned())
        }
        (None, Some(driver)) if DRIVERS.contains(&driver) => {
            Choice::PreferXdp(format!("{driver} runs XDP natively"))
        }
        (None, Some(driver)) => Choice::Tc(format!("{driver} is not known to run XDP without a cost")),
        (None, None) => Choice::Tc("it has no driver that is known to run XDP".to_owned()),
    }
}

/// The driver of a physical interface, where `/sys` shows this network namespace.
fn driver(interface: &Interface) -> Option<String> {
    let folder = format!("/sys/class/net/{}", interface.name);
    let ifindex = fs::read_to_string(format!("{folder}/ifindex")).ok()?;
    if ifindex.trim() != interface.ifindex.to_string() {
        return None;
    }
    let driver = fs::read_link(format!("{folder}/device/driver")).ok()?;
    Some(driver.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdp_is_suggested_where_it_costs_nothing() {
        for (kind, bare_ip, driver, is_xdp) in [
            (None, false, Some("ixgbe"), true),
            (None, false, Some("virtio_net"), false),
            (None, false, Some("r8169"), false),
            (None, false, None, false),
            (None, true, Some("ixgbe"), false),
            (Some("veth"), false, None, false),
            (Some("bond"), false, None, false),
        ] {
            let choice = suggest(kind, bare_ip, driver);
            let found = matches!(choice, Choice::PreferXdp(_));
            assert_eq!(found, is_xdp, "{kind:?} {bare_ip} {driver:?}: {choice:?}");
        }
    }
}
