//! Runs nmap and reads its report: what a stranger's port scanner sees of an instance.
//!
//! What it ought to see is the test's business.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use anyhow::{Context as _, Result, ensure};

use super::{Namespace, Output};

/// A way to ask for open ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// TCP, a bare SYN.
    Syn,
    /// TCP, a bare ACK: tells filtered ports from others, not open from closed.
    Ack,
    /// TCP, a bare FIN.
    Fin,
    /// TCP, no flag at all.
    Null,
    /// TCP, FIN, PSH and URG.
    Xmas,
    /// UDP.
    Udp,
    /// A SYN in fragments of 8 bytes: the ports in the first, the flags in the second.
    TinyFragments,
    /// A SYN with data, in fragments of 24 bytes: the whole header in the first.
    Fragments,
}

impl Scan {
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Syn => &["-sS"],
            Self::Ack => &["-sA"],
            Self::Fin => &["-sF"],
            Self::Null => &["-sN"],
            Self::Xmas => &["-sX"],
            Self::Udp => &["-sU"],
            Self::TinyFragments => &["-sS", "-f"],
            // nmap's SYN has 24 bytes of header with its option.
            Self::Fragments => &["-sS", "--mtu", "24", "--data-length", "40"],
        }
    }

    /// Scans these ports of an instance, each at most twice.
    ///
    /// # Errors
    /// nmap is missing or fails, or its report leaves a port out.
    pub fn run(self, from: &Namespace, target: IpAddr, ports: &[u16]) -> Result<Report> {
        let list: Vec<_> = ports.iter().map(u16::to_string).collect();
        let mut command = from.command("nmap");
        // Through the kernel's routing and neighbours. Three times verbose, it names every port.
        command.args(["-n", "-Pn", "--send-ip", "-T4", "--max-retries", "1", "--host-timeout", "50s"]);
        // All ports at once, and no waiting as if for the other side of the world.
        command.args(["--min-rate", "300", "--min-parallelism", "64"]);
        command.args(["--initial-rtt-timeout", "300ms", "--max-rtt-timeout", "400ms"]);
        command.args(["-vvv", "-oX", "-", "-p", &list.join(",")]).args(self.options());
        if target.is_ipv6() {
            command.arg("-6");
        }
        command.arg(target.to_string());
        let shown = format!("nmap {} {target}", self.options().join(" "));
        let output = Output::of(command, &shown).context("Debian: nmap")?.expect_status(0)?;
        Report::parse(&output.stdout, ports)
            .with_context(|| format!("{shown}:\n{}{}", output.stdout, output.stderr))
    }
}

/// What nmap says of a port, and why: `open` by `syn-ack`, `filtered` by `no-response`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The state.
    pub state: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.state, self.reason)
    }
}

/// Every port that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(pub BTreeMap<u16, Port>);

impl Report {
    /// Reads `-oX`. Only two elements matter, and neither holds a `>` in its attributes.
    fn parse(xml: &str, asked: &[u16]) -> Result<Self> {
        ensure!(xml.contains("exit=\"success\""), "nmap did not finish");
        ensure!(!xml.contains("<extraports"), "nmap sums ports up");
        let mut ports = BTreeMap::new();
        for element in xml.split("<port ").skip(1) {
            let number = attribute(element, "portid")?.parse()?;
            let (_, state) = element.split_once("<state ").context("a port without a state")?;
            let port = Port {
                state: attribute(state, "state")?.to_owned(),
                reason: attribute(state, "reason")?.to_owned(),
            };
            ports.insert(number, port);
        }
        ensure!(
            ports.len() == asked.len() && asked.iter().all(|port| ports.contains_key(port)),
            "asked for {asked:?}, told of {:?}",
            ports.keys()
        );
        Ok(Self(ports))
    }

    /// The ports that look like this, for instance `filtered (no-response)`.
    #[must_use]
    pub fn like(&self, look: &str) -> Vec<u16> {
        self.0.iter().filter(|(_, port)| port.to_string() == look).map(|(number, _)| *number).collect()
    }

    /// Whether the report is exactly this: every look and the ports that have it.
    ///
    /// # Errors
    /// It is not: the error shows both.
    pub fn expect(&self, looks: &[(&str, &[u16])]) -> Result<()> {
        let mut expected = BTreeMap::new();
        for (look, ports) in looks {
            expected.extend(ports.iter().map(|port| (*port, (*look).to_owned())));
        }
        let seen: BTreeMap<_, _> = self.0.iter().map(|(number, port)| (*number, port.to_string())).collect();
        let differs = |one: &BTreeMap<u16, String>, other: &BTreeMap<u16, String>| {
            let mut own = one.clone();
            own.retain(|number, look| other.get(number) != Some(look));
            own
        };
        let (strange, missing) = (differs(&seen, &expected), differs(&expected, &seen));
        ensure!(strange.is_empty() && missing.is_empty(), "seen {strange:?}, expected {missing:?}");
        Ok(())
    }
}

fn attribute<'a>(element: &'a str, name: &str) -> Result<&'a str> {
    let (element, _) = element.split_once('>').context("an element without end")?;
    let (_, rest) = element.split_once(&format!("{name}=\"")).with_context(|| format!("no {name}"))?;
    Ok(rest.split_once('"').context("an attribute without end")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<nmaprun><ports><port protocol="tcp" portid="22"><state state="open" reason="syn-ack"
        reason_ttl="64"/><service name="ssh"/></port><port protocol="tcp" portid="23"><state state="filtered"
        reason="no-response" reason_ttl="0"/></port></ports><finished exit="success"/></nmaprun>"#;

    #[test]
    fn a_report_is_read_whole_or_not_at_all() {
        let report = Report::parse(XML, &[22, 23]).unwrap();
        report.expect(&[("open (syn-ack)", &[22]), ("filtered (no-response)", &[23])]).unwrap();
        assert!(report.expect(&[("open (syn-ack)", &[22])]).is_err(), "a port too many");
        assert!(report.expect(&[("open (syn-ack)", &[22, 23])]).is_err(), "another look");
        assert_eq!(report.like("open (syn-ack)"), [22]);
        assert!(Report::parse(XML, &[22, 23, 24]).is_err(), "24 is missing");
        assert!(Report::parse(&XML.replace("success", "error"), &[22, 23]).is_err());
    }
}
