use super::*;
use crate::wire::tcp_flag::{ACK, FIN, SYN};

const REMOTE: Addr = Addr::v4(0xc000_0207);
const SSH: Unlock = Unlock { protocol: Protocol::TCP, port: 22, remote: REMOTE, zone: None };

fn packet(protocol: Protocol, source: (Addr, u16), destination: (Addr, u16), tcp_flags: u8) -> Packet {
    let transport = Transport {
        protocol: protocol.0,
        source_port: source.1,
        destination_port: destination.1,
        ..Transport::default()
    };
    Packet { source: source.0, destination: destination.0, transport, tcp_flags, ..Packet::default() }
}

fn unlocked(unlock: &Unlock, until: u64) -> Unlocks {
    let unlocks = Unlocks::default();
    // The last place counts as the first does.
    unlocks.places[UNLOCKS - 1].prepare(unlock);
    unlocks.places[UNLOCKS - 1].until.store(until);
    unlocks
}

#[test]
fn one_port_is_open_to_one_address_both_ways_for_a_time() {
    let local = Addr::v4(0x0a00_0001);
    let other = Addr::v4(0xc000_0208);
    let (zone, tcp) = (3, Protocol::TCP);
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    let rows = [
        ("a question", inbound, packet(tcp, (REMOTE, 40_000), (local, 22), SYN), true),
        ("its answer", outbound, packet(tcp, (local, 22), (REMOTE, 40_000), SYN | ACK), true),
        ("another port", inbound, packet(tcp, (REMOTE, 40_000), (local, 23), SYN), false),
        ("from that port", inbound, packet(tcp, (REMOTE, 22), (local, 40_000), SYN), false),
        ("to that port", outbound, packet(tcp, (local, 40_000), (REMOTE, 22), SYN), false),
        ("another address", inbound, packet(tcp, (other, 40_000), (local, 22), SYN), false),
        ("to another address", outbound, packet(tcp, (local, 22), (other, 40_000), ACK), false),
        ("another protocol", inbound, packet(Protocol::UDP, (REMOTE, 40_000), (local, 22), 0), false),
        ("no such flags", inbound, packet(tcp, (REMOTE, 40_000), (local, 22), SYN | FIN), false),
        ("of no flags", inbound, packet(tcp, (REMOTE, 40_000), (local, 22), 0), false),
    ];
    let unlocks = unlocked(&SSH, 500);
    for (what, direction, packet, expected) in rows {
        let way = Way { zone, direction };
        for (jiffies, is_in_time) in [(0, true), (499, true), (500, false), (u64::MAX, false)] {
            let found = opens(&unlocks, &packet, way, jiffies);
            assert_eq!(found, expected && is_in_time, "{what} at {jiffies}");
        }
        assert!(!opens(&Unlocks::default(), &packet, way, 0), "{what}: nothing is unlocked");
        let here = unlocked(&Unlock { zone: Some(zone), ..SSH }, 500);
        assert_eq!(opens(&here, &packet, way, 0), expected, "{what}, on its interface");
        for zone in [0, 2, 4, zone | 1 << 23] {
            assert!(!opens(&here, &packet, Way { zone, direction }, 0), "{what}, on zone {zone}");
        }
    }
    let later = Packet { fragment_offset: 9, ..packet(tcp, (REMOTE, 40_000), (local, 22), 0) };
    assert!(opens(&unlocks, &later, Way { zone, direction: inbound }, 0), "a later fragment has no flags");
}

#[test]
fn what_is_written_is_read() {
    for unlock in [
        SSH,
        Unlock { zone: Some(0), ..SSH },
        Unlock { zone: Some(0x00ff_ffff), protocol: Protocol::UDP, port: 65_535, remote: Addr::v6(1, 2) },
    ] {
        let place = Place::default();
        assert_eq!(place.read(), None);
        place.prepare(&unlock);
        assert_eq!(place.read(), None, "not before its time is written");
        place.until.store(7);
        assert_eq!(place.read(), Some((unlock, 7)));
    }
}
