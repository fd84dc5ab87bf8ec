//! A lab where nobody but the test speaks, and the book that it keeps: every frame that it sends is
//! entered with its verdict, reason and length, and must be all that the product counts.
//!
//! The instance and its peer have addresses that no kernel owns, so that no stack answers. Both ends
//! of the wire are watched behind the hooks: what passes is seen to arrive whole, and nothing else is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sg_tests::{
    counters::{Count, Counters},
    lab::{Arena, Namespace, PATIENCE, Setup, arena::Family},
    packet::PacketSocket,
};

use crate::bytes::{self, Host, Path};

/// Allowed by whatever.
pub(crate) const PASSES: &str = "allowed";
/// Allowed by a rule.
pub(crate) const RULE: &str = "allowed by rule";
/// Allowed by a flow.
pub(crate) const FLOW: &str = "allowed by flow";
/// Allowed as a part of the infrastructure set.
pub(crate) const INFRASTRUCTURE: &str = "allowed by infrastructure";
/// Dropped, for whatever reason.
pub(crate) const DROPPED: &str = "dropped";

/// 443 is open to all, and the instance may ask its peer some things.
pub(crate) const RULES: &str = "inbound: [{allow: [tcp/443, udp/443], from: anywhere}], \
     outbound: [{allow: [tcp/5432, udp/53, icmp/echo-request, icmpv6/echo-request], to: PEER}]";

/// EtherTypes that some tests permit: MPLS, MACsec, PPPoE discovery.
pub(crate) const PERMITTED: [u16; 3] = [0x8847, 0x88e5, 0x8863];

