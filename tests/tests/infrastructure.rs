//! What passes under an empty group, and what a guest may never send (datapath.md, section 4).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use sg_tests::{
    each_setup,
    lab::{Arena, Outcome, Probe, Setup, arena::Family, traffic::bind_udp},
    packet::{Frame, Icmp, Mac, Packet, Udp},
};

each_setup! {
    neighbours_find_each_other
    dhcp_clients_get_their_lease
    a_guest_is_no_router
}

const CLOSED: &str = "inbound: [], outbound: []";

fn neighbours_find_each_other(setup: Setup) -> Result<()> {
    let mut arena = Arena::without_neighbours(setup)?;
    let policy = arena.policy("inbound: [{allow: [icmp, icmpv6], from: [PEER]}], outbound: []");
    arena.agent.start_with(&policy)?;
    for family in Family::ALL {
        assert_eq!(arena.inbound(Probe::Ping, family)?, Outcome::Answered, "{family:?}");
    }
    // An empty group still resolves: the neighbour is found, though nothing else passes.
    arena.apply(CLOSED)?;
    for namespace in [&arena.machine, &arena.far] {
        namespace.ip(&["neighbour flush all"])?;
    }
    for family in Family::ALL {
        assert_eq!(arena.inbound(Probe::Ping, family)?, Outcome::Silent, "{family:?}");
        let neighbours = arena.peer().ip(&["neighbour show"])?;
        let found = neighbours.lines().any(|line| {
            line.starts_with(&format!("{} ", arena.instance_address(family))) && line.contains("lladdr")
        });
        assert!(found, "{family:?}: {neighbours}");
    }
    // Switched off, it does not.
    let policy = arena.policy_with(CLOSED, ", infrastructure: {arp: false, ndp: false}");
    arena.agent.apply(&policy)?;
    for namespace in [&arena.machine, &arena.far] {
        namespace.ip(&["neighbour flush all"])?;
    }
    for family in Family::ALL {
        assert_eq!(arena.inbound(Probe::Ping, family)?, Outcome::Silent, "{family:?}");
        let neighbours = arena.peer().ip(&["neighbour show"])?;
        assert!(!neighbours.contains("lladdr"), "{family:?}: {neighbours}");
    }
    Ok(())
}

/// Requests leave and answers come in, though no rule says so; a guest never answers.
fn dhcp_clients_get_their_lease(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, CLOSED)?;
    let (ours, theirs) = (arena.instance_socket()?, arena.peer_socket()?);
    let everyone = IpAddr::from(Ipv4Addr::BROADCAST);
    let unspecified = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let link_local = |last: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, last]);
    let servers = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 1, 2]);
    let broadcast = |mut frame: Frame| {
        frame.destination = Mac::BROADCAST;
        frame.bytes()
    };
    let peer = arena.peer_address(Family::V4);

    let request = Packet::new(unspecified, everyone, Udp::new(68, 67, b"discover"));
    let not_dhcp = Packet::new(unspecified, everyone, Udp::new(68, 69, b"discover"));
    let server = arena.peer().enter(|| bind_udp(SocketAddr::new(unspecified, 67)))?;
    arena.counted(&[("outbound", "allowed", 1)], || {
        ours.send(&broadcast(arena.frame_out(&request)))?;
        server.recv(&mut [0; 16]).context("the request at the server")
    })?;
    let before = arena.counters()?;
    ours.send(&broadcast(arena.frame_out(&not_dhcp)))?;
    let moved = arena.counters()?.since(&before)?;
    assert_eq!(moved.of("eth0", "outbound", "allowed"), 0, "{moved:?}");
    assert_eq!(moved.0.len(), 1, "{moved:?}");

    let offer = Packet::new(peer, everyone, Udp::new(67, 68, b"offer"));
    let client = arena.instance().enter(|| bind_udp(SocketAddr::new(unspecified, 68)))?;
    arena.counted(&[("inbound", "allowed", 1)], || {
        theirs.send(&broadcast(arena.frame_in(&offer)))?;
        client.recv(&mut [0; 16]).context("the offer at the client")
    })?;

    let solicit = Packet::new(link_local(2), servers, Udp::new(546, 547, b"solicit"));
    let advertise = Packet::new(link_local(1), link_local(2), Udp::new(547, 546, b"advertise"));
    arena.counted(&[("outbound", "allowed", 1)], || ours.send(&arena.frame_out(&solicit).bytes()))?;
    arena.counted(&[("inbound", "allowed", 1)], || theirs.send(&arena.frame_in(&advertise).bytes()))?;

    let answers = [
        Packet::new(arena.instance_address(Family::V4), everyone, Udp::new(67, 68, b"offer")),
        Packet::new(link_local(2), link_local(1), Udp::new(547, 546, b"advertise")),
    ];
    let reason = if setup == Setup::Guest { "dhcp_server_from_guest" } else { "no_rule" };
    for answer in answers {
        arena.counted(&[("outbound", reason, 1)], || ours.send(&arena.frame_out(&answer).bytes()))?;
    }
    Ok(())
}

fn a_guest_is_no_router(setup: Setup) -> Result<()> {
    let arena = Arena::start(setup, CLOSED)?;
    let (ours, theirs) = (arena.instance_socket()?, arena.peer_socket()?);
    let (router, all_nodes) =
        (IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 9]), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]));
    let message = |kind| {
        Packet::new(router, all_nodes, Icmp::new(kind, 0, [64, 0, 0, 0], &[0; 8]))
            .ipv6(|ip| ip.hop_limit = 255)
    };
    let settle = || {
        thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    // Advertisements come in to everyone, and leave a host but not a guest.
    arena.counted(&[("inbound", "allowed", 1)], || {
        theirs.send(&arena.frame_in(&message(134)).bytes())?;
        settle()
    })?;
    let out = if setup == Setup::Guest { "router_advertisement_from_guest" } else { "allowed" };
    arena.counted(&[("outbound", out, 1)], || {
        ours.send(&arena.frame_out(&message(134)).bytes())?;
        settle()
    })?;
    // Solicitations leave both.
    arena.counted(&[("outbound", "allowed", 1)], || {
        ours.send(&arena.frame_out(&message(133)).bytes())?;
        settle()
    })?;
    // What crossed a router is no neighbour's message.
    let far_away = message(134).ipv6(|ip| ip.hop_limit = 254);
    let before = arena.counters()?;
    theirs.send(&arena.frame_in(&far_away).bytes())?;
    settle()?;
    let moved = arena.counters()?.since(&before)?;
    assert_eq!(moved.of("eth0", "inbound", "allowed"), 0, "{moved:?}");
    assert_eq!(moved.0.len(), 1, "{moved:?}");
    Ok(())
}
