//! A restart takes over what is pinned, without a gap; an upgrade takes its place.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use aya::maps::{Array, Map, MapData};
use sg_agent::kernel::{HookChoice, Kernel, KernelError, Opened, Paths, Settings, Side};
use sg_common::{
    flow::FLOW_LAYOUT,
    tuple::Direction,
    verdict::{DropReason, Verdict},
};

use crate::sandbox::{
    ALLOWED, DENIED, NOTHING, SIZES, WEB, alive, has_tcx, image, packets, request, sandbox, settings, shell,
    talks, tc_hooks,
};

#[test]
fn a_restart_adopts_and_keeps_flows() {
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        let before = (kernel.attached(), kernel.current_image().unwrap());
        let mut open = sandbox.connect(ALLOWED).unwrap();
        drop(kernel);
        assert!(talks(&mut open) && !sandbox.connects(DENIED), "enforced while no agent runs");
        let (mut kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.generation()), (Opened::Adopted, 1));
        assert_eq!(kernel.attached(), before.0);
        assert_eq!(kernel.current_image().unwrap().nodes(), before.1.nodes());
        assert!(talks(&mut open), "the flow is known");
        let again = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!([again], before.0.as_slice(), "asking again changes nothing");
        assert_eq!(kernel.reader().unwrap().flow_usage(), (1, SIZES.flows));
    });
}

#[test]
fn another_build_takes_the_place_of_the_programs_and_keeps_flows() {
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        drop(kernel);
        let build = sandbox.version().join("current/build");
        fs::remove_file(&build).unwrap();
        symlink("another", &build).unwrap();
        let (kernel, opened) = sandbox.open();
        assert_eq!(opened, Opened::Upgraded);
        assert_eq!(alive(&kernel.attached()[0]), tc_hooks());
        assert!(talks(&mut open) && !sandbox.connects(DENIED));
        drop(kernel);
        let (kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.generation()), (Opened::Adopted, 1));
        let sets = fs::read_dir(sandbox.version()).unwrap();
        let names = sets.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("set-")).count(), 1, "the old set is gone");
    });
}

#[test]
fn another_abi_version_is_taken_over_without_a_gap() {
    sandbox(|sandbox| {
        for (hook, avoid_tcx) in [(HookChoice::Tc, false), (HookChoice::Xdp, false), (HookChoice::Tc, true)] {
            let settings = Settings { avoid_tcx, ..settings() };
            let mut kernel = sandbox.published(WEB);
            kernel.tune(&settings);
            kernel.attach(&request("h0", hook)).unwrap();
            let mut open = sandbox.connect(ALLOWED).unwrap();
            drop(kernel);
            fs::rename(sandbox.version(), sandbox.paths.bpffs.join("v0")).unwrap();
            assert!(!sandbox.connects(DENIED), "the old version goes on");
            let (mut kernel, opened) = sandbox.open();
            assert_eq!((opened, kernel.generation(), kernel.latest_generation()), (Opened::Inherited, 0, 1));
            assert_eq!(kernel.inherited(), BTreeMap::from([(request("h0", hook).ifindex, 0)]));
            kernel.publish(&image(WEB, 1, Side::Host), 2, 2).unwrap();
            kernel.tune(&settings);
            assert!(!sandbox.connects(DENIED));
            let attached = kernel.attach(&request("h0", hook)).unwrap();
            assert_eq!(alive(&attached).len(), 2);
            assert!(attached.hooks.iter().all(|state| state.other_programs.is_empty()), "{attached:?}");
            let report = kernel.retire_other_versions();
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert!(!sandbox.paths.bpffs.join("v0").exists());
            assert!(kernel.inherited().is_empty() && talks(&mut open), "the flow is known");
            assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
            drop(kernel);
            sg_agent::kernel::detach_all(&sandbox.paths).unwrap();
            assert!(!shell("tc qdisc show dev h0").contains("clsact"));
        }
    });
}

#[test]
fn flows_of_another_version_are_judged_by_the_new_policy() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert!(talks(&mut open));
        drop(kernel);
        fs::rename(sandbox.version(), sandbox.paths.bpffs.join("v9")).unwrap();
        (kernel, _) = sandbox.open();
        kernel.publish(&image(NOTHING, 1, Side::Host), 2, 2).unwrap();
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert!(!talks(&mut open), "no rule allows it any more");
        let counters = kernel.reader().unwrap().zone_counters(0).unwrap();
        assert!(packets(&counters, Direction::Inbound, Verdict::Drop(DropReason::Revoked)) > 0);
    });
}

