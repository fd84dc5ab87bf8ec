//! A sequence of packets, waits and policies, and its form as text.
//!
//! ```text
//! # What this is about.
//! settings keep=false buckets=64 timeouts=100,3000,50,100,400,100,800
//! policy
//!     version: 1
//!     …
//! tc_egress 020000000001…  # 192.0.2.10 > 198.51.100.7 tcp …
//! wait 40
//! unlock tcp/443 198.51.100.7 20
//! xdp …
//! tc_ingress gso …
//! ```
//!
//! `gso` marks a frame that stands for several packets. Waits and timeouts are in ticks; the timeouts
//! stand in the order of [`Timeout`].

use std::{fmt, net::IpAddr};

use anyhow::{Context as _, Result, bail, ensure};
use sg_common::{addr::Addr, flow::Timeout, tuple::Protocol, unlock};

use crate::entry::Entry;

/// A sequence, which begins with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Whether flows live on that a new policy does not allow.
    pub keeps_flows: bool,
    /// Buckets of the flow table: a power of two.
    pub buckets: u32,
    /// Idle timeouts in ticks, by [`Timeout`].
    pub timeouts: [u32; 8],
    /// What happens.
    pub steps: Vec<Step>,
}

/// A port that is opened past the policy: the newest takes the place of the oldest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlock {
    /// Whether it is UDP's.
    pub is_udp: bool,
    /// The instance's port.
    pub port: u16,
    /// The other side's address.
    pub address: IpAddr,
    /// For how many ticks.
    pub ticks: u32,
}

impl Unlock {
    /// The same as the datapath has it, on every interface.
    #[must_use]
    pub fn of_every_zone(&self) -> unlock::Unlock {
        let protocol = if self.is_udp { Protocol::UDP } else { Protocol::TCP };
        unlock::Unlock { protocol, port: self.port, remote: Addr::from(self.address), zone: None }
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A policy comes into force: a document whose first interface entry is the one that counts.
    Policy(String),
    /// A frame passes a hook.
    Frame(Entry, Frame),
    /// So many ticks pass.
    Wait(u32),
    /// A port is opened past the policy.
    Unlock(Unlock),
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it stands for several packets.
    pub is_gso: bool,
    /// What lies on the wire.
    pub bytes: Vec<u8>,
    /// What the writer says that it is.
    pub what: String,
}

const ENTRIES: [(&str, Entry); 3] =
    [("xdp", Entry::Xdp), ("tc_ingress", Entry::TcIngress), ("tc_egress", Entry::TcEgress)];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeouts: Vec<_> = self.timeouts[..Timeout::ALL.len()].iter().map(u32::to_string).collect();
        let (keep, buckets, timeouts) = (self.keeps_flows, self.buckets, timeouts.join(","));
        writeln!(f, "settings keep={keep} buckets={buckets} timeouts={timeouts}")?;
        self.steps.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(document) => {
                writeln!(f, "policy")?;
                document.lines().try_for_each(|line| writeln!(f, "    {line}"))
            }
            Self::Frame(entry, frame) => {
                let name = ENTRIES.iter().find(|(_, known)| known == entry).map_or("?", |(name, _)| name);
                write!(f, "{name}{} ", if frame.is_gso { " gso" } else { "" })?;
                frame.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                writeln!(f, "  # {}", frame.what)
            }
            Self::Wait(ticks) => writeln!(f, "wait {ticks}"),
            Self::Unlock(Unlock { is_udp, port, address, ticks }) => {
                let protocol = if *is_udp { "udp" } else { "tcp" };
                writeln!(f, "unlock {protocol}/{port} {address} {ticks}")
            }
        }
    }
}

impl Case {
    /// Reads the written form.
    ///
    /// # Errors
    /// The line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut case = Self { keeps_flows: false, buckets: 64, timeouts: [1 << 24; 8], steps: vec![] };
        for (number, line) in text.lines().enumerate() {
            case.line(line).with_context(|| format!("line {}: {line}", number + 1))?;
        }
        ensure!(matches!(case.steps.first(), Some(Step::Policy(_))), "a case begins with a policy");
        Ok(case)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if line.starts_with(' ') {
            let Some(Step::Policy(document)) = self.steps.last_mut() else { bail!("it is of no policy") };
            document.push_str(line.strip_prefix("    ").unwrap_or(line));
            document.push('\n');
            return Ok(());
        }
        let (line, what) = line.split_once('#').unwrap_or((line, ""));
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some("settings") => words.try_for_each(|word| self.setting(word))?,
            Some("policy") => self.steps.push(Step::Policy(String::new())),
            Some("wait") => self.steps.push(Step::Wait(words.next().context("how long?")?.parse()?)),
            Some("unlock") => self.steps.push(Step::Unlock(read_unlock(words)?)),
            Some(name) => {
                let known = ENTRIES.iter().find(|(known, _)| *known == name);
                let (_, entry) = known.with_context(|| format!("`{name}` is no hook"))?;
                let mut hex = words.next().context("no frame")?;
                let is_gso = hex == "gso";
                if is_gso {
                    hex = words.next().context("no frame")?;
                }
                let frame = Frame { is_gso, bytes: octets(hex)?, what: what.trim().to_owned() };
                self.steps.push(Step::Frame(*entry, frame));
            }
        }
        Ok(())
    }

    fn setting(&mut self, word: &str) -> Result<()> {
        match word.split_once('=').context("a setting is KEY=VALUE")? {
            ("keep", value) => self.keeps_flows = value.parse()?,
            ("buckets", value) => self.buckets = value.parse()?,
            ("timeouts", value) => {
                for (timeout, value) in self.timeouts.iter_mut().zip(value.split(',')) {
                    *timeout = value.parse()?;
                }
            }
            (key, _) => bail!("`{key}` is no setting"),
        }
        Ok(())
    }
}

fn read_unlock<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Unlock> {
    let mut next = || words.next().context("an unlock is PROTOCOL/PORT ADDRESS TICKS");
    let (protocol, port) = next()?.split_once('/').context("PROTOCOL/PORT")?;
    ensure!(["tcp", "udp"].contains(&protocol), "`{protocol}` has no ports");
    let (port, address) = (port.parse()?, next()?.parse()?);
    Ok(Unlock { is_udp: protocol == "udp", port, address, ticks: next()?.parse()? })
}

fn octets(hex: &str) -> Result<Vec<u8>> {
    ensure!(hex.len().is_multiple_of(2) && hex.is_ascii(), "a frame has two digits an octet");
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut timeouts = [1 << 24; 8];
        timeouts[..7].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7]);
        let frame = |is_gso| Frame { is_gso, bytes: vec![0, 255, 16], what: "what it is".to_owned() };
        let case = Case {
            keeps_flows: true,
            buckets: 2,
            timeouts,
            steps: vec![
                Step::Policy("version: 1\ngroups:\n  a: {}\n".to_owned()),
                Step::Frame(Entry::TcEgress, frame(false)),
                Step::Wait(40),
                Step::Unlock(Unlock { is_udp: true, port: 53, address: [192, 0, 2, 1].into(), ticks: 9 }),
                Step::Frame(Entry::TcIngress, frame(true)),
            ],
        };
        assert_eq!(Case::parse(&format!("# A title.\n{case}")).unwrap(), case);
    }

    #[test]
    fn what_is_no_case_is_refused() {
        for text in ["", "wait 1", "policy\nwait", "policy\nxdp 0", "policy\nxyz 00", "policy\nsettings a=1"]
        {
            assert!(Case::parse(text).is_err(), "{text}");
        }
    }
}
