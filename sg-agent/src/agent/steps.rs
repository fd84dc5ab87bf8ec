//! What to attach and what to detach, told from what should be and what is. Pure.

use crate::policy::{Hook, Side};

/// One interface as it should be, or was, attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The name, for messages: a rename changes nothing.
    pub name: String,
    /// The zone.
    pub zone: u32,
    /// Which side is protected.
    pub side: Side,
    /// Where inbound is wanted.
    pub hook: Hook,
    /// Whether the interface carries bare IP.
    pub is_bare_ip: bool,
}

impl Attach {
    fn is_same(&self, other: &Self) -> bool {
        let Self { ifindex, name: _, zone, side, hook, is_bare_ip } = self;
        (*ifindex, *zone, *side, *hook, *is_bare_ip)
            == (other.ifindex, other.zone, other.side, other.hook, other.is_bare_ip)
    }
}

/// One interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actual {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// How it was attached, where that is known; else it is attached anew.
    pub how: Option<Attach>,
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// To attach, or attach in another way.
    pub attach: Vec<Attach>,
    /// Indices of interfaces to leave alone, or that are gone.
    pub detach: Vec<u32>,
}

/// The steps that lead from `actual` to `desired`.
#[must_use]
pub fn steps(desired: &[Attach], actual: &[Actual]) -> Steps {
    let is_in_place = |wanted: &&Attach| {
        actual.iter().any(|actual| actual.how.as_ref().is_some_and(|how| how.is_same(wanted)))
    };
    let is_unwanted = |actual: &&Actual| desired.iter().all(|wanted| wanted.ifindex != actual.ifindex);
    Steps {
        attach: desired.iter().filter(|wanted| !is_in_place(wanted)).cloned().collect(),
        detach: actual.iter().filter(is_unwanted).map(|actual| actual.ifindex).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(ifindex: u32, zone: u32) -> Attach {
        let name = format!("eth{ifindex}");
        Attach { ifindex, name, zone, side: Side::Host, hook: Hook::Auto, is_bare_ip: false }
    }

    fn in_place(how: Attach) -> Actual {
        Actual { ifindex: how.ifindex, how: Some(how) }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let xdp = Attach { hook: Hook::Xdp, ..attach(2, 0) };
        let renamed = Attach { name: "lan".to_owned(), ..attach(2, 0) };
        // (what, desired, actual, attach, detach)
        let rows = [
            ("nothing", vec![], vec![], vec![], vec![]),
            ("all new", vec![attach(2, 0), attach(3, 1)], vec![], vec![2, 3], vec![]),
            ("in place", vec![attach(2, 0)], vec![in_place(attach(2, 0))], vec![], vec![]),
            ("renamed", vec![renamed], vec![in_place(attach(2, 0))], vec![], vec![]),
            ("another hook", vec![xdp], vec![in_place(attach(2, 0))], vec![2], vec![]),
            ("another zone", vec![attach(2, 7)], vec![in_place(attach(2, 0))], vec![2], vec![]),
            ("unknown how", vec![attach(2, 0)], vec![Actual { ifindex: 2, how: None }], vec![2], vec![]),
            ("unwanted", vec![], vec![in_place(attach(2, 0))], vec![], vec![2]),
            ("made again", vec![attach(9, 1)], vec![in_place(attach(2, 0))], vec![9], vec![2]),
        ];
        for (what, desired, actual, expected_attach, expected_detach) in rows {
            let steps = steps(&desired, &actual);
            let attached: Vec<u32> = steps.attach.iter().map(|attach| attach.ifindex).collect();
            assert_eq!((attached, steps.detach), (expected_attach, expected_detach), "{what}");
        }
    }
}