#[test]
fn flows_that_are_laid_out_otherwise_begin_anew() {
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        let _open = sandbox.connect(ALLOWED).unwrap();
        drop(kernel);
        // The first word is the layout, in every version.
        let basis = MapData::from_pin(sandbox.version().join("current/maps/FLOW_BASIS")).unwrap();
        let mut basis = Array::<_, [u64; 8]>::try_from(Map::Array(basis)).unwrap();
        let mut words = basis.get(&0, 0).unwrap();
        assert_eq!(words[..2], [FLOW_LAYOUT, 1]);
        words[0] += 1;
        basis.set(0, words, 0).unwrap();
        let old = sandbox.paths.bpffs.join("v9999");
        fs::rename(sandbox.version(), &old).unwrap();
        let mut kernel = sandbox.published(WEB);
        assert!(kernel.inherited().is_empty());
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!(kernel.reader().unwrap().flow_usage().0, 0);
        assert!(kernel.retire_other_versions().errors.is_empty() && !old.exists());
        assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
    });
}

#[test]
fn a_deleted_interface_is_cleaned_up_and_another_starts_bare() {
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        let index = request("h0", HookChoice::Auto).ifindex;
        drop(kernel);
        shell(&format!(
            "ip link del h0
             ip link add h0 index {index} type bridge
             ip link set h0 up"
        ));
        let (mut kernel, _) = sandbox.open();
        assert!(kernel.attached().is_empty());
        assert_eq!(fs::read_dir(sandbox.version().join("links")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(sandbox.version().join("notes")).unwrap().count(), 0);
        let attached = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        assert_eq!(alive(&attached).len(), 2);
        shell("ip link del h0");
        assert_eq!(alive(&kernel.attached()[0]), [""; 0], "dead, and told so");
        kernel.detach(index).unwrap();
        assert!(kernel.attached().is_empty());
    });
}

/// The agent dies while it takes an interface over from another version: once its own note is there, or
/// once a link runs its program and is still pinned by the other.
#[test]
fn a_takeover_that_dies_leaves_nothing_open_and_keeps_flows() {
    if !has_tcx() {
        return; // A filter lies in one place of both, and is taken over at once.
    }
    sandbox(|sandbox| {
        for is_updated in [true, false] {
            let old = sandbox.paths.bpffs.join("v0");
            let kernel = sandbox.enforcing(WEB);
            let mut open = sandbox.connect(ALLOWED).unwrap();
            let ifindex = request("h0", HookChoice::Auto).ifindex;
            let note = sandbox.version().join(format!("notes/{ifindex}"));
            let text = fs::read_link(&note).unwrap().into_os_string().into_string().unwrap();
            drop(kernel);
            fs::rename(sandbox.version(), &old).unwrap();
            let (mut kernel, _) = sandbox.open();
            kernel.publish(&image(WEB, 1, Side::Host), 2, 2).unwrap();
            if is_updated {
                kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
                drop(kernel);
                for hook in tc_hooks() {
                    let pin = format!("links/{ifindex}-{hook}");
                    fs::rename(sandbox.version().join(&pin), old.join(&pin)).unwrap();
                }
            } else {
                drop(kernel);
                let (before, hooks) = text.split_once("\"hooks\":[").unwrap();
                let (_, after) = hooks.split_once(']').unwrap();
                symlink(format!("{before}\"hooks\":[]{after}"), &note).unwrap();
            }
            let (mut kernel, opened) = sandbox.open();
            assert_eq!((opened, kernel.generation()), (Opened::Adopted, 2));
            assert!(!sandbox.connects(DENIED), "it never opens; updated: {is_updated}");
            assert_eq!(kernel.reader().unwrap().flow_usage().0, 1, "updated: {is_updated}");
            let zones = if is_updated { vec![] } else { vec![(ifindex, 0)] };
            assert_eq!(kernel.inherited(), zones.into_iter().collect());
            let attached = kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
            assert_eq!(alive(&attached), tc_hooks());
            assert!(attached.hooks.iter().all(|state| state.other_programs.is_empty()), "{attached:?}");
            let report = kernel.retire_other_versions();
            assert!(report.errors.is_empty() && !old.exists(), "{:?}", report.errors);
            assert!(talks(&mut open) && !sandbox.connects(DENIED));
            drop(kernel);
            sg_agent::kernel::detach_all(&sandbox.paths).unwrap();
        }
    });
}

#[test]
fn a_takeover_that_fails_half_way_leaves_nothing_open() {
    if !has_tcx() {
        return; // A filter has no pin that could be in the way.
    }
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        let wanted = request("h0", HookChoice::Auto);
        drop(kernel);
        fs::rename(sandbox.version(), sandbox.paths.bpffs.join("v0")).unwrap();
        let (mut kernel, _) = sandbox.open();
        kernel.publish(&image(WEB, 1, Side::Host), 2, 2).unwrap();
        // The second link's pin cannot be moved there.
        let in_the_way = sandbox.version().join(format!("links/{}-tcx_egress", wanted.ifindex));
        fs::create_dir(&in_the_way).unwrap();
        kernel.attach(&wanted).unwrap_err();
        assert!(!sandbox.connects(DENIED), "one of both versions judges");
        assert_eq!(kernel.reader().unwrap().flow_usage().0, 1);
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(alive(&kernel.attach(&wanted).unwrap()), tc_hooks());
        assert!(kernel.retire_other_versions().errors.is_empty());
        assert!(talks(&mut open) && !sandbox.connects(DENIED));
    });
}

