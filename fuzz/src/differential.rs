//! The decision against the promise: sequences of packets, waits and changes of the policy, judged by
//! [`decide`](sg_common::decide::decide) in user space and by the [`Reference`].
//!
//! They agree on verdict, reason, rule, direction and on what opened a flow. An input becomes a
//! [`Case`] (`script`), whose text a failure prints: it can be read, shortened and kept as one.

use std::{cell::RefCell, collections::HashMap};

use sg_agent::{image::Image, policy::Policy};
use sg_common::{decide::Hook, wire::Slice};
use sg_tests::{
    agreement::{Case, Step, compiled},
    entry::Entry,
    memory::UserSpace,
    reference::{Answer, Reference, read, unlocked::Open},
};

mod script;

/// The tick at which a case begins: behind a wrap of the clock soon after.
const BEGIN: u32 = u32::MAX - 500;

/// Runs one case.
///
/// # Panics
///
/// Where the answers part.
pub fn run(input: &[u8]) {
    let case = script::case(input);
    COMPILED.with_borrow_mut(|kept| kept.add(&case));
    COMPILED.with_borrow(|kept| compare(&case, kept));
}

/// Compiling is a thousand times slower than judging, and the policies are few.
#[derive(Default)]
struct Kept(HashMap<String, (Policy, Image)>);

thread_local! {
    static COMPILED: RefCell<Kept> = RefCell::default();
}

impl Kept {
    /// Compiles the policies of a case.
    fn add(&mut self, case: &Case) {
        for step in &case.steps {
            if let Step::Policy(document) = step
                && !self.0.contains_key(document)
            {
                match compiled(document) {
                    Ok(both) => drop(self.0.insert(document.clone(), both)),
                    Err(error) => panic!("a policy does not compile: {error:#}"),
                }
            }
        }
    }

    fn get(&self, document: &str) -> &(Policy, Image) {
        &self.0[document]
    }
}

fn compare(case: &Case, kept: &Kept) {
    let mut steps = case.steps.iter();
    let Some(Step::Policy(first)) = steps.next() else { panic!("a case begins with a policy") };
    let (policy, first) = kept.get(first);
    let mut image = first;
    let mut generation = 1;
    let mut now = BEGIN;
    let mut user_space = UserSpace::tuned(case.buckets, case.timeouts, case.keeps_flows);
    let mut reference = Reference::new(policy, generation, case.keeps_flows, case.timeouts);
    for (number, step) in steps.enumerate() {
        match step {
            Step::Policy(document) => {
                let (policy, next) = kept.get(document);
                image = next;
                generation += 1;
                user_space.set_generation(generation);
                reference.publish(policy, generation);
            }
            Step::Wait(ticks) => now = now.wrapping_add(*ticks),
            Step::Unlock(opened) => {
                let until = now.wrapping_add(opened.ticks);
                user_space.unlock(&[(opened.of_every_zone(), until)]);
                let protocol = if opened.is_udp { 17 } else { 6 };
                reference.unlock(vec![Open { protocol, port: opened.port, address: opened.address, until }]);
            }
            Step::Frame(entry, frame) => {
                let hook = if *entry == Entry::TcEgress { Hook::Egress } else { Hook::Ingress };
                let slice = Slice { frame: &frame.bytes, is_gso: frame.is_gso };
                let outcome = user_space.judge_at(image, hook, slice, now);
                let told = Answer {
                    verdict: outcome.verdict,
                    direction: outcome.direction,
                    is_audited: outcome.is_audited,
                    has_opened: outcome.has_opened,
                };
                let expected = reference.judge(hook == Hook::Ingress, &frame.bytes, frame.is_gso, now);
                let reading = || read::frame(&frame.bytes, frame.is_gso);
                assert_eq!(told, expected, "step {}: {:?}\n{case}", number + 1, reading());
            }
        }
    }
}
