//! What is not a whole image is told from one.

use sg_common::image::Node;

use super::*;
use crate::image::{Invalid, verify};

/// Has one of everything: trees of several levels, a run, a subtree, own addresses, a vacant zone.
fn image() -> Image {
    let hosts = (0..40).map(|at| Prefix::host(Addr::v4(at * 2)));
    let cut = ["2001:db8::1", "2001:db8:1::1", "2001:db8:1::5"].map(prefix);
    let ports = (0..16).map(|at| Service::Tcp(at * 10, at * 10 + 5)).collect();
    let inbound = vec![
        rule(vec![Service::Udp(53, 53)], vec![peer("0.0.0.0/0")]),
        rule(ports, vec![Peer::PrefixList(PrefixListIndex(0))]),
    ];
    let policy = Policy {
        groups: vec![group("a", inbound, vec![Rule::default_outbound(nowhere())])],
        prefix_lists: vec![list("x", hosts.chain(cut).collect())],
        interfaces: Vec::new(),
    };
    let own = vec![prefix("10.0.0.1"), prefix("2001:db8::7")];
    compiled(&policy, &[Some(Zone { own, ..zone(&[0]).unwrap() }), None], ROOMY).unwrap()
}

#[test]
fn any_flipped_bit_is_noticed() {
    let mut nodes = image().nodes().to_vec();
    assert_eq!(verify(&nodes).map(|header| header.nodes as usize), Ok(nodes.len()));
    for node in 0..nodes.len() {
        for bit in 0..512 {
            nodes[node].words[bit / 32] ^= 1 << (bit % 32);
            assert!(verify(&nodes).is_err(), "bit {bit} of node {node}");
            nodes[node].words[bit / 32] ^= 1 << (bit % 32);
        }
    }
}

#[test]
fn a_part_of_an_image_is_not_one() {
    let image = image();
    let nodes = image.nodes();
    assert_eq!(verify(&[]), Err(Invalid::Header));
    assert_eq!(verify(&nodes[1..]), Err(Invalid::Header));
    let (found, stated) = (nodes.len() - 1, nodes.len() as u32);
    assert_eq!(verify(&nodes[..found]), Err(Invalid::Length { found, stated }));
    let longer = [nodes, &[Node::ZERO]].concat();
    assert_eq!(verify(&longer), Err(Invalid::Length { found: longer.len(), stated }));
}

#[test]
fn no_lookup_stumbles_over_what_verify_lets_pass() {
    let whole = image();
    let hosts = (0..82).map(Addr::v4).chain([Addr::v4(u32::MAX)]);
    let others = ["2001:db8::", "2001:db8::1", "2001:db8:1::4", "2001:db8:1::5", "2001:db8:1::6", "ffff::"];
    let asked: Vec<_> = hosts.chain(others.map(address)).collect();
    let (mut refused, mut passed) = (0, 0);
    for node in 1..whole.nodes().len() {
        for word in 0..16 {
            for value in [1 << 20, u32::MAX, u32::MAX - 1, 2] {
                let mut nodes = whole.nodes().to_vec();
                nodes[node].words[word] = value;
                // The digest is made anew, so that the references alone are judged.
                let changed = Image::seal(nodes, 2, *whole.stats());
                if changed.verify().is_err() {
                    refused += 1;
                    continue;
                }
                passed += 1;
                let zone = lookup::zone(&changed, 0).unwrap();
                for remote in &asked {
                    for selector in [tcp(7), tcp(153), tcp(60_000)] {
                        for direction in Direction::ALL {
                            let answer = lookup::rule(&changed, zone, direction, *remote, selector);
                            assert!(answer.is_ok(), "word {word} of node {node} is {value:#x}");
                        }
                    }
                    assert!(lookup::is_own(&changed, zone, *remote).is_ok());
                }
            }
        }
    }
    assert!(refused > 50 && passed > 50, "{refused} refused, {passed} passed");
}
