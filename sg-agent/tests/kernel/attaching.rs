//! Programs come onto the hooks that are asked for, and leave what they find alone.

use sg_agent::kernel::{AttachRequest, HookChoice, Kernel, KernelError, Settings, Side};
use sg_common::{
    abi::ABI_VERSION,
    tuple::Direction,
    verdict::{AllowReason, DropReason, Verdict},
};

use crate::sandbox::{
    ALLOWED, DENIED, HOST, NOTHING, PEER, SIZES, Sandbox, WEB, addr, alive, has_tcx, image, packets, request,
    sandbox, settings, shell, talks, tc_hooks,
};

fn judges(sandbox: &Sandbox) {
    assert!(sandbox.connects(ALLOWED), "an allowed port connects");
    assert!(!sandbox.connects(DENIED), "another does not");
}

/// Programs of others on each hook of the one attachment.
fn others(kernel: &Kernel) -> Vec<Vec<String>> {
    let [attached] = kernel.reader().unwrap().attachments().unwrap().try_into().unwrap();
    attached.hooks.into_iter().map(|state| state.other_programs).collect()
}

#[test]
fn nothing_is_attached_before_the_first_policy() {
    sandbox(|sandbox| {
        let (mut kernel, _) = sandbox.open();
        let error = kernel.attach(&request("h0", HookChoice::Auto)).unwrap_err();
        assert!(matches!(error, KernelError::NothingPublished), "{error}");
        assert!(sandbox.connects(DENIED), "and so nothing is dropped");
    });
}

#[test]
fn a_veth_is_enforced_at_tc() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.published(WEB);
        assert!(sandbox.connects(DENIED), "not attached, not enforced");
        let attached = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!(alive(&attached), tc_hooks());
        assert!(attached.hooks[0].why.contains("veth"), "{}", attached.hooks[0].why);
        judges(sandbox);
        let counters = kernel.reader().unwrap().zone_counters(0).unwrap();
        let no_rule = Verdict::Drop(DropReason::NoRule);
        assert_eq!(packets(&counters, Direction::Inbound, no_rule), 1, "the SYN to the denied port");
        let opened = Verdict::Allow(AllowReason::Rule, None);
        assert_eq!(packets(&counters, Direction::Inbound, opened), 1, "the SYN to the allowed port");
        assert_eq!(kernel.attached(), [attached]);
        kernel.detach(request("h0", HookChoice::Auto).ifindex).unwrap();
        assert!(kernel.attached().is_empty() && sandbox.connects(DENIED), "detached");
    });
}

#[test]
fn xdp_is_forced_onto_a_veth() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.published(WEB);
        let attached = kernel.attach(&request("h0", HookChoice::Xdp)).unwrap();
        assert_eq!(alive(&attached), ["xdp", tc_hooks()[1]]);
        assert_eq!(attached.hooks[0].mode, "native");
        assert!(shell("ip -d link show dev h0").contains("prog/xdp"), "driver mode");
        judges(sandbox);
        let tc = kernel.attach(&request("h0", HookChoice::Tc)).unwrap();
        assert_eq!(alive(&tc), tc_hooks(), "the hook changes");
        assert!(!shell("ip -d link show dev h0").contains("prog/xdp"), "and XDP is gone");
        judges(sandbox);
    });
}

#[test]
fn an_occupied_xdp_hook_is_told_by_its_program_and_never_an_open_door() {
    sandbox(|sandbox| {
        // Another agent's program is as foreign as any.
        let other = sg_agent::kernel::Paths { bpffs: sandbox.paths.bpffs.with_file_name("other") };
        let (mut first, _) = Kernel::open(&other, &SIZES, &settings()).unwrap();
        first.publish(&image(WEB, 1, Side::Host), 1, 2).unwrap();
        first.attach(&request("h0", HookChoice::Xdp)).unwrap();
        let mut kernel = sandbox.published(NOTHING);
        let error = kernel.check(&request("h0", HookChoice::Xdp)).unwrap_err();
        assert!(error.to_string().contains("h0 is occupied by program sg_xdp (id "), "{error}");
        assert!(error.remedy().unwrap().contains("hook: auto"));
        assert!(kernel.attached().is_empty() && sandbox.connects(ALLOWED), "asking changes nothing");
        judges(sandbox);
        // Attached all the same, it is enforced where it can be.
        let attached = kernel.attach(&request("h0", HookChoice::Xdp)).unwrap();
        assert_eq!(alive(&attached), tc_hooks());
        let lacks = attached.lacks_xdp().unwrap();
        assert!(lacks.contains("XDP is asked for, but the XDP hook of h0 is occupied by"), "{lacks}");
        assert!(!sandbox.connects(ALLOWED), "the second policy allows nothing");
        assert!(kernel.look().repairs.is_empty(), "there is nothing to mend yet");
        first.detach(attached.ifindex).unwrap();
        assert_eq!(kernel.look().repairs.len(), 1, "the hook is free");
        let [attached] = kernel.attached().try_into().unwrap();
        assert_eq!(alive(&attached), ["xdp", tc_hooks()[1]]);
        assert_eq!(attached.lacks_xdp(), None);
    });
}

