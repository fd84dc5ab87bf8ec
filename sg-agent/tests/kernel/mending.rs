//! What others take is put back, and where it cannot be, enforcement goes on.

use std::fs;

use sg_agent::kernel::{HookChoice, Kernel, Look, Opened, Settings};

use crate::sandbox::{
    ALLOWED, DENIED, SIZES, Sandbox, WEB, alive, ifindex, image, request, sandbox, settings, shell, talks,
};

/// A kernel with filters instead of links, as before Linux 6.6.
fn with_filters(sandbox: &Sandbox) -> Kernel {
    let avoiding = Settings { avoid_tcx: true, ..settings() };
    let (mut kernel, _) = Kernel::open(&sandbox.paths, &SIZES, &avoiding).unwrap();
    kernel.publish(&image(WEB, 1, sg_agent::kernel::Side::Host), 1, 2).unwrap();
    kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
    kernel
}

/// What a look says that it has mended.
fn mended(look: &Look) -> Vec<&str> {
    assert_eq!(look.problems, [""; 0]);
    look.repairs.iter().map(|repair| repair.what.as_str()).collect()
}

#[test]
fn filters_come_back() {
    sandbox(|sandbox| {
        let mut kernel = with_filters(sandbox);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert_eq!(kernel.look(), Look::default(), "nothing is wrong");
        let (ingress, egress) =
            ("the program was gone from clsact_ingress", "the program was gone from clsact_egress");
        for (command, expected) in [
            ("tc qdisc del dev h0 clsact", vec![ingress, egress]),
            ("tc filter del dev h0 ingress", vec![ingress]),
            ("tc filter del dev h0 egress", vec![egress]),
        ] {
            shell(command);
            assert_eq!(mended(&kernel.look()), expected, "{command}");
            assert_eq!(alive(&kernel.attached()[0]), ["clsact_ingress", "clsact_egress"], "{command}");
            assert!(talks(&mut open) && !sandbox.connects(DENIED), "{command}");
            assert_eq!(kernel.reader().unwrap().flow_usage().0, 1, "{command}: its flow is kept");
            assert_eq!(kernel.look(), Look::default(), "{command}: mended");
        }
        kernel.detach(ifindex("h0")).unwrap();
        assert!(!shell("tc qdisc show dev h0").contains("clsact"), "the qdisc is still ours to remove");
    });
}

#[test]
fn an_interface_made_anew_is_not_mended_but_another() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        sandbox.connect(ALLOWED).unwrap();
        let index = ifindex("h0");
        shell(&format!("ip link del h0; ip link add h0 index {index} type veth peer name p1"));
        assert_eq!(kernel.look(), Look::default(), "that is for the event");
        let [attached] = kernel.attached().try_into().unwrap();
        assert!(attached.is_gone);
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        let [attached] = kernel.attached().try_into().unwrap();
        assert!(!attached.is_gone && alive(&attached).len() == 2, "{attached:?}");
        assert_eq!(kernel.reader().unwrap().flow_usage().0, 0, "no flow of the old one is left");
    });
}

#[test]
fn one_that_moved_away_leaves_its_index_to_another() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let index = ifindex("h0");
        shell(&format!(
            "ip link set h0 netns {}; ip link add h0 index {index} type veth peer name p1",
            sandbox.peer.thread_id
        ));
        let [attached] = kernel.attached().try_into().unwrap();
        assert!(attached.is_gone && alive(&attached) == [""; 0], "{attached:?}");
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        let [attached] = kernel.attached().try_into().unwrap();
        assert!(!attached.is_gone && alive(&attached).len() == 2, "{attached:?}");
    });
}

#[test]
fn where_pins_cannot_be_had_enforcement_goes_on() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        let point = sandbox.paths.bpffs.parent().unwrap().to_owned();
        shell(&format!("umount -l {0} && rmdir {0}", point.display()));
        for _ in 0..2 {
            let look = kernel.look();
            assert_eq!((look.repairs, look.problems.len()), (vec![], 1), "it is told, each time");
        }
        assert!(talks(&mut open) && !sandbox.connects(DENIED), "what is held judges");
        // What is to be done meanwhile can be done: new policies, new interfaces, and reading.
        kernel.publish(&image(WEB, 1, sg_agent::kernel::Side::Host), 2, 2).unwrap();
        shell("ip link add h1 type veth peer name p1");
        kernel.attach(&request("h1", HookChoice::Auto)).unwrap();
        assert_eq!(kernel.reader().unwrap().attachments().unwrap().len(), 2);
        // As soon as there is a place again, everything is pinned there.
        fs::create_dir(&point).unwrap();
        let repaired = kernel.look();
        assert_eq!(mended(&repaired), [format!("the BPF file system of {} was gone", point.display())]);
        assert_eq!(kernel.look(), Look::default());
        drop(kernel);
        let (kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.attached().len(), kernel.generation()), (Opened::Adopted, 2, 2));
        assert!(talks(&mut open) && !sandbox.connects(DENIED));
    });
}
