//! Commands read what the kernel holds, with nobody else there.

use sg_agent::kernel::Reader;
use sg_common::{
    flow::{FlowKey, FlowState},
    tuple::{Direction, Protocol, Selector, Table},
    verdict::DropReason,
};

use crate::sandbox::{ALLOWED, DENIED, HOST, PEER, WEB, addr, sandbox, talks};

#[test]
fn flows_and_counters_are_read_with_the_daemon_dead() {
    sandbox(|sandbox| {
        assert!(Reader::open(&sandbox.paths).unwrap().is_none(), "nothing is enforced yet");
        drop(sandbox.enforcing(WEB));
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert!(talks(&mut open) && !sandbox.connects(DENIED));
        let reader = Reader::open(&sandbox.paths).unwrap().unwrap();
        assert_eq!(reader.state().0, 1);
        let [attached] = reader.attachments().unwrap().try_into().unwrap();
        assert!(attached.hooks.iter().all(|state| state.is_alive));
        let port = open.0.local_addr().unwrap().port();
        let (local, remote) = (addr(HOST), addr(PEER));
        let key = FlowKey::new(0, Protocol::TCP, local, ALLOWED, remote, port);
        let flow = reader.find_flow(&key).unwrap();
        assert_eq!((flow.state, flow.opener), (FlowState::Established, Direction::Inbound));
        assert_eq!((flow.generation, flow.rule), (1, Some(0)));
        assert_eq!(flow.selector, Selector { table: Table::Tcp, value: ALLOWED });
        assert!(flow.packets.iter().all(|packets| *packets >= 2), "{flow:?}");
        assert_eq!(reader.flows().collect::<Vec<_>>(), [flow]);
        assert!(reader.since(flow.opened).as_secs() < 10, "the clock agrees with the programs'");
        let [rule, outbound] = reader.rule_counters(2).unwrap().try_into().unwrap();
        assert_eq!((rule.flows, outbound.flows), (1, 0));
        assert!(rule.packets >= 5 && reader.since(rule.last_hit as u32).as_secs() < 10, "{rule:?}");
        let reversed = FlowKey::new(0, Protocol::TCP, remote, port, local, ALLOWED);
        assert_eq!(reader.find_flow(&reversed), None);
    });
}

#[test]
fn drops_are_told_while_somebody_listens() {
    sandbox(|sandbox| {
        drop(sandbox.enforcing(WEB));
        assert!(!sandbox.connects(DENIED), "told to nobody");
        let reader = Reader::open(&sandbox.paths).unwrap().unwrap();
        let mut events = reader.events().unwrap();
        assert_eq!(events.try_next(), None);
        assert!(!sandbox.connects(DENIED));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let event = runtime.block_on(events.next()).unwrap();
        assert_eq!((event.source, event.destination), (addr(PEER), addr(HOST)));
        assert_eq!((event.destination_port, event.protocol), (DENIED, Protocol::TCP.0));
        assert_eq!(event.reason, DropReason::NoRule.number());
        assert_eq!(event.direction, Direction::Inbound as u8);
        assert_eq!(event.ifindex, crate::sandbox::ifindex("h0"));
        drop(events);
        assert!(!sandbox.connects(DENIED), "told to nobody again");
        assert_eq!(reader.events().unwrap().try_next(), None);
    });
}
