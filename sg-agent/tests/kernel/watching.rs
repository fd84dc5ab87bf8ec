//! Interfaces and addresses are listed, and changes of them told.

use std::time::Duration;

use sg_agent::kernel::links::{Interface, Interfaces, Watcher};
use sg_common::addr::Prefix;

use crate::sandbox::{HOST, addr, sandbox, shell};

fn named(name: &str) -> Option<Interface> {
    Interfaces::snapshot().unwrap().into_iter().find(|interface| interface.name == name)
}

#[test]
fn interfaces_are_listed_with_what_they_carry() {
    sandbox(|_| {
        let veth = named("h0").unwrap();
        assert_eq!((veth.kind.as_deref(), veth.arphrd), (Some("veth"), 1));
        assert!(veth.is_up && veth.is_supported && !veth.bare_ip && veth.mac.len() == 6);
        for own in [HOST, "fd09::1"] {
            assert!(veth.addresses.contains(&Prefix::host(addr(own))), "{own}: {veth:?}");
        }
        shell("ip tuntap add dev t0 mode tun; ip addr add 10.8.0.1 peer 10.8.0.2 dev t0");
        let tun = named("t0").unwrap();
        assert!(tun.bare_ip && tun.is_supported && !tun.is_up);
        assert_eq!(tun.addresses, [Prefix::host(addr("10.8.0.1"))], "not the peer's");
        assert_eq!(tun.kind.as_deref(), Some("tun"));
    });
}

#[test]
fn changes_are_told() {
    sandbox(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut watcher = Watcher::open().unwrap();
            let mut told = async || {
                let first = tokio::time::timeout(Duration::from_secs(5), watcher.changed()).await;
                // Changes come in several messages.
                while tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await.is_ok() {}
                first.is_ok()
            };
            for change in [
                "ip link add d0 type bridge",
                "ip addr add 10.7.0.1/24 dev d0",
                "ip addr add fd07::1/64 dev d0",
                "ip addr del 10.7.0.1/24 dev d0",
                "ip link set d0 name d1",
                "ip link del d1",
            ] {
                shell(change);
                assert!(told().await, "{change}");
            }
            // More than the socket's buffer holds.
            shell("for i in $(seq 400); do echo link add x$i type bridge; done | ip -batch -");
            assert!(told().await);
            assert!(named("x400").is_some());
        });
    });
}
