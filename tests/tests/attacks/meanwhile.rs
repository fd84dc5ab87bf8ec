//! R: at no moment of a change does a denied packet pass, nor is an allowed one lost.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    each_setup,
    lab::{Setup, arena::Family},
    packet::PacketSocket,
};

use crate::{
    bytes::{ACK, TCP},
    range::{RULES, Range, Way, policy},
};

each_setup! {
    r1_denied_packets_meanwhile
}

/// What passes and what does not, sent as fast as one thread can, whatever else happens.
struct Storm<'a> {
    end: &'a AtomicBool,
    denied: AtomicU64,
    allowed: AtomicU64,
}

impl Storm<'_> {
    fn rage(&self, wire: &PacketSocket, denied: &[Vec<u8>], allowed: &[u8]) -> Result<()> {
        while !self.end.load(Ordering::Relaxed) {
            for _ in 0..20 {
                for frame in denied {
                    wire.send(frame)?;
                    self.denied.fetch_add(1, Ordering::Relaxed);
                }
            }
            wire.send(allowed)?;
            self.allowed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Rules that grow: the maps must, and programs are loaded anew over them.
fn many_rules(number: u32) -> String {
    let more: String = (0..number)
        .map(|number| {
            let [_, a, b, c] = (number * 2).to_be_bytes();
            format!("{{allow: tcp/{}, from: {}.{b}.{c}.0/24}}, ", 1000 + number % 5000, 100 + a)
        })
        .collect();
    RULES.replace("inbound: [", &format!("inbound: [{more}"))
}

fn r1_denied_packets_meanwhile(setup: Setup) -> Result<()> {
    let mut range = Range::with(setup, RULES, "", "")?;
    // Of a revoked flow too: what was open before the storm and is no more.
    range.apply(&RULES.replace("tcp/443", "tcp/443, tcp/444"), "")?;
    let mut denied = vec![];
    for family in Family::ALL {
        let path = range.inward(family);
        let session = crate::session::Session::open(&range, family, Way::In, (range.port(), 444))?;
        denied.push(path.frame(&session.packet(true, ACK, b"revoked")));
        denied.push(path.syn_frame((range.port(), 22)));
        denied.push(path.udp_frame((range.port(), 22), b"denied"));
        denied.push(path.frame(&path.ip(TCP, &path.tcp((5432, range.port()), (1, 1), ACK, b"stray"))));
    }
    let allowed = range.inward(Family::V4).udp_frame((range.port(), 443), b"allowed");
    range.apply(RULES, "")?;
    range.forget()?;

    let end = AtomicBool::new(false);
    let storm = Storm { end: &end, denied: AtomicU64::new(0), allowed: AtomicU64::new(0) };
    let wire = range.arena.peer_socket()?;
    let changes = |range: &mut Range| {
        for round in 0..3 {
            for rules in [many_rules(round + 1), RULES.to_owned(), RULES.replace("5432", "5433")] {
                range.arena.agent.apply(&policy(setup, &rules, ""))?;
            }
        }
        range.arena.agent.reload(&policy(setup, &many_rules(50), ""))?;
        range.arena.agent.kill()?;
        thread::sleep(Duration::from_millis(50));
        range.arena.agent.start()?;
        range.arena.agent.apply(&policy(setup, &many_rules(6000), ""))?;
        range.arena.agent.restart()?;
        range.arena.agent.apply(&policy(setup, RULES, ""))?;
        range.arena.agent.kill()?;
        range.arena.agent.start().context("after the second SIGKILL")
    };
    let watched = thread::scope(|scope| {
        let raging = scope.spawn(|| storm.rage(&wire, &denied, &allowed));
        let changed = changes(&mut range);
        end.store(true, Ordering::Relaxed);
        raging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        changed
    });
    watched?;
    let (sent, open) = (storm.denied.into_inner(), storm.allowed.into_inner());
    ensure!(sent > 1000 && open > 50, "too few packets to prove anything: {sent} and {open}");
    let passed = range.gained(Way::In, "allowed", open)?;
    ensure!(passed == open, "{passed} of {open} allowed packets pass");
    let (no_rule, revoked) =
        (range.gained(Way::In, "no_rule", sent)?, range.gained(Way::In, "revoked", sent)?);
    ensure!(
        no_rule + revoked == sent,
        "of {sent} denied packets {no_rule} have no rule, {revoked} are revoked"
    );
    // What arrived was kept by the sockets all the while, as far as they could.
    let mut arrived = 0;
    while let Some(frame) = range.arrived(Way::In)? {
        ensure!(frame == allowed, "a denied packet passes: {frame:02x?}");
        arrived += 1;
    }
    ensure!(arrived > 0 && arrived <= open, "{arrived} of {open} allowed packets arrive");
    Ok(())
}
