//! What to attach and what to detach, told from what should be and what is. Pure.

use crate::kernel::{AttachRequest, Attached};

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// To attach, or attach in another way, or mend.
    pub attach: Vec<AttachRequest>,
    /// Indices of interfaces to leave alone, or that are gone.
    pub detach: Vec<u32>,
}

/// The steps that lead from `actual` to `desired`.
#[must_use]
pub fn steps(desired: &[AttachRequest], actual: &[Attached]) -> Steps {
    let is_in_place = |wanted: &&AttachRequest| actual.iter().any(|actual| is_in_place(wanted, actual));
    let is_unwanted = |actual: &&Attached| desired.iter().all(|wanted| wanted.ifindex != actual.ifindex);
    Steps {
        attach: desired.iter().filter(|wanted| !is_in_place(wanted)).cloned().collect(),
        detach: actual.iter().filter(is_unwanted).map(|actual| actual.ifindex).collect(),
    }
}

fn is_in_place(wanted: &AttachRequest, actual: &Attached) -> bool {
    // A rename changes nothing.
    let AttachRequest { ifindex, name: _, zone, side, hook, bare_ip } = wanted;
    let is_same = (*ifindex, *zone, *side, *hook, *bare_ip)
        == (actual.ifindex, actual.zone, actual.side, actual.wanted, actual.bare_ip);
    is_same && is_whole(actual) && !actual.is_gone && !actual.is_xdp_free
}

/// Whether both hooks are there, and nobody gets to judge before them.
fn is_whole(actual: &Attached) -> bool {
    actual.hooks.len() == 2
        && actual.hooks.iter().all(|hook| hook.is_alive && hook.programs_before.is_empty())
}

/// Whether a program of somebody else's is asked before ours, and may keep ours from being asked.
#[must_use]
pub fn is_behind(actual: &Attached) -> bool {
    actual.hooks.iter().any(|hook| !hook.programs_before.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernel::{HookChoice, HookKind, HookState, Side};

    fn request(ifindex: u32, zone: u32) -> AttachRequest {
        let name = format!("eth{ifindex}");
        AttachRequest { ifindex, name, zone, side: Side::Host, hook: HookChoice::Auto, bare_ip: false }
    }

    pub(in crate::agent) fn attached(ifindex: u32, zone: u32) -> Attached {
        let hook = |hook: HookKind| HookState {
            direction: hook.direction(Side::Host),
            hook,
            mode: hook.mode(),
            why: String::new(),
            is_alive: true,
            programs_before: vec![],
            other_programs: vec![],
        };
        Attached {
            ifindex,
            name: format!("eth{ifindex}"),
            zone,
            side: Side::Host,
            wanted: HookChoice::Auto,
            bare_ip: false,
            hooks: vec![hook(HookKind::TcxIngress), hook(HookKind::TcxEgress)],
            is_gone: false,
            is_xdp_free: false,
        }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let xdp = AttachRequest { hook: HookChoice::Xdp, ..request(2, 0) };
        let renamed = AttachRequest { name: "lan".to_owned(), ..request(2, 0) };
        let in_place = || attached(2, 0);
        let mut severed = attached(2, 0);
        severed.hooks[1].is_alive = false;
        let mut behind = attached(2, 0);
        behind.hooks[0].programs_before.push("other (7)".to_owned());
        let mut half = attached(2, 0);
        half.hooks.pop();
        let gone = Attached { is_gone: true, ..in_place() };
        let free = Attached { is_xdp_free: true, ..in_place() };
        // (what, desired, actual, attach, detach)
        let rows = [
            ("nothing", vec![], vec![], vec![], vec![]),
            ("all new", vec![request(2, 0), request(3, 1)], vec![], vec![2, 3], vec![]),
            ("in place", vec![request(2, 0)], vec![in_place()], vec![], vec![]),
            ("renamed", vec![renamed], vec![in_place()], vec![], vec![]),
            ("another hook", vec![xdp], vec![in_place()], vec![2], vec![]),
            ("another zone", vec![request(2, 7)], vec![in_place()], vec![2], vec![]),
            ("a severed link", vec![request(2, 0)], vec![severed], vec![2], vec![]),
            ("somebody before it", vec![request(2, 0)], vec![behind], vec![2], vec![]),
            ("a hook missing", vec![request(2, 0)], vec![half], vec![2], vec![]),
            ("another of its index", vec![request(2, 0)], vec![gone], vec![2], vec![]),
            ("XDP free again", vec![request(2, 0)], vec![free], vec![2], vec![]),
            ("unwanted", vec![], vec![in_place()], vec![], vec![2]),
            ("made again", vec![request(9, 1)], vec![in_place()], vec![9], vec![2]),
        ];
        for (what, desired, actual, expected_attach, expected_detach) in rows {
            let steps = steps(&desired, &actual);
            let attached: Vec<u32> = steps.attach.iter().map(|attach| attach.ifindex).collect();
            assert_eq!((attached, steps.detach), (expected_attach, expected_detach), "{what}");
        }
    }
}