/// The agent dies when the note of an attachment says what its slot does not yet say.
#[test]
fn what_is_noted_is_what_the_programs_go_by() {
    sandbox(|sandbox| {
        let (mut kernel, _) = sandbox.open();
        kernel.publish(&image(WEB, 2, Side::Host), 1, 2).unwrap();
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        drop(kernel);
        let ifindex = request("h0", HookChoice::Auto).ifindex;
        let note = sandbox.version().join(format!("notes/{ifindex}"));
        let text = fs::read_link(&note).unwrap().into_os_string().into_string().unwrap();
        fs::remove_file(&note).unwrap();
        symlink(text.replace("\"zone\":0", "\"zone\":1"), &note).unwrap();
        let (kernel, _) = sandbox.open();
        assert_eq!(kernel.attached()[0].zone, 1);
        assert!(!sandbox.connects(DENIED));
        let counters = kernel.reader().unwrap().zone_counters(1).unwrap();
        assert_eq!(packets(&counters, Direction::Inbound, Verdict::Drop(DropReason::NoRule)), 1);
    });
}

#[test]
fn what_runs_without_a_note_is_taken_over_and_never_opens() {
    sandbox(|sandbox| {
        for is_gone in [true, false] {
            if is_gone && !has_tcx() {
                continue; // Nothing tells where filters are.
            }
            let kernel = sandbox.enforcing(WEB);
            let mut open = sandbox.connect(ALLOWED).unwrap();
            let before = kernel.attached();
            drop(kernel);
            let note = sandbox.version().join(format!("notes/{}", before[0].ifindex));
            fs::remove_file(&note).unwrap();
            if !is_gone {
                symlink("{", &note).unwrap();
            }
            let (kernel, opened) = sandbox.open();
            assert_eq!((opened, kernel.reader().unwrap().flow_usage().0), (Opened::Adopted, 1));
            assert!(!sandbox.connects(DENIED), "is gone: {is_gone}");
            let after = kernel.attached();
            assert_eq!(
                (after[0].zone, after[0].side, alive(&after[0])),
                (0, Side::Host, tc_hooks().to_vec())
            );
            assert!(fs::read_link(&note).unwrap().to_str().unwrap().contains("h0"));
            assert!(talks(&mut open));
            drop(kernel);
            sg_agent::kernel::detach_all(&sandbox.paths).unwrap();
        }
    });
}

/// The interface has moved to another namespace, where its link lives on, and one that takes its place
/// has its index.
#[test]
fn an_interface_that_has_the_index_of_one_that_moved_away_is_another() {
    for hook in [HookChoice::Tc, HookChoice::Xdp] {
        sandbox(move |sandbox| {
            let kernel = sandbox.enforcing_at(WEB, hook);
            let wanted = request("h0", hook);
            drop(sandbox.connect(ALLOWED).unwrap());
            assert_eq!(kernel.reader().unwrap().flow_usage().0, 1);
            drop(kernel);
            sandbox.replace_host_end(wanted.ifindex);
            assert!(sandbox.connects(DENIED), "nothing is attached to it");
            let (mut kernel, _) = sandbox.open();
            assert!(kernel.attached().is_empty(), "{:?}", kernel.attached());
            assert_eq!(kernel.reader().unwrap().flow_usage().0, 0, "no flow of the old one is valid");
            let attached = kernel.attach(&wanted).unwrap();
            assert_eq!(alive(&attached).len(), 2);
            assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
        });
    }
}

#[test]
fn a_renamed_interface_stays_enforced() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        for end in [&open.0, &open.1] {
            // Neighbours are asked for anew, and TCP repeats what was lost.
            end.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        }
        shell(
            "ip link set h0 down; ip link set h0 name web0; ip link set web0 up; ip addr replace 10.9.0.1/24 dev web0",
        );
        assert!(talks(&mut open) && !sandbox.connects(DENIED));
        let attached = kernel.attach(&request("web0", HookChoice::Auto)).unwrap();
        assert_eq!((attached.name.as_str(), alive(&attached).len()), ("web0", 2));
        assert!(talks(&mut open));
    });
}

