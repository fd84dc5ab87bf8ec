//! Policies take each other's places between two packets, in buffers that grow when they must.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sg_agent::kernel::{AttachRequest, HookChoice, KernelError, Opened, Side};
use sg_common::{
    tuple::Direction,
    verdict::{DropReason, Verdict},
};

use crate::sandbox::{
    ALLOWED, DENIED, HOST, NOTHING, PEER, WEB, alive, all_packets, image, packets, request, sandbox, talks,
    tc_hooks,
};

/// [`WEB`] and a list of so many prefixes.
fn large(prefixes: u32) -> String {
    let mut text = String::from("version: 1\nprefix_lists:\n  many:\n    entries:\n");
    for number in 0..prefixes {
        let [_, a, b, c] = (number * 2).to_be_bytes();
        writeln!(text, "    - 20.{a}.{b}.{c}/32").unwrap();
    }
    text + "groups:\n  web:\n    inbound: [{allow: tcp/80, from: 10.9.0.0/24}, {allow: udp/53, from: list:many}]\n"
}

/// A policy whose image needs more than one element of the map: hosts of IPv6 take most.
pub(crate) fn larger_than_a_chunk() -> String {
    let hosts: String = (0..120_000_u32)
        .map(|number| format!("    - 2001:db8:{0:x}:{1:x}::{0:x}:{1:x}/128\n", number >> 16, number & 0xffff))
        .collect();
    large(0).replace("entries:\n", &format!("entries:\n{hosts}"))
}

#[test]
fn a_policy_takes_the_place_of_another() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        assert!(sandbox.connects(ALLOWED));
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert!(talks(&mut open));
        for generation in 2..8 {
            let (text, is_open) = if generation % 2 == 0 { (NOTHING, false) } else { (WEB, true) };
            let wanted = image(text, 1, Side::Host);
            let published = kernel.publish(&wanted, generation, 2).unwrap();
            assert_eq!((published.generation, published.has_grown), (generation, false));
            assert_eq!(kernel.generation(), generation);
            assert_eq!(kernel.current_image().unwrap().nodes(), wanted.nodes());
            assert_eq!(sandbox.connects(ALLOWED), is_open, "generation {generation}");
            if !is_open {
                assert!(!talks(&mut open), "an open connection ends in generation {generation}");
            }
        }
    });
}

#[test]
fn a_zone_that_an_image_lacks_is_not_found_in_what_was_there_before() {
    sandbox(|sandbox| {
        let (mut kernel, _) = sandbox.open();
        for generation in [1, 2] {
            kernel.publish(&image(WEB, 32, Side::Host), generation, 2).unwrap();
        }
        kernel.attach(&AttachRequest { zone: 31, ..request("h0", HookChoice::Auto) }).unwrap();
        assert!(sandbox.connects(ALLOWED));
        let shorter = image(NOTHING, 1, Side::Host);
        assert!(shorter.nodes().len() < 32, "the record of zone 31 would lie behind it");
        kernel.publish(&shorter, 3, 2).unwrap();
        assert!(!sandbox.connects(ALLOWED));
        let counters = kernel.reader().unwrap().zone_counters(31).unwrap();
        let lost = Verdict::Drop(DropReason::PolicyUnavailable);
        assert!(packets(&counters, Direction::Inbound, lost) > 0, "{counters:?}");
        assert_eq!(kernel.current_image().unwrap().nodes(), shorter.nodes());
    });
}

#[test]
fn what_is_no_image_changes_nothing() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let before = kernel.current_image().unwrap();
        let error = kernel.publish(&image(NOTHING, 1, Side::Host), 0, 1).unwrap_err();
        assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
        assert_eq!(kernel.generation(), 1);
        assert_eq!(kernel.current_image().unwrap().nodes(), before.nodes());
        assert!(sandbox.connects(ALLOWED));
    });
}

/// Datagrams that came, and that the test was too slow to take.
fn overflown() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let names = lines.next().unwrap().split_whitespace();
    let numbers = lines.next().unwrap().split_whitespace();
    names.zip(numbers).find(|(name, _)| *name == "RcvbufErrors").unwrap().1.parse().unwrap()
}

