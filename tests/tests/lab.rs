//! The lab itself, with no firewall in it: what it sends arrives, and nothing is left of it.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use sg_tests::{
    lab::{
        Arena, Namespace, Outcome, Probe, Setup, arena::Family, can_run, three_tier::ThreeTier,
        traffic::bind_udp,
    },
    packet::{Extension, Icmp, Packet, Tcp, Udp},
    syscall::program::{Foreign, Hook},
};

const SOON: Duration = Duration::from_secs(2);

#[test]
fn real_traffic_flows_both_ways_in_both_families() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for arena in [Arena::without_agent(Setup::HostTc)?, Arena::without_neighbours(Setup::Guest)?] {
        for family in Family::ALL {
            for probe in [Probe::Tcp(443), Probe::Udp(53), Probe::Ping] {
                assert_eq!(arena.inbound(probe, family)?, Outcome::Answered, "{probe:?} in, {family:?}");
                assert_eq!(arena.outbound(probe, family)?, Outcome::Answered, "{probe:?} out, {family:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn silence_is_told_from_a_refusal() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    let nowhere = [10, 88, 0, 9].into();
    arena.far.ip(&["neighbour replace 10.88.0.9 lladdr 02:00:00:00:00:01 dev far0 nud permanent"])?;
    // The machine has no such address: it forwards nothing, so nobody answers.
    arena.machine.ip(&["address add 10.88.0.9/32 dev lo"])?;
    assert_eq!(Probe::Tcp(1).run(&arena.far, None, &arena.machine, nowhere)?, Outcome::Answered);
    arena.machine.ip(&["address del 10.88.0.9/32 dev lo"])?;
    assert_eq!(Probe::Ping.run(&arena.far, None, &arena.machine, nowhere)?, Outcome::Silent);
    Ok(())
}

/// Every frame of the builder is judged by the kernel's own stack: wrong checksums would not arrive.
#[test]
fn hand_written_packets_are_what_the_kernel_takes() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    let wire = arena.far_socket()?;
    for family in Family::ALL {
        let (source, target) = (arena.far_address(family), arena.machine_address(family));
        let server = arena.machine.enter(|| bind_udp(SocketAddr::new(target, 4000)))?;
        let udp = || Packet::new(source, target, Udp::new(5, 4000, b"odd"));
        let rows = [
            ("plain", udp()),
            ("with options", udp().ipv4(|ip| ip.options = vec![1, 1, 1, 0])),
            (
                "behind extension headers",
                udp().ipv6(|ip| {
                    ip.extensions = vec![
                        Extension::HopByHop(vec![]),
                        Extension::Destination(vec![1, 2, 0, 0]),
                        Extension::Fragment(0, false, 7),
                    ];
                }),
            ),
        ];
        for (what, packet) in rows {
            wire.send(&arena.frame_in(&packet).bytes())?;
            let mut buffer = [0; 16];
            let length = server.recv(&mut buffer).map_err(|error| anyhow::anyhow!("{what}: {error}"))?;
            assert_eq!(&buffer[..length], b"odd", "{what}, {family:?}");
        }
        let bad = Udp { checksum: Some(0xbad), ..Udp::new(5, 4000, b"bad") };
        wire.send(&arena.frame_in(&Packet::new(source, target, bad)).bytes())?;
        assert!(server.recv(&mut [0; 16]).is_err(), "a wrong checksum arrives nowhere");

        // Answers of the kernel prove the rest: SYN+ACK or RST for TCP, a reply for an echo.
        let syn = Tcp { options: vec![2, 4, 5, 0xb4], ..Tcp::new(77, 4001, Tcp::SYN) };
        wire.send(&arena.frame_in(&Packet::new(source, target, syn)).bytes())?;
        ensure!(wire.sees(SOON, &[0x0f, 0xa1, 0, 77])?, "no answer to a SYN, {family:?}");
        let echo = Icmp::echo_request(family == Family::V6, 0x1234, 0x5678);
        wire.send(&arena.frame_in(&Packet::new(source, target, echo)).bytes())?;
        ensure!(wire.sees(SOON, b"\x12\x34\x56\x78echo")?, "no answer to an echo request, {family:?}");
    }
    Ok(())
}

#[test]
fn a_machine_has_a_bpffs_of_its_own() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Namespace::machine("machine")?;
    let mounts = machine.command("cat").arg("/proc/self/mounts").output()?;
    let mounts = String::from_utf8(mounts.stdout)?;
    assert!(mounts.lines().any(|line| line.contains(" /sys/fs/bpf bpf ")), "{mounts}");
    let own = fs::read_to_string("/proc/self/mounts")?;
    assert!(!own.contains("sg-lab"), "the lab's mounts stay in it: {own}");
    Ok(())
}

#[test]
fn three_tiers_reach_each_other_when_nothing_is_enforced() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let lab = ThreeTier::new()?;
    for family in Family::ALL {
        let (web, db) = (ThreeTier::web_address(family), ThreeTier::db_address(family));
        let rows = [
            (&lab.client, &lab.web, web, Probe::Tcp(443)),
            (&lab.attacker, &lab.web, web, Probe::Tcp(22)),
            (&lab.attacker, &lab.db, db, Probe::Tcp(5432)),
            (&lab.web, &lab.db, db, Probe::Tcp(5432)),
            (&lab.client, &lab.db, db, Probe::Ping),
        ];
        for (from, to, target, probe) in rows {
            let outcome = probe.run(from, None, to, target)?;
            assert_eq!(outcome, Outcome::Answered, "{probe:?} from {} to {target}", from.name());
        }
    }
    Ok(())
}

