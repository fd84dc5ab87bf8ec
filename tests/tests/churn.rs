//! Interfaces that come and go in numbers: how soon they are covered, and that nothing of them stays.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    lab::{Arena, Setup, can_run},
    syscall::{
        interface_index,
        program::{self, Hook},
    },
};

const POLICY: &str = "version: 1\ngroups:\n  g: {inbound: [{allow: tcp/80, from: anywhere}]}\n\
                      interfaces:\n  - {match: \"veth*\", side: guest, groups: [g], addresses: [10.7.0.2]}\n";

/// How long it takes from the moment that an interface of this name is there until programs sit on
/// both of its hooks, watched from within its namespace.
fn time_to_cover(name: &str) -> Result<Duration> {
    const PAUSE: Duration = Duration::from_micros(200);
    const LIMIT: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    while interface_index(name).is_err() {
        ensure!(begin.elapsed() < LIMIT, "{name} does not appear");
        thread::sleep(PAUSE);
    }
    let there = Instant::now();
    let is_covered = || -> Result<bool> {
        Ok(!program::links(name, Hook::TcIngress, "sg_")?.is_empty()
            && !program::links(name, Hook::TcEgress, "sg_")?.is_empty())
    };
    while !is_covered()? {
        ensure!(there.elapsed() < LIMIT, "{name} is not covered");
        thread::sleep(PAUSE);
    }
    Ok(there.elapsed())
}

#[test]
fn an_interface_is_covered_soon_after_it_appears() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for there in [0, 300] {
        let mut arena = Arena::without_agent(Setup::HostTc)?;
        let lines: Vec<String> = (0..there)
            .map(|number| format!("link add vethx{number} type veth peer name peerx{number}"))
            .collect();
        if there > 0 {
            arena.machine.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        arena.agent.start_with(POLICY)?;
        let mut times = Vec::new();
        for number in 0..60 {
            let name = format!("veth{number}");
            let waiter = thread::scope(|scope| -> Result<Duration> {
                let waits = scope.spawn(|| arena.machine.enter(|| time_to_cover(&name)));
                thread::sleep(Duration::from_millis(5));
                arena.machine.ip(&[&format!("link add {name} type veth peer name peer{number}")])?;
                waits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            times.push(waiter.with_context(|| arena.agent.log())?);
        }
        times.sort();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        println!("{there} there: median {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
    }
    Ok(())
}
