//! What the generator sends arrives, with the sources that were chosen and checksums that are right.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use sg_tests::{
    generator::{Generator, Sources},
    lab::{Arena, Setup, arena::Family, can_run},
    packet::{Mac, Packet, Tcp, Udp},
    syscall::{self, Offloading},
};

#[test]
fn packets_have_the_chosen_sources_and_right_checksums() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    // A veth takes frames from within the kernel where it polls.
    arena.machine.enter(|| Ok(syscall::set_offloading("eth0", Offloading::Gro, true)?))?;
    let capture = arena.machine_socket()?;
    for family in Family::ALL {
        let is_v6 = family == Family::V6;
        let target = arena.instance_address(family);
        let packets = [
            Packet::new(target, target, Tcp::new(40_000, 443, Tcp::SYN)),
            Packet::new(target, target, Udp::new(40_000, 53, b"question")),
        ];
        for packet in packets {
            let generator = Generator::sender(&packet, Mac::local(2), Mac::local(1))?;
            for sources in [Sources::flows(4), Sources::between_networks(is_v6)] {
                generator.choose(sources, 100);
                arena.far.enter(|| generator.send(4, syscall::interface_index("far0")?))?;
                for number in 101..105 {
                    let source: IpAddr = Generator::source(sources, number, is_v6);
                    let mut expected = packet.clone();
                    match (&mut expected.ip, source) {
                        (sg_tests::packet::Ip::V4(header), IpAddr::V4(source)) => header.source = source,
                        (sg_tests::packet::Ip::V6(header), IpAddr::V6(source)) => header.source = source,
                        _ => unreachable!("the families are the same"),
                    }
                    let expected = expected.frame(Mac::local(2), Mac::local(1)).bytes();
                    let found =
                        capture.receive(Duration::from_secs(5), |frame| frame.starts_with(&expected))?;
                    found.with_context(|| format!("packet {number} from {source}: {packet:?}"))?;
                }
            }
        }
    }
    Ok(())
}
