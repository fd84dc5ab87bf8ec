//! Enforcement ends when it is told to, and leaves nothing.

use sg_agent::kernel::{HookChoice, Kernel, Paths, Reader, Settings, detach_all, detach_interface};

use crate::sandbox::{ALLOWED, DENIED, SIZES, WEB, request, sandbox, settings, shell};

#[test]
fn everything_ends_with_the_daemon_dead() {
    for (hook, avoid_tcx) in [(HookChoice::Tc, false), (HookChoice::Xdp, false), (HookChoice::Tc, true)] {
        sandbox(move |sandbox| {
            let settings = Settings { avoid_tcx, ..settings() };
            let mut kernel = sandbox.published(WEB);
            kernel.tune(&settings);
            kernel.attach(&request("h0", hook)).unwrap();
            drop(kernel);
            assert!(!sandbox.connects(DENIED));
            let report = detach_all(&sandbox.paths).unwrap();
            assert_eq!(report.interfaces, ["h0"]);
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert!(sandbox.connects(DENIED) && sandbox.connects(ALLOWED));
            assert!(!sandbox.paths.bpffs.exists(), "no pin is left");
            assert!(!shell("tc qdisc show dev h0").contains("clsact"));
            assert!(!shell("ip -d link show dev h0").contains("xdp"));
            assert!(Reader::open(&sandbox.paths).unwrap().is_none());
            let again = detach_all(&sandbox.paths).unwrap();
            assert!(again.interfaces.is_empty() && again.errors.is_empty());
        });
    }
}

#[test]
fn links_end_for_a_daemon_that_holds_them_too() {
    sandbox(|sandbox| {
        let kernel = sandbox.enforcing(WEB);
        detach_all(&sandbox.paths).unwrap();
        assert!(sandbox.connects(DENIED));
        drop(kernel);
    });
}

#[test]
fn one_interface_ends_and_the_other_goes_on() {
    sandbox(|sandbox| {
        shell("ip link add other type bridge");
        let (mut kernel, _) = Kernel::open(&sandbox.paths, &SIZES, &settings()).unwrap();
        let image = crate::sandbox::image(WEB, 2, sg_agent::kernel::Side::Host);
        kernel.publish(&image, 1, 2).unwrap();
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        let mut other = request("other", HookChoice::Auto);
        other.zone = 1;
        kernel.attach(&other).unwrap();
        drop(kernel);
        let report = detach_interface(&sandbox.paths, "other").unwrap();
        assert_eq!((report.interfaces.as_slice(), report.errors.len()), (["other".to_owned()].as_slice(), 0));
        assert!(!sandbox.connects(DENIED));
        let report = detach_interface(&sandbox.paths, "h0").unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(sandbox.connects(DENIED));
        assert!(
            detach_interface(&sandbox.paths, "h0").unwrap().interfaces.is_empty(),
            "there is none any more"
        );
        let (kernel, _) = sandbox.open();
        assert!(kernel.attached().is_empty());
        assert_eq!(kernel.generation(), 1, "the policy stays");
    });
}

#[test]
fn nothing_is_removed_from_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("v1")).unwrap();
    let error = detach_all(&Paths { bpffs: folder.path().to_owned() }).unwrap_err();
    assert!(error.to_string().contains("is not on a bpf file system"), "{error}");
    assert!(folder.path().join("v1").exists());
}

#[test]
fn errors_do_not_stop_it() {
    for avoid_tcx in [false, true] {
        sandbox(move |sandbox| {
            // An unreadable note of another interface, then that of the attached one.
            for ifindex in [77, request("h0", HookChoice::Tc).ifindex] {
                let mut kernel = sandbox.published(WEB);
                kernel.tune(&Settings { avoid_tcx, ..settings() });
                kernel.attach(&request("h0", HookChoice::Tc)).unwrap();
                drop(kernel);
                assert!(!sandbox.connects(DENIED));
                let note = sandbox.version().join(format!("notes/{ifindex}"));
                let _ = std::fs::remove_file(&note);
                std::os::unix::fs::symlink("no record", note).unwrap();
                let report = detach_all(&sandbox.paths).unwrap();
                assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
                assert!(sandbox.connects(DENIED) && !sandbox.paths.bpffs.exists());
            }
        });
    }
}
