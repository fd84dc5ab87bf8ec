//! Programs of others on the same interface: never replaced, never mistaken for ours, and no way
//! around a group (datapath.md, section 1).

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    lab::{Arena, Namespace, Outcome, Probe, SILENCE, Setup, arena::Family, can_run},
    syscall::program::{Foreign, Hook},
};

const RULES: &str = "inbound: [{allow: tcp/443, from: [PEER]}]";
const XDP_PASS: i32 = 2;
const TC_NEXT: i32 = -1;
const TC_PASS: i32 = 0;

fn enforced(arena: &Arena, what: &str) -> Result<()> {
    for family in Family::ALL {
        assert_eq!(arena.inbound(Probe::Tcp(443), family)?, Outcome::Answered, "{what}, {family:?}");
        assert_eq!(arena.inbound(Probe::Tcp(22), family)?, Outcome::Silent, "{what}, {family:?}");
    }
    Ok(())
}

#[test]
fn a_foreign_program_stays_and_does_not_open_a_way_around() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let rows = [
        (Setup::HostTc, Hook::TcIngress, TC_NEXT),
        (Setup::HostTc, Hook::TcIngress, TC_PASS),
        (Setup::HostTc, Hook::TcEgress, TC_PASS),
        (Setup::HostTc, Hook::Xdp, XDP_PASS),
        (Setup::HostXdp, Hook::TcIngress, TC_PASS),
        (Setup::Guest, Hook::TcEgress, TC_NEXT),
        (Setup::Guest, Hook::TcEgress, TC_PASS),
        (Setup::Guest, Hook::TcIngress, TC_PASS),
    ];
    for (setup, hook, verdict) in rows {
        let what = format!("{setup:?} beside a program at {hook:?} that answers {verdict}");
        let mut arena = Arena::without_agent(setup)?;
        let foreign = arena.machine.enter(|| Ok(Foreign::attach("eth0", hook, "stranger", verdict)?))?;
        let policy = arena.policy(RULES);
        arena.agent.start_with(&policy).with_context(|| what.clone())?;
        enforced(&arena, &what)?;
        arena.agent.restart()?;
        enforced(&arena, &what)?;
        assert!(foreign.is_attached()?, "{what}");
        arena.agent.ok(&["detach", "--all"])?;
        assert!(foreign.is_attached()?, "{what}: after detach");
        assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered, "{what}: after detach");
    }
    Ok(())
}

#[test]
fn an_occupied_xdp_hook_is_refused_by_the_name_of_its_program() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut arena = Arena::without_agent(Setup::HostXdp)?;
    let foreign = arena.machine.enter(|| Ok(Foreign::attach("eth0", Hook::Xdp, "stranger", XDP_PASS)?))?;
    // `auto` falls back to TC.
    let forced = arena.policy("inbound: [{allow: all, from: anywhere}]");
    let auto = arena.policy(RULES).replace("hook: xdp", "hook: auto");
    arena.agent.start_with(&auto)?;
    enforced(&arena, "auto beside a foreign XDP program")?;
    let generation = arena.agent.generation()?;
    arena.agent.write("forced.yaml", &forced)?;
    let refused = arena.agent.run(&["apply", "forced.yaml"])?.expect_status(1)?;
    assert!(refused.stderr.contains("stranger"), "{}", refused.stderr);
    assert_eq!(arena.agent.generation()?, generation, "nothing changed");
    enforced(&arena, "after a refused policy")?;
    assert!(foreign.is_attached()?);
    // With the hook free again the same policy is taken.
    drop(foreign);
    arena.agent.ok(&["apply", "forced.yaml"])?;
    assert_eq!(arena.inbound(Probe::Tcp(22), Family::V4)?, Outcome::Answered);
    let status = arena.agent.ok(&["status"])?.stdout;
    assert!(status.contains("xdp"), "{status}");
    Ok(())
}

/// What a container engine does when it publishes a port: 8080 of the machine is 80 of a container
/// behind it, and 192.0.2.99 is a name for the peer's 5432.
const TRANSLATIONS: &str = "
add table ip t
add chain ip t p { type nat hook prerouting priority dstnat ; }
add rule ip t p tcp dport 8080 dnat to 10.99.0.2:80
add chain ip t o { type nat hook output priority -100 ; }
add rule ip t o ip daddr 192.0.2.99 tcp dport 80 dnat to 10.88.0.2:5432
";

#[test]
fn a_port_that_the_host_translates_is_no_way_around() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for setup in [Setup::HostTc, Setup::HostXdp] {
        let mut arena = Arena::without_agent(setup)?;
        let container = arena.another_wire("cont0", &["10.99.0.1/24"], &["10.99.0.2/24"])?;
        container.ip(&["route add default via 10.99.0.1"])?;
        arena.machine.ip(&["route add 192.0.2.0/24 via 10.88.0.2"])?;
        arena.machine.forward()?;
        let mut rules = tempfile::NamedTempFile::new()?;
        rules.write_all(TRANSLATIONS.as_bytes())?;
        let nft =
            arena.machine.command("nft").arg("-f").arg(rules.path()).output().context("Debian: nftables")?;
        ensure!(nft.status.success(), "{}", String::from_utf8_lossy(&nft.stderr));

        let listen =
            |namespace: &Namespace, port: u16| namespace.enter(|| Ok(TcpListener::bind(("0.0.0.0", port))?));
        let _services = (listen(&container, 80)?, listen(&arena.far, 5432)?);
        let connects = |namespace: &Namespace, target: [u8; 4], port: u16| {
            let target = SocketAddr::from((target, port));
            namespace.enter(|| Ok(TcpStream::connect_timeout(&target, SILENCE).is_ok()))
        };
        let published = || connects(&arena.far, [10, 88, 0, 1], 8080);
        let named = || connects(&arena.machine, [192, 0, 2, 99], 80);
        ensure!(published()? && named()?, "{setup:?}: the host translates");
        let rows = [
            // Inbound is judged before the translation, outbound after it.
            ("inbound: [{allow: tcp/80, from: anywhere}], outbound: [{allow: tcp/80, to: anywhere}]", false),
            ("inbound: [{allow: tcp/8080, from: anywhere}], outbound: [{allow: tcp/5432, to: [PEER]}]", true),
        ];
        for (rules, passes) in rows {
            let policy = arena.policy(rules);
            arena.agent.start_with(&policy)?;
            ensure!(published()? == passes, "{setup:?}: the published port, {rules}");
            ensure!(named()? == passes, "{setup:?}: the translated name, {rules}");
            arena.agent.terminate()?;
        }
    }
    Ok(())
}