#[test]
fn a_removed_pin_ends_nothing_while_the_agent_runs_and_is_mended() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let pins = || fs::read_dir(sandbox.version().join("links")).unwrap();
        pins().for_each(|pin| fs::remove_file(pin.unwrap().path()).unwrap());
        assert!(!sandbox.connects(DENIED), "the agent holds the links");
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        // A filter is no link, and has no pin.
        assert_eq!(pins().count(), if has_tcx() { 2 } else { 0 }, "pinned again");
        drop(kernel);
        match pins().next() {
            Some(pin) => fs::remove_file(pin.unwrap().path()).unwrap(),
            None => assert_eq!(shell("tc filter del dev h0 ingress"), ""),
        }
        let (kernel, _) = sandbox.open();
        assert_eq!(alive(&kernel.attached()[0]).len(), 2, "what was taken away is back");
        assert!(!sandbox.connects(DENIED));
    });
}

#[test]
fn what_a_crash_left_is_cleaned_up() {
    sandbox(|sandbox| {
        let half = sandbox.version().join("set-1/maps");
        fs::create_dir_all(half).unwrap();
        let kernel = sandbox.enforcing(WEB);
        drop(kernel);
        fs::create_dir_all(sandbox.version().join("set-9/programs")).unwrap();
        let (kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.generation()), (Opened::Adopted, 1));
        assert!(!sandbox.version().join("set-9").exists());
        assert!(!sandbox.connects(DENIED));
    });
}

/// Pins every object of a folder in another one too.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            fs::hard_link(entry.path(), to).unwrap();
        }
    }
}

/// The agent dies once `current` leads to larger maps, and before a link runs their programs.
#[test]
fn a_crash_while_maps_grow_loses_no_count() {
    sandbox(|sandbox| {
        let folder = sandbox.version();
        let turn = |set: &str| {
            fs::remove_file(folder.join("current")).unwrap();
            symlink(set, folder.join("current")).unwrap();
        };
        let drops = |kernel: &Kernel| {
            let counters = kernel.reader().unwrap().zone_counters(0).unwrap();
            packets(&counters, Direction::Inbound, Verdict::Drop(DropReason::NoRule))
        };
        let mut kernel = sandbox.enforcing(WEB);
        assert!(!sandbox.connects(DENIED));
        copy(&folder.join("set-1"), &folder.join("small"));
        let grown = kernel.publish(&image(WEB, 9, Side::Host), 2, 90).unwrap();
        assert!(grown.has_grown && !sandbox.connects(DENIED));
        assert_eq!(drops(&kernel), 2, "one carried over, one new");
        copy(&folder.join("set-2"), &folder.join("large"));
        drop(kernel);
        fs::rename(folder.join("small"), folder.join("set-1")).unwrap();
        turn("set-1");
        let (kernel, _) = sandbox.open();
        assert_eq!(alive(&kernel.attached()[0]), tc_hooks());
        assert!(!folder.join("set-2").exists(), "what `current` does not lead to is not in force");
        assert!(!sandbox.connects(DENIED) && !sandbox.connects(DENIED));
        assert_eq!(drops(&kernel), 3, "the small maps count again");
        drop(kernel);
        fs::rename(folder.join("large"), folder.join("set-2")).unwrap();
        turn("set-2");
        let (kernel, opened) = sandbox.open();
        assert_eq!((opened, kernel.generation()), (Opened::Adopted, 2));
        assert_eq!(alive(&kernel.attached()[0]), tc_hooks());
        assert!(!folder.join("set-1").exists());
        assert_eq!(drops(&kernel), 4, "three from the small maps, one from the large ones");
        assert!(!sandbox.connects(DENIED));
        assert_eq!(drops(&kernel), 5);
    });
}

#[test]
fn what_is_not_ours_is_not_adopted() {
    sandbox(|sandbox| {
        drop(sandbox.enforcing(WEB));
        let image_map = sandbox.version().join("current/maps/IMAGE");
        fs::remove_file(&image_map).unwrap();
        fs::rename(sandbox.version().join("current/maps/FLOW_BUCKETS"), &image_map).unwrap();
        let error = Kernel::open(&sandbox.paths, &SIZES, &settings()).err().unwrap();
        assert!(matches!(error, KernelError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("IMAGE"), "{error}");
        assert!(!sandbox.connects(DENIED), "enforcement goes on");
        let elsewhere = Paths { bpffs: "/tmp/sg-agent-no-bpffs".into() };
        let error = Kernel::open(&elsewhere, &SIZES, &settings()).err().unwrap();
        assert_eq!(error.exit_status(), 7);
        assert!(error.remedy().unwrap().contains("mount -t bpf"), "{error}");
        assert!(!elsewhere.bpffs.exists());
    });
}

#[test]
fn two_images_of_two_sides_do_not_mix() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.published(WEB);
        let host = image(WEB, 1, Side::Host);
        let guest = image(WEB, 1, Side::Guest);
        assert_ne!(host.nodes(), guest.nodes());
        kernel.publish(&guest, 2, 2).unwrap();
        assert_eq!(kernel.current_image().unwrap().nodes(), guest.nodes());
    });
}