#[test]
fn a_guest_is_enforced_the_other_way_round() {
    sandbox(|sandbox| {
        let (mut kernel, _) = sandbox.open();
        kernel.publish(&image(NOTHING, 1, Side::Guest), 1, 1).unwrap();
        let guest = AttachRequest { side: Side::Guest, ..request("h0", HookChoice::Auto) };
        let attached = kernel.attach(&guest).unwrap();
        assert_eq!(attached.hooks[0].direction, Direction::Outbound, "ingress is what the guest sends");
        assert!(!sandbox.connects(ALLOWED));
        let counters = kernel.reader().unwrap().zone_counters(0).unwrap();
        assert_eq!(packets(&counters, Direction::Outbound, Verdict::Drop(DropReason::NoRule)), 1);
    });
}

#[test]
fn kernels_without_tcx_get_filters() {
    sandbox(|sandbox| {
        let settings = Settings { avoid_tcx: true, ..settings() };
        let (mut kernel, _) = Kernel::open(&sandbox.paths, &SIZES, &settings).unwrap();
        kernel.publish(&image(WEB, 1, Side::Host), 1, 2).unwrap();
        let filters = || {
            ["ingress", "egress"]
                .map(|hook| shell(&format!("tc filter show dev h0 {hook}")).matches("direct-action").count())
        };
        let wanted = request("h0", HookChoice::Auto);
        let attached = kernel.attach(&wanted).unwrap();
        assert_eq!(alive(&attached), ["clsact_ingress", "clsact_egress"]);
        assert_eq!(filters(), [1, 1]);
        judges(sandbox);
        kernel.attach(&wanted).unwrap();
        drop(kernel);
        assert_eq!(filters(), [1, 1], "it is replaced, and outlives the agent");
        judges(sandbox);
        shell("tc filter add dev h0 ingress prio 7 protocol ip u32 match u32 0 0 classid 1:1");
        let (mut kernel, _) = Kernel::open(&sandbox.paths, &SIZES, &settings).unwrap();
        assert_eq!(others(&kernel)[0], ["u32"]);
        kernel.detach(wanted.ifindex).unwrap();
        assert!(sandbox.connects(DENIED));
        assert!(shell("tc qdisc show dev h0").contains("clsact"), "another's filter keeps the qdisc");
        assert!(shell("tc filter show dev h0 ingress").contains("u32"));
        shell("tc qdisc del dev h0 clsact");
        kernel.attach(&wanted).unwrap();
        kernel.detach(wanted.ifindex).unwrap();
        assert!(!shell("tc qdisc show dev h0").contains("clsact"), "our own goes with the last filter");
        shell("tc qdisc add dev h0 clsact");
        kernel.attach(&wanted).unwrap();
        kernel.detach(wanted.ifindex).unwrap();
        assert!(shell("tc qdisc show dev h0").contains("clsact"), "and one that was there stays");
    });
}

#[test]
fn filters_give_way_to_links_and_back() {
    sandbox(|sandbox| {
        let avoiding = Settings { avoid_tcx: true, ..settings() };
        let mut kernel = sandbox.enforcing(WEB);
        kernel.tune(&avoiding);
        let attached = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!(alive(&attached), ["clsact_ingress", "clsact_egress"]);
        judges(sandbox);
        kernel.tune(&settings());
        let attached = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!(alive(&attached), tc_hooks());
        judges(sandbox);
        assert_eq!(shell("tc qdisc show dev h0").contains("clsact"), !has_tcx());
    });
}

/// On kernels without TCX links [`filters_that_others_put_in_front_get_behind`] alone is to be shown.
#[test]
fn programs_that_others_put_in_front_get_behind() {
    if !has_tcx() {
        return;
    }
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        assert!(!kernel.put_first().unwrap(), "nobody is in front");
        let mut open = sandbox.connect(ALLOWED).unwrap();
        let other = sg_agent::kernel::Paths { bpffs: sandbox.paths.bpffs.with_file_name("other") };
        let (mut second, _) = Kernel::open(&other, &SIZES, &settings()).unwrap();
        second.publish(&image(WEB, 1, Side::Host), 1, 2).unwrap();
        second.attach(&request("h0", HookChoice::Auto)).unwrap();
        let [attached] = kernel.attached().try_into().unwrap();
        assert!(attached.hooks[0].programs_before[0].starts_with("sg_tc_ingress (id "), "{attached:?}");
        assert!(kernel.put_first().unwrap());
        let [attached] = kernel.attached().try_into().unwrap();
        assert_eq!(alive(&attached), tc_hooks());
        assert!(attached.hooks.iter().all(|state| state.programs_before.is_empty()), "{attached:?}");
        assert!(others(&kernel).iter().all(|others| others.len() == 1), "{:?}", others(&kernel));
        assert!(talks(&mut open));
        judges(sandbox);
        drop(kernel);
        second.detach(attached.ifindex).unwrap();
        judges(sandbox);
    });
}

