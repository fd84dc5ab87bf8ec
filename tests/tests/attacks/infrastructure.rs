//! The infrastructure set (datapath.md, section 4): each part of it passes without a rule, and does not
//! where it is switched off.

use anyhow::Result;
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
};

use crate::{
    bytes::{BROADCAST, Path, ethernet},
    range::{INFRASTRUCTURE, RULE, RULES, Range, Way},
};

each_setup! {
    each_part_can_be_switched_off
}

/// Frames of a part, by the way that they go.
fn frames(range: &Range, part: &str) -> Vec<(Way, Vec<u8>)> {
    let mut frames = vec![];
    for way in [Way::In, Way::Out] {
        let (v4, v6) = (range.path(way, Family::V4), range.path(way, Family::V6));
        let icmp = |path: &Path, hops: u8, kind: u8, body: &[u8]| {
            let mut packet = path.ip(58, &path.icmp(kind, 0, [0; 4], body));
            packet[7] = hops;
            path.frame(&packet)
        };
        match part {
            "arp" => {
                let question =
                    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &v4.from.mac, &v4.from.v4, &[0; 6], &v4.to.v4].concat();
                frames.push((way, ethernet(BROADCAST, v4.from.mac, 0x0806, &question)));
            }
            "ndp" => {
                frames.push((way, icmp(&v6, 255, 133, &[])));
                frames.push((way, icmp(&v6, 255, 135, &v6.to.v6)));
                frames.push((way, icmp(&v6, 255, 136, &v6.from.v6)));
                // No guest is a router.
                if way == Way::In || range.setup != Setup::Guest {
                    frames.push((way, icmp(&v6, 255, 134, &[0; 8])));
                }
            }
            "dhcp" => {
                let (four, six) =
                    if way == Way::In { ((67, 68), (547, 546)) } else { ((68, 67), (546, 547)) };
                frames.push((way, v4.udp_frame(four, &[0; 240])));
                frames.push((way, v6.udp_frame(six, &[0; 240])));
            }
            _ => {
                let mut path = v6;
                path.from.v6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
                path.to.v6 = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
                frames.push((way, icmp(&path, 1, 143, &[])));
                frames.push((way, icmp(&path, 1, 131, &path.to.v6)));
                frames.push((way, icmp(&path, 1, 132, &path.to.v6)));
            }
        }
    }
    frames
}

fn each_part_can_be_switched_off(setup: Setup) -> Result<()> {
    const PARTS: [&str; 4] = ["arp", "ndp", "dhcp", "mld"];
    let range = Range::open(setup)?;
    for off in PARTS {
        range.apply(RULES, &format!(", infrastructure: {{{off}: false}}"))?;
        for part in PARTS {
            let expected = match part {
                _ if part != off => INFRASTRUCTURE,
                "arp" => "unsupported_ethertype",
                _ => "no_rule",
            };
            for (way, frame) in frames(&range, part) {
                range.judge(&format!("{part}, {way:?}, with {off} off"), way, &frame, expected)?;
            }
        }
        let path = range.inward(Family::V4);
        range.judge("what a rule allows", Way::In, &path.syn_frame((range.port(), 443)), RULE)?;
    }
    // Neither a listener's report from afar nor one from elsewhere than the link is a part of it.
    range.apply(RULES, "")?;
    let mut path = range.inward(Family::V6);
    path.to.v6 = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
    for (what, source, hops) in [("from a router away", 0xfe80_u16, 2), ("from no link", 0xfd88, 1)] {
        path.from.v6[..2].copy_from_slice(&source.to_be_bytes());
        path.from.v6[2..15].fill(0);
        let mut packet = path.ip(58, &path.icmp(143, 0, [0; 4], &[]));
        packet[7] = hops;
        range.judge(&format!("a report {what}"), Way::In, &path.frame(&packet), "no_rule")?;
    }
    Ok(())
}