/// Ends the threads that look at it however the test ends: the sandbox waits for those of its own.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

/// A buffer is one element of the map, the map of counters has two zones and four rules. Each of them grows
/// while datagrams go both ways: not one is lost or let through, and each is counted once.
#[test]
fn maps_grow_under_traffic() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(
            "{version: 1, groups: {web: {inbound: [{allow: [udp/80, tcp/80], from: 10.9.0.0/24}]}}}",
        );
        let before = kernel.reader().unwrap().zone_counters(0).unwrap();
        let stop = Stop::default();
        let [allowed, denied] = [ALLOWED, DENIED].map(|port| UdpSocket::bind((HOST, port)).unwrap());
        allowed.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        denied.set_nonblocking(true).unwrap();
        let receiving = std::thread::spawn({
            let stop = stop.0.clone();
            move || {
                let mut received = 0_u64;
                while allowed.recv(&mut [0; 8]).is_ok() || !stop.load(Ordering::Relaxed) {
                    received += 1;
                }
                received
            }
        });
        let sending = sandbox.peer.begin({
            let stop = stop.0.clone();
            move || {
                let socket = UdpSocket::bind((PEER, 4000)).unwrap();
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for port in [ALLOWED, DENIED] {
                        socket.send_to(&sent.to_ne_bytes(), (HOST, port)).unwrap();
                    }
                    sent += 1;
                    std::thread::sleep(Duration::from_micros(100));
                }
                sent
            }
        });
        for (generation, text, zones) in
            [(2, large(2_000), 1), (3, large(6_000), 9), (4, larger_than_a_chunk(), 9)]
        {
            let text = text.replace("tcp/80", "[udp/80, tcp/80]");
            let wanted = image(&text, zones, Side::Host);
            let published = kernel.publish(&wanted, generation, 300).unwrap();
            assert!(published.has_grown, "generation {generation}");
            assert_eq!(kernel.current_image().unwrap().nodes(), wanted.nodes());
        }
        stop.now();
        let sent = sending.recv().unwrap();
        assert!(sent > 100, "{sent} sent: too few to tell");
        let received = receiving.join().unwrap() + overflown();
        assert_eq!(received, sent, "every allowed datagram arrived");
        assert!(denied.recv(&mut [0; 8]).is_err(), "no denied one did");
        let after = kernel.reader().unwrap().zone_counters(0).unwrap();
        let counted = |counters| all_packets(counters, Direction::Inbound);
        // ARP and neighbour discovery pass the hook too.
        let surplus = counted(&after) - counted(&before) - 2 * sent;
        assert!(surplus < 32, "each is counted once: {surplus} more than {sent} times two");
        let rules = kernel.reader().unwrap().rule_counters(300).unwrap();
        assert_eq!(rules.iter().map(|rule| rule.flows).sum::<u64>(), 1, "one flow, over all maps");
        let [attached] = kernel.attached().try_into().unwrap();
        assert_eq!(alive(&attached), tc_hooks());
        drop(kernel);
        let (kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.generation()), (Opened::Adopted, 4), "the large maps are adopted");
    });
}

#[test]
fn an_attachment_makes_room_for_its_zone() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.published(WEB);
        kernel.publish(&image(WEB, 5, Side::Host), 2, 2).unwrap();
        let mut wanted = request("h0", HookChoice::Auto);
        wanted.zone = 4;
        kernel.attach(&wanted).unwrap();
        assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
        let counters = kernel.reader().unwrap().zone_counters(4).unwrap();
        assert!(all_packets(&counters, Direction::Inbound) > 0);
        wanted.zone = 1 << 24;
        assert!(matches!(kernel.attach(&wanted).unwrap_err(), KernelError::TooLarge { .. }));
        assert!(!sandbox.connects(DENIED), "still enforced");
        kernel.detach(wanted.ifindex).unwrap();
        kernel.clear_zone(4).unwrap();
        let counters = kernel.reader().unwrap().zone_counters(4).unwrap();
        assert_eq!(all_packets(&counters, Direction::Inbound), 0);
    });
}
