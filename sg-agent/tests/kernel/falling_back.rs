//! The programs return to the former policy when nobody calls that off, with nobody alive.

use std::{
    thread,
    time::{Duration, Instant},
};

use sg_agent::kernel::{AttachRequest, HookChoice, Kernel, Side};

use crate::{
    publishing::larger_than_a_chunk,
    sandbox::{ALLOWED, DENIED, NOTHING, Sandbox, WEB, image, request, sandbox, talks},
};

/// Longer than the denied connection that a test tries meanwhile.
const SOON: Duration = Duration::from_secs(4);

/// Longer than programs take to be loaded twice more on a busy machine.
const LATER: Duration = Duration::from_secs(15);

/// [`WEB`] in force, then [`NOTHING`], with a way back.
fn planned(sandbox: &Sandbox) -> (Kernel, Instant) {
    let mut kernel = sandbox.enforcing(WEB);
    let begin = Instant::now();
    kernel.fall_back_after(SOON).unwrap();
    kernel.publish(&image(NOTHING, 1, Side::Host), 2, 2).unwrap();
    (kernel, begin)
}

fn wait(begin: Instant, after: Duration) {
    thread::sleep((after + Duration::from_millis(100)).saturating_sub(begin.elapsed()));
}

#[test]
fn nobody_need_live_for_the_way_back() {
    sandbox(|sandbox| {
        let (kernel, begin) = planned(sandbox);
        let fallback = kernel.fallback().unwrap();
        assert_eq!((kernel.generation(), fallback.generation), (2, 1));
        assert!(fallback.left > Duration::ZERO && fallback.left <= SOON, "{fallback:?}");
        drop(kernel);
        assert!(!sandbox.connects(ALLOWED), "the new policy is in force");
        assert!(begin.elapsed() < SOON, "too slow to tell");
        wait(begin, SOON);
        assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED), "the former policy is in force");

        let (mut kernel, _) = sandbox.open();
        let taken = kernel.fallback().unwrap();
        assert_eq!((kernel.generation(), taken.generation, taken.left), (1, 1, Duration::ZERO));
        assert_eq!(kernel.reader().unwrap().state().0, 1);
        assert!(!kernel.stay(), "it is too late");
        assert_eq!((kernel.generation(), kernel.fallback()), (1, None));
        assert!(sandbox.connects(ALLOWED));
        kernel.publish(&image(NOTHING, 1, Side::Host), 3, 2).unwrap();
        assert!(!sandbox.connects(ALLOWED), "and policies change as ever");
    });
}

#[test]
fn what_is_called_off_does_not_come_about() {
    sandbox(|sandbox| {
        let (mut kernel, begin) = planned(sandbox);
        assert!(kernel.stay());
        assert_eq!(kernel.fallback(), None);
        wait(begin, SOON);
        assert!(!sandbox.connects(ALLOWED));
        assert_eq!(kernel.generation(), 2);
    });
}

#[test]
fn an_open_connection_outlives_a_policy_that_is_taken_back() {
    sandbox(|sandbox| {
        let mut kernel = sandbox.enforcing(WEB);
        let mut open = sandbox.connect(ALLOWED).unwrap();
        assert!(talks(&mut open));
        let begin = Instant::now();
        kernel.fall_back_after(SOON).unwrap();
        kernel.publish(&image(WEB, 1, Side::Host), 2, 2).unwrap();
        assert!(talks(&mut open));
        wait(begin, SOON);
        assert!(talks(&mut open));
    });
}

#[test]
fn maps_that_grow_keep_the_way_back() {
    sandbox(|sandbox| {
        let nothing_of_web = "{allow: tcp/80, from: 10.9.0.0/24}, ";
        let large = image(&larger_than_a_chunk().replace(nothing_of_web, ""), 1, Side::Host);
        let (mut kernel, begin) = (sandbox.enforcing(WEB), Instant::now());
        kernel.fall_back_after(LATER).unwrap();
        assert!(kernel.publish(&large, 2, 2).unwrap().has_grown);
        assert_eq!(kernel.fallback().unwrap().generation, 1);
        // Once more, with the way back in a buffer of its own.
        kernel.attach(&AttachRequest { zone: 40, ..request("h0", HookChoice::Auto) }).unwrap();
        assert_eq!((kernel.generation(), kernel.fallback().unwrap().generation), (2, 1));
        kernel.attach(&request("h0", HookChoice::Auto)).unwrap();
        drop(kernel);
        assert!(!sandbox.connects(ALLOWED));
        wait(begin, LATER);
        assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
    });
}

#[test]
fn the_way_back_follows_what_changes_meanwhile() {
    sandbox(|sandbox| {
        let (mut kernel, begin) = planned(sandbox);
        kernel.publish(&image(NOTHING, 2, Side::Host), 3, 2).unwrap();
        assert_eq!(kernel.fallback(), None, "another image takes its place");
        let left = SOON.saturating_sub(begin.elapsed());
        kernel.fall_back_to(&image(WEB, 2, Side::Host), 4, 2, left).unwrap();
        assert_eq!((kernel.generation(), kernel.fallback().unwrap().generation), (3, 4));
        assert!(!sandbox.connects(ALLOWED));
        drop(kernel);
        wait(begin, SOON);
        assert!(sandbox.connects(ALLOWED) && !sandbox.connects(DENIED));
    });
}

#[test]
fn there_is_no_way_back_to_nothing() {
    sandbox(|sandbox| {
        let (mut kernel, _) = sandbox.open();
        assert!(kernel.fall_back_after(SOON).is_err());
        assert_eq!(kernel.fallback(), None);
    });
}
