//! Who stands between a wire and a machine. Each has a lab of its own, so that all are there at once and are
//! measured in turns.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use sg_tests::{
    counters::Counters,
    lab::{Arena, Outcome, Probe, Setup, arena::Family, arena::INTERFACE, eventually},
    syscall::{
        self, Offloading,
        program::{Foreign, Hook},
    },
};

use super::policy::{self, Form};
use crate::start;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody.
    Nobody,
    /// An XDP program that drops everything.
    XdpDrop,
    /// An XDP program that passes everything.
    XdpPass,
    /// A TCX program that drops everything.
    TcxDrop,
    /// Ours at XDP.
    OursXdp,
    /// Ours at TC.
    OursTc,
    /// nftables.
    Nftables(Form),
    /// iptables with a set of ipset.
    Iptables,
}

impl Kind {
    /// As tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no firewall",
            Self::XdpDrop => "XDP program, drops everything",
            Self::XdpPass => "XDP program, passes everything",
            Self::TcxDrop => "TCX program, drops everything",
            Self::OursXdp => "sg-agent at XDP",
            Self::OursTc => "sg-agent at TC",
            Self::Nftables(Form::Intervals) => "nftables, intervals",
            Self::Nftables(Form::Concatenation) => "nftables, concatenation",
            Self::Nftables(Form::BeforeRouting) => "nftables, before routing",
            Self::Iptables => "iptables and ipset",
        }
    }

    /// Whether it lets in what the policy allows and nothing else.
    const fn has_policy(self) -> bool {
        match self {
            Self::OursXdp | Self::OursTc | Self::Nftables(_) | Self::Iptables => true,
            Self::Nobody | Self::XdpDrop | Self::XdpPass | Self::TcxDrop => false,
        }
    }
}

/// One of them, in force.
pub(crate) struct Contender {
    /// Who.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) arena: Arena,
    _program: Option<Foreign>,
}

impl Contender {
    /// Brings it into force with so many networks in its policy, and proves that it is.
    ///
    /// # Errors
    /// It cannot be had, or does not do what the policy says.
    pub(crate) fn new(kind: Kind, networks: &[Ipv4Addr]) -> Result<Self> {
        Self::start(kind, networks).with_context(|| kind.name())
    }

    fn start(kind: Kind, networks: &[Ipv4Addr]) -> Result<Self> {
        let setup = if kind == Kind::OursXdp { Setup::HostXdp } else { Setup::HostTc };
        let mut arena = Arena::without_agent(setup)?;
        let mut program = None;
        let attach = |hook, verdict| {
            arena.machine.enter(|| Ok(Foreign::attach(INTERFACE, hook, "sg_bench", verdict)?))
        };
        match kind {
            Kind::Nobody => {}
            Kind::XdpDrop => program = Some(attach(Hook::Xdp, 1)?),
            Kind::XdpPass => program = Some(attach(Hook::Xdp, 2)?),
            Kind::TcxDrop => program = Some(attach(Hook::TcIngress, 2)?),
            Kind::OursXdp | Kind::OursTc => {
                // A start has less patience than a change.
                let entry = arena.entry("g", "");
                start::with(&mut arena.agent, &policy::document(&[[32, 0, 0, 0].into()], &entry))?;
                arena.agent.apply(&policy::document(networks, &entry))?;
            }
            Kind::Nftables(form) => {
                fed(arena.machine.command("nft").args(["-f", "-"]), &policy::ruleset(networks, form))?;
            }
            Kind::Iptables => {
                fed(arena.machine.command("ipset").arg("restore"), &policy::ipset(networks, "peers"))?;
                fed(&mut arena.machine.command("iptables-restore"), &policy::iptables())?;
            }
        }
        let contender = Self { kind, arena, _program: program };
        if kind.has_policy() {
            contender.expect_policy()?;
        }
        Ok(contender)
    }

    /// What is allowed arrives, and what is not does not: as a port is not open to this peer.
    fn expect_policy(&self) -> Result<()> {
        for (port, expected) in [(policy::OPEN, Outcome::Answered), (policy::LISTED, Outcome::Silent)] {
            let outcome = self.arena.inbound(Probe::Tcp(port), Family::V4)?;
            ensure!(outcome == expected, "a connection to {port} is {outcome:?}, not {expected:?}");
        }
        Ok(())
    }

    /// Has the wire poll, as it does beneath XDP: else it takes no frames from within the kernel.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn poll(&self) -> Result<()> {
        self.arena.machine.enter(|| Ok(syscall::set_offloading(INTERFACE, Offloading::Gro, true)?))
    }

    /// Packets that came from the wire so far.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn arrived(&self) -> Result<u64> {
        self.arena.machine.enter(|| {
            let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
            let of_ours =
                devices.lines().find_map(|line| line.trim().strip_prefix(INTERFACE)?.strip_prefix(':'));
            let packets = of_ours.and_then(|counts| counts.split_whitespace().nth(1));
            Ok(packets.context("no packets in /proc/net/dev")?.parse()?)
        })
    }

    /// Packets that it says it dropped so far; nothing, where it does not count.
    ///
    /// # Errors
    /// It does not tell.
    pub(crate) fn dropped(&self) -> Result<Option<u64>> {
        let told = |command: &mut Command| -> Result<String> {
            let output = command.stderr(Stdio::inherit()).output()?;
            ensure!(output.status.success(), "{command:?} ends with {}", output.status);
            Ok(String::from_utf8(output.stdout)?)
        };
        let machine = &self.arena.machine;
        Ok(Some(match self.kind {
            Kind::Nobody | Kind::XdpDrop | Kind::XdpPass | Kind::TcxDrop => return Ok(None),
            Kind::OursXdp | Kind::OursTc => {
                Counters::read(&self.arena.agent)?.of(INTERFACE, "inbound", "no_rule")
            }
            Kind::Nftables(_) => {
                let rules = told(machine.command("nft").args(["list", "chain", "inet", "sg", "inbound"]))?;
                number_after(&rules, "counter packets ")?
            }
            Kind::Iptables => {
                let rules = told(machine.command("iptables-save").args(["-c", "-t", "filter"]))?;
                number_after(&rules, ":INPUT DROP [")?
            }
        }))
    }

    /// Waits until all that arrived since was dropped and counted, and fails where it is not.
    ///
    /// # Errors
    /// The counters tell another story.
    pub(crate) fn expect_all_dropped(&self, arrived: u64, dropped: Option<u64>) -> Result<()> {
        let Some(dropped) = dropped else { return Ok(()) };
        let mut seen = (0, 0);
        let all = eventually("all that arrived is counted as dropped", || {
            seen = (self.arrived()? - arrived, self.dropped()?.unwrap_or_default() - dropped);
            Ok(seen.0 == seen.1)
        });
        all.with_context(|| format!("{}: {} arrived, {} were dropped", self.kind.name(), seen.0, seen.1))
    }
}

fn number_after(text: &str, mark: &str) -> Result<u64> {
    let (_, rest) = text.split_once(mark).with_context(|| format!("no `{mark}` in {text}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no number after `{mark}`"))
}

/// Runs a command that reads `text`.
pub(crate) fn fed(command: &mut Command, text: &str) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    let output = command.stdin(file).output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ends with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