/// Interface, direction, and how it was judged.
type Key = (String, &'static str, String);
type Book = BTreeMap<Key, Count>;

/// A packet that must have been counted.
struct Entry {
    interface: &'static str,
    way: Way,
    what: &'static str,
    length: u64,
    name: String,
}

/// Told from the instance's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::In => "inbound",
            Self::Out => "outbound",
        }
    }

    pub(crate) const fn back(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// One end of the wire: sends frames, and sees those that arrive behind the hooks.
pub(crate) struct End {
    sender: PacketSocket,
    arrivals: Vec<PacketSocket>,
}

impl End {
    /// The end where the hooks are: what arrives there has passed them.
    fn hooked(namespace: &Namespace, interface: &str) -> Result<Self> {
        // Tags stay where a VLAN is not known here.
        let kinds = [0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, PERMITTED[0], PERMITTED[1], PERMITTED[2]];
        let arrivals = kinds.iter().map(|kind| PacketSocket::behind_hooks(namespace, interface, *kind));
        Ok(Self {
            sender: PacketSocket::open(namespace, interface)?,
            arrivals: arrivals.collect::<Result<_>>()?,
        })
    }

    /// The end without hooks.
    fn bare(namespace: &Namespace, interface: &str) -> Result<Self> {
        Ok(Self {
            sender: PacketSocket::open(namespace, interface)?,
            arrivals: vec![PacketSocket::open(namespace, interface)?],
        })
    }

    fn pending(&self) -> Result<Option<Vec<u8>>> {
        for socket in &self.arrivals {
            if let Some(frame) = socket.pending()? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

/// The lab.
pub(crate) struct Range {
    pub(crate) arena: Arena,
    pub(crate) setup: Setup,
    peer: End,
    instance: End,
    counted: RefCell<Book>,
    expected: RefCell<Vec<Entry>>,
    next_port: Cell<u16>,
    is_changed: Cell<bool>,
    is_bent: Cell<bool>,
}

/// The policy's words for a setup; more `keys` for the interface's entry in flow style.
pub(crate) fn policy(setup: Setup, rules: &str, keys: &str) -> String {
    let side = match setup {
        Setup::HostTc => "side: host, hook: tc",
        Setup::HostXdp => "side: host, hook: xdp",
        Setup::Guest if keys.contains("addresses") => "side: guest",
        Setup::Guest => {
            "side: guest, addresses: [10.88.0.77, 10.88.0.78, \"fd88::77\", \"fd88::78\", \"fe80::77\"]"
        }
    };
    let rules = rules.replace("PEER", "[10.88.0.66, \"fd88::66\"]");
    format!(
        "version: 1\ngroups:\n  g: {{{rules}}}\ninterfaces:\n  - {{match: eth0, groups: [g], {side}{keys}}}\n"
    )
}

impl Range {
    /// With other rules, more keys of the interface's entry, and the agent's own settings.
    pub(crate) fn with(setup: Setup, rules: &str, keys: &str, settings: &str) -> Result<Self> {
        let mut arena = Arena::without_agent(setup)?;
        arena.agent.settings(settings)?;
        arena.agent.start_with(&policy(setup, rules, keys))?;
        Self::around(arena)
    }

    /// Around a lab with a running agent.
    pub(crate) fn around(arena: Arena) -> Result<Self> {
        let setup = arena.setup;
        let machine = End::hooked(&arena.machine, "eth0")?;
        let far = End::bare(&arena.far, "far0")?;
        let (peer, instance) = if setup == Setup::Guest { (machine, far) } else { (far, machine) };
        let counted = RefCell::new(read(&arena)?);
        let expected = RefCell::default();
        Ok(Self {
            arena,
            setup,
            peer,
            instance,
            counted,
            expected,
            next_port: Cell::new(40_000),
            is_changed: Cell::new(false),
            is_bent: Cell::new(false),
        })
    }

    /// Puts other rules in force.
    pub(crate) fn apply(&self, rules: &str, keys: &str) -> Result<()> {
        self.settle("before the policy changes")?;
        self.is_changed.set(true);
        self.arena.agent.apply(&policy(self.setup, rules, keys)).map(drop)
    }

    /// From here on the wire is not what others expect, until this is called with false.
    pub(crate) fn bend(&self, is_bent: bool) {
        self.is_bent.set(is_bent);
    }

    /// Puts [`RULES`] in force again.
    pub(crate) fn restore(&self) -> Result<()> {
        ensure!(!self.is_bent.get(), "the wire has been changed");
        if self.is_changed.replace(false) {
            self.arena.agent.apply(&policy(self.setup, RULES, ""))?;
        }
        Ok(())
    }

    /// From the peer to the instance.
    pub(crate) fn inward(&self, family: Family) -> Path {
        let host = |mac, v4: u8, v6: u8| Host {
            mac,
            v4: [10, 88, 0, v4],
            v6: [0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, v6],
        };
        let (near, far) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (peer, instance) = if self.setup == Setup::Guest { (near, far) } else { (far, near) };
        Path { family, from: host(peer, 66, 0x66), to: host(instance, 77, 0x77) }
    }

    /// From the instance to the peer.
    pub(crate) fn outward(&self, family: Family) -> Path {
        self.inward(family).back()
    }

    /// The path of a way.
    pub(crate) fn path(&self, way: Way, family: Family) -> Path {
        match way {
            Way::In => self.inward(family),
            Way::Out => self.outward(family),
        }
    }

    /// A port that nothing has used yet.
    pub(crate) fn port(&self) -> u16 {
        self.next_port.set(self.next_port.get() + 1);
        self.next_port.get()
    }

    /// The end that sends this way, and the one that receives.
    pub(crate) fn ends(&self, way: Way) -> (&End, &End) {
        match way {
            Way::In => (&self.peer, &self.instance),
            Way::Out => (&self.instance, &self.peer),
        }
    }

    /// What has arrived and was not looked at.
    pub(crate) fn arrived(&self, way: Way) -> Result<Option<Vec<u8>>> {
        self.ends(way).1.pending()
    }

    /// A raw socket that sends this way, for frames with a `virtio_net_hdr`.
    pub(crate) fn offload_socket(&self, way: Way) -> Result<PacketSocket> {
        let socket = match way {
            Way::In => self.arena.peer_socket()?,
            Way::Out => self.arena.instance_socket()?,
        };
        socket.with_offload_header()
    }

    /// Puts a frame on the wire without a word about what should become of it.
    pub(crate) fn inject(&self, way: Way, frame: &[u8]) -> Result<()> {
        self.ends(way).0.sender.send(frame)
    }

    /// What the hook sees of a frame: the kernel takes the outermost tag out before TC ingress.
    pub(crate) fn seen(&self, way: Way, frame: &[u8]) -> u64 {
        let is_tc_ingress = match self.setup {
            Setup::HostTc => way == Way::In,
            Setup::HostXdp => false,
            Setup::Guest => way == Way::Out,
        };
        let tag = if is_tc_ingress && bytes::untagged(frame).1 > 0 { 4 } else { 0 };
        (frame.len() - tag) as u64
    }

    /// Sends a frame and enters its verdict; one that passes is seen to arrive.
    pub(crate) fn send(&self, what: &str, way: Way, frame: &[u8], expected: &'static str) -> Result<()> {
        self.inject(way, frame)?;
        self.enter(what, way, expected, self.seen(way, frame));
        if expected.starts_with(PASSES) {
            self.arrives(way, frame).with_context(|| self.name(what))?;
        }
        Ok(())
    }

    /// Enters a frame of this length, sent by other means, into the book.
    pub(crate) fn enter(&self, what: &str, way: Way, expected: &'static str, length: u64) {
        self.enter_on("eth0", what, way, expected, length);
    }

    /// [`Self::enter`], on another interface.
    pub(crate) fn enter_on(
        &self,
        interface: &'static str,
        name: &str,
        way: Way,
        what: &'static str,
        length: u64,
    ) {
        let name = name.to_owned();
        self.expected.borrow_mut().push(Entry { interface, way, what, length, name });
    }

    /// [`Self::send`], and the book is compared at once.
    pub(crate) fn judge(&self, what: &str, way: Way, frame: &[u8], expected: &'static str) -> Result<()> {
        self.send(what, way, frame, expected)?;
        self.settle(what)
    }

    fn name(&self, what: &str) -> String {
        format!("{what}, {:?}", self.setup)
    }

    /// The frame is the next that arrives.
    pub(crate) fn arrives(&self, way: Way, frame: &[u8]) -> Result<()> {
        let sent = bytes::untagged(frame).0;
        let start = Instant::now();
        loop {
            if let Some(found) = self.ends(way).1.pending()? {
                let found = bytes::untagged(&found).0;
                ensure!(found == sent, "instead of\n{sent:02x?}\narrives\n{found:02x?}");
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(2), "does not arrive: {:?}", self.moved()?);
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn moved(&self) -> Result<Book> {
        let now = read(&self.arena)?;
        let before = self.counted.borrow();
        let mut moved = Book::new();
        for (key, now) in &now {
            let then = before.get(key).copied().unwrap_or_default();
            let gained =
                Count { packets: now.packets - then.packets, bytes: now.bytes.wrapping_sub(then.bytes) };
            if gained != Count::default() {
                moved.insert(key.clone(), gained);
            }
        }
        Ok(moved)
    }

    /// Everything that was sent since the last time has been counted as entered, nothing else has, and
    /// nothing arrived beyond what was seen to.
    pub(crate) fn settle(&self, what: &str) -> Result<()> {
        let expected = std::mem::take(&mut *self.expected.borrow_mut());
        let start = Instant::now();
        let moved = loop {
            let moved = self.moved()?;
            let packets: u64 = moved.values().map(|count| count.packets).sum();
            if packets >= expected.len() as u64 || start.elapsed() > Duration::from_secs(2) {
                break moved;
            }
            thread::sleep(Duration::from_millis(2));
        };
        compare(&moved, &expected).with_context(|| self.name(what))?;
        let mut counted = self.counted.borrow_mut();
        for (key, gained) in moved {
            let count = counted.entry(key).or_default();
            count.packets += gained.packets;
            count.bytes += gained.bytes;
        }
        for (end, whose) in [(&self.peer, "the peer"), (&self.instance, "the instance")] {
            if let Some(frame) = end.pending()? {
                bail!("{}: {whose} is reached by\n{frame:02x?}", self.name(what));
            }
        }
        Ok(())
    }

    /// How many packets a counter has gained since the last time, once it is `enough`: a flood is still
    /// on its way when its last frame has been sent.
    pub(crate) fn gained(&self, way: Way, what: &str, enough: u64) -> Result<u64> {
        let mut last = None;
        loop {
            let moved = self.moved()?;
            let fits = |key: &Key| key.0 == "eth0" && key.1 == way.name() && key.2.starts_with(what);
            let gained: u64 = moved.iter().filter(|(key, _)| fits(key)).map(|(_, count)| count.packets).sum();
            if gained >= enough || last == Some(gained) {
                return Ok(gained);
            }
            last = Some(gained);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes the counters and arrivals as they are: for what was not counted one by one.
    pub(crate) fn forget(&self) -> Result<()> {
        self.expected.borrow_mut().clear();
        for end in [&self.peer, &self.instance] {
            while end.pending()?.is_some() {}
        }
        *self.counted.borrow_mut() = read(&self.arena)?;
        Ok(())
    }

    /// The flow table.
    pub(crate) fn flows(&self) -> Result<Vec<Value>> {
        let list = self.arena.agent.json(&["flows"])?;
        Ok(list["flows"].as_array().context("a list of flows")?.clone())
    }

    /// The flow whose two ports are these, in whatever order.
    pub(crate) fn flow_of(&self, family: Family, protocol: &str, ports: (u16, u16)) -> Result<Option<Value>> {
        let flows = self.flows()?.into_iter();
        let mut found = flows.filter(|flow| {
            let both = (&flow["local_port"], &flow["remote_port"]);
            let has = |a: u16, b: u16| *both.0 == a && *both.1 == b;
            let (local, remote) = match family {
                Family::V4 => ("10.88.0.77", "10.88.0.66"),
                Family::V6 => ("fd88::77", "fd88::66"),
            };
            flow["protocol"] == protocol
                && (&flow["local"], &flow["remote"]) == (&Value::from(local), &Value::from(remote))
                && (has(ports.0, ports.1) || has(ports.1, ports.0))
        });
        let first = found.next();
        ensure!(found.next().is_none(), "two flows of {ports:?}");
        Ok(first)
    }
}

/// Every counter now, from the daemon's socket where it runs, else from the command line.
pub(crate) fn read(arena: &Arena) -> Result<Book> {
    let text = match ask(arena) {
        Ok(text) => text,
        Err(_) => arena.agent.ok(&["counters", "-o", "json"])?.stdout,
    };
    let value: Value = serde_json::from_str(&text).with_context(|| format!("counters: {text}"))?;
    let counters = Counters::parse(&value).with_context(|| format!("counters: {value:#}"))?;
    let mut book = Book::new();
    for ((interface, direction, what), count) in counters.0 {
        if what != PASSES {
            let way = if direction == "inbound" { Way::In } else { Way::Out };
            book.insert((interface, way.name(), what), count);
        }
    }
    for interface in value["interfaces"].as_array().into_iter().flatten() {
        let name = interface["name"].as_str().context("a name")?;
        for way in [Way::In, Way::Out] {
            let counts = &interface[way.name()];
            let mut sum = 0;
            for (why, count) in counts["allowed_by"].as_object().into_iter().flatten() {
                let number = |key: &str| count[key].as_u64().context("a number");
                let count = Count { packets: number("packets")?, bytes: number("bytes")? };
                sum += count.packets;
                book.insert((name.to_owned(), way.name(), format!("{PASSES} by {why}")), count);
            }
            ensure!(counts["allowed"]["packets"] == sum, "allowed is not what allowed it: {counts:#}");
        }
    }
    Ok(book)
}

/// `GET /v1/counters`: a process less than the command line.
pub(crate) fn ask(arena: &Arena) -> Result<String> {
    let mut stream = UnixStream::connect(arena.agent.folder().join("agent.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/counters HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

/// Whether `moved` is what was entered, packet by packet and byte by byte.
fn compare(moved: &Book, expected: &[Entry]) -> Result<()> {
    let mut left = moved.clone();
    // What is known exactly first, so that it is left to what is not.
    let is_vague = |what: &str| matches!(what, PASSES | DROPPED);
    for vague in [false, true] {
        for entry in expected.iter().filter(|entry| is_vague(entry.what) == vague) {
            let Entry { interface, way, what, length, name } = entry;
            let found = left.iter_mut().find(|(key, count)| {
                let counted = key.2.as_str();
                let fits = match *what {
                    PASSES => counted.starts_with(PASSES),
                    DROPPED => !counted.starts_with(PASSES) && !counted.starts_with("audited"),
                    exact => counted == exact,
                };
                fits && key.0 == *interface
                    && key.1 == way.name()
                    && count.packets > 0
                    && count.bytes >= *length
            });
            let why = || format!("{name}: {} {what}, {length} bytes, is not among {moved:#?}", way.name());
            let (_, count) = found.with_context(why)?;
            count.packets -= 1;
            count.bytes -= length;
        }
    }
    left.retain(|_, count| *count != Count::default());
    ensure!(left.is_empty(), "counted beside what was sent: {left:#?} of {moved:#?}");
    Ok(())
}