#[test]
fn filters_that_others_put_in_front_get_behind() {
    sandbox(|sandbox| {
        let avoiding = Settings { avoid_tcx: true, ..settings() };
        let (mut kernel, _) = Kernel::open(&sandbox.paths, &SIZES, &avoiding).unwrap();
        kernel.publish(&image(WEB, 1, Side::Host), 1, 2).unwrap();
        let wanted = request("h0", HookChoice::Auto);
        kernel.attach(&wanted).unwrap();
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert!(!kernel.put_first().unwrap(), "nobody is in front");
        // Another agent's program, by the hand of somebody who knows nothing of either.
        let other = sg_agent::kernel::Paths { bpffs: sandbox.paths.bpffs.with_file_name("other") };
        drop(Kernel::open(&other, &SIZES, &settings()).unwrap());
        let program = other.bpffs.join(format!("v{ABI_VERSION}/current/programs/sg_tc_ingress"));
        let add = "tc filter add dev h0 ingress prio 1 protocol all handle 1 bpf direct-action object-pinned";
        shell(&format!("{add} {}", program.display()));
        for _ in 0..2 {
            let [attached] = kernel.attached().try_into().unwrap();
            assert_eq!(attached.hooks[0].programs_before.len(), 1, "{attached:?}");
            assert!(kernel.put_first().unwrap());
            let [attached] = kernel.attached().try_into().unwrap();
            assert_eq!(alive(&attached), ["clsact_ingress", "clsact_egress"]);
            assert!(attached.hooks[0].programs_before.is_empty(), "{attached:?}");
            assert_eq!(others(&kernel)[0].len(), 1);
            assert!(talks(&mut open) && !sandbox.connects(DENIED));
            // In front again.
            shell("tc filter del dev h0 ingress prio 1 protocol all handle 1 bpf");
            shell(&format!("{add} {}", program.display()));
        }
        kernel.detach(wanted.ifindex).unwrap();
        let left = shell("tc filter show dev h0 ingress");
        assert_eq!(left.matches("direct-action").count(), 1, "the other one alone: {left}");
    });
}

#[test]
fn another_interface_with_the_name_is_not_attached() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.published(WEB);
        let stale = AttachRequest { ifindex: 1, ..request("h0", HookChoice::Auto) };
        let error = kernel.attach(&stale).unwrap_err();
        assert!(matches!(error, KernelError::NoInterface { .. }), "{error}");
        let gone = AttachRequest { ifindex: 999, ..stale };
        assert!(matches!(kernel.attach(&gone).unwrap_err(), KernelError::NoInterface { .. }));
    });
}

#[test]
fn open_sockets_are_entered_before_enforcement() {
    sandbox(|sandbox| {
        use sg_agent::kernel::{Seed, sockets};
        let mut kernel = sandbox.published(NOTHING);
        let mut known = sandbox.connect(ALLOWED).unwrap();
        let mut unknown = sandbox.connect(DENIED).unwrap();
        let host = addr(HOST);
        let seeds: Vec<_> = sockets()
            .unwrap()
            .into_iter()
            .filter(|socket| socket.local == host && socket.local_port == ALLOWED)
            .map(|socket| Seed { zone: 0, socket })
            .collect();
        assert_eq!(seeds.len(), 1);
        assert_eq!(seeds[0].socket.remote, addr(PEER));
        assert_eq!(kernel.seed_flows(&seeds).unwrap(), 1);
        assert_eq!(kernel.seed_flows(&seeds).unwrap(), 0, "it is there already");
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert!(talks(&mut known), "an open connection goes on");
        assert!(!talks(&mut unknown), "one that was not entered does not");
        assert!(!sandbox.connects(ALLOWED), "nothing new is allowed");
        assert_eq!(kernel.reader().unwrap().flow_usage().0, 1);
        kernel.clear_zone(0).unwrap();
        assert_eq!(kernel.reader().unwrap().flow_usage().0, 0);
        assert!(!talks(&mut known), "forgotten");
    });
}