/// Namespaces, veths and processes go with their owner, and a panic is no exception.
#[test]
fn nothing_is_left_of_a_lab() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let outside = Namespace::new("outside")?;
    let panicked = std::thread::spawn(move || -> Result<()> {
        let inside = Namespace::new("inside")?;
        outside.ip(&[&format!("link add left type veth peer name right netns {}", inside.path())])?;
        drop(inside);
        sg_tests::lab::eventually("the peer's end is gone, and this one with it", || {
            Ok(!outside.ip(&["link show"])?.contains("left"))
        })?;
        let arena = Arena::without_agent(Setup::HostTc)?;
        panic!("in {}", arena.machine.name());
    })
    .join();
    let message = panicked.unwrap_err();
    assert_eq!(message.downcast_ref::<String>().map(String::as_str), Some("in machine"));
    Ok(())
}

/// The foreign programs of other tests do attach, and tell when they are gone.
#[test]
fn foreign_programs_attach_and_notice_the_end() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let arena = Arena::without_agent(Setup::HostTc)?;
    let hooks = [(Hook::Xdp, 2), (Hook::TcIngress, 0), (Hook::TcEgress, 0)];
    let mut programs = vec![];
    for (hook, verdict) in hooks {
        programs.push(arena.machine.enter(|| Ok(Foreign::attach("eth0", hook, "stranger", verdict)?))?);
    }
    assert_eq!(arena.inbound(Probe::Tcp(443), Family::V4)?, Outcome::Answered);
    for program in &programs {
        ensure!(program.is_attached()?, "attached: {program:?}");
    }
    arena.machine.ip(&["link delete eth0"])?;
    for program in &programs {
        ensure!(!program.is_attached()?, "gone: {program:?}");
    }
    let dropping = arena.another_wire("eth1", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
    let _drop = arena.machine.enter(|| Ok(Foreign::attach("eth1", Hook::Xdp, "stranger", 1)?))?;
    let target = [10, 99, 0, 1].into();
    assert_eq!(Probe::Ping.run(&dropping, None, &arena.machine, target)?, Outcome::Silent);
    Ok(())
}
