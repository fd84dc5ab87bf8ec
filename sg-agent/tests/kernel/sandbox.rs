//! Where a test plays: this host's namespace with one end of a veth, a peer's with the other, and
//! a BPF file system that goes when the test does.
#![expect(unsafe_code, reason = "namespaces and mounts have no safe calls")]

use std::{
    ffi::CString,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sg_agent::{
    compile::{Input, Limits, RuleNumbers, Zone, compile},
    document,
    image::Image,
    kernel::{
        AttachRequest, Attached, HookChoice, Kernel, Opened, Paths, Settings, Side, Sizes, ZoneCounters,
    },
    policy::{self, GroupIndex, Infrastructure, Membership, Mode},
};
use sg_common::{abi::counter_slot, addr::Addr, flow::Timeout, tuple::Direction, verdict::Verdict};

pub(crate) const HOST: &str = "10.9.0.1";
pub(crate) const PEER: &str = "10.9.0.2";
/// The port that [`WEB`] allows.
pub(crate) const ALLOWED: u16 = 80;
/// A port that it does not.
pub(crate) const DENIED: u16 = 81;
pub(crate) const WEB: &str = "
version: 1
groups:
  web:
    inbound: [{allow: tcp/80, from: [10.9.0.0/24, 'fd09::/64']}]
";
pub(crate) const NOTHING: &str = "
version: 1
groups:
  web: {inbound: [], outbound: []}
";
/// Longer than a handshake takes, shorter than a SYN is repeated.
const PATIENCE: Duration = Duration::from_millis(500);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub(crate) struct Peer {
    pub(crate) thread_id: i32,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn new() -> Self {
        let (jobs, work): (Sender<Job>, Receiver<Job>) = channel();
        let (tell, told) = channel();
        let thread = thread::spawn(move || {
            unshare(libc::CLONE_NEWNET);
            // SAFETY: the call takes nothing and always succeeds.
            tell.send(unsafe { libc::gettid() }).unwrap();
            for job in work {
                job();
            }
        });
        Self { thread_id: told.recv().unwrap(), jobs: Some(jobs), thread: Some(thread) }
    }

    /// Begins something in the namespace.
    pub(crate) fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (tell, told) = channel();
        let job = move || {
            let _ = tell.send(work());
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        told
    }

    /// Does something in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.begin(work).recv().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.jobs.take();
        let _ = self.thread.take().unwrap().join();
    }
}

pub(crate) struct Sandbox {
    pub(crate) paths: Paths,
    pub(crate) peer: Peer,
}

fn unshare(flags: i32) {
    // SAFETY: the call concerns this thread alone.
    assert_eq!(unsafe { libc::unshare(flags) }, 0, "{}", std::io::Error::last_os_error());
}

fn mount(kind: &str, to: &str, flags: libc::c_ulong) {
    let [kind, to] = [kind, to].map(|text| CString::new(text).unwrap());
    // SAFETY: the strings live through the call, and no data is passed.
    let result = unsafe { libc::mount(kind.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    assert_eq!(result, 0, "mount: {}", std::io::Error::last_os_error());
}

/// Runs a test in a sandbox.
pub(crate) fn sandbox(test: impl FnOnce(&Sandbox) + Send + 'static) {
    // SAFETY: the call takes nothing and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        let _ = writeln!(std::io::stderr(), "skipped: it needs root");
        return;
    }
    let result = thread::spawn(move || {
        unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS);
        mount("none", "/", libc::MS_REC | libc::MS_PRIVATE);
        let folder = tempfile::tempdir().unwrap();
        mount("bpf", folder.path().to_str().unwrap(), 0);
        let peer = Peer::new();
        shell(&format!(
            "ip link set lo up
             ip link add h0 type veth peer name p0
             ip link set p0 netns {}
             ip addr add {HOST}/24 dev h0
             ip addr add fd09::1/64 dev h0 nodad
             ip link set h0 up",
            peer.thread_id
        ));
        peer.run(|| {
            shell(&format!(
                "ip link set lo up
                 ip addr add {PEER}/24 dev p0
                 ip addr add fd09::2/64 dev p0 nodad
                 ip link set p0 up"
            ));
        });
        let paths = Paths { bpffs: folder.path().join("sg") };
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&Sandbox { paths, peer })));
        let root = CString::new(folder.path().to_str().unwrap()).unwrap();
        // SAFETY: the string lives through the call.
        unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
        outcome
    })
    .join()
    .unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Runs commands, one a line, and returns what they print.
pub(crate) fn shell(commands: &str) -> String {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) const SIZES: Sizes =
    Sizes { flows: 1024, zones: 2, rules: 4, image_nodes: 64, events_bytes: 1 << 16 };

pub(crate) fn settings() -> Settings {
    let mut timeouts_seconds = [0; 8];
    for timeout in Timeout::ALL {
        timeouts_seconds[timeout as usize] = timeout.default_seconds();
    }
    Settings { timeouts_seconds, keep_flows: false, avoid_tcx: false }
}

/// The policy of a document, whose first group every zone carries.
pub(crate) fn image(text: &str, zones: usize, side: Side) -> Image {
    let loaded = document::parse_str("policy.yaml", text, &document::Limits::default());
    let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.errors));
    let zone = Zone {
        groups: vec![GroupIndex(0)],
        side: match side {
            Side::Host => policy::Side::Host,
            Side::Guest => policy::Side::Guest,
        },
        mode: Mode::Enforce,
        source_check: false,
        infrastructure: Infrastructure::default(),
        own: vec![],
        macs: vec![],
        ethertypes: vec![],
    };
    let input = Input {
        policy: &policy,
        members: &Membership::written(&policy),
        zones: &vec![Some(zone); zones],
        numbers: &RuleNumbers::in_order(&policy),
    };
    compile(&input, &Limits::MAX).unwrap()
}

/// The ingress and egress hooks of TC on the running kernel: TCX links came with Linux 6.6.
pub(crate) fn tc_hooks() -> [&'static str; 2] {
    if has_tcx() { ["tcx_ingress", "tcx_egress"] } else { ["clsact_ingress", "clsact_egress"] }
}

/// Whether the running kernel has TCX, by its number.
pub(crate) fn has_tcx() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|number| number.parse().ok()).collect();
    numbers >= vec![6, 6]
}

impl Sandbox {
    /// What this version pins, below the root of all versions.
    pub(crate) fn version(&self) -> std::path::PathBuf {
        self.paths.bpffs.join(format!("v{}", sg_common::abi::ABI_VERSION))
    }

    pub(crate) fn open(&self) -> (Kernel, Opened) {
        Kernel::open(&self.paths, &SIZES, &settings()).unwrap()
    }

    /// A kernel with a policy in force and nothing attached.
    pub(crate) fn published(&self, text: &str) -> Kernel {
        let (mut kernel, opened) = self.open();
        assert_eq!(opened, Opened::Loaded);
        kernel.publish(&image(text, 1, Side::Host), 1, 2).unwrap();
        kernel
    }

    /// A kernel with a policy in force on the veth.
    pub(crate) fn enforcing(&self, text: &str) -> Kernel {
        self.enforcing_at(text, HookChoice::Auto)
    }

    /// A kernel with a policy in force on the veth, at this hook.
    pub(crate) fn enforcing_at(&self, text: &str, hook: HookChoice) -> Kernel {
        let mut kernel = self.published(text);
        kernel.attach(&request("h0", hook)).unwrap();
        kernel
    }

    /// Moves the host's end of the veth to the peer, where it keeps its index, and puts another of its
    /// name and index in its place.
    pub(crate) fn replace_host_end(&self, index: u32) {
        let peer = self.peer.thread_id;
        shell(&format!(
            "ip link set h0 netns {peer}
             ip link add h0 index {index} type veth peer name p1
             ip link set p1 netns {peer}
             ip addr add {HOST}/24 dev h0
             ip link set h0 up"
        ));
        self.peer.run(move || {
            shell(&format!(
                "ip -o link show dev h0 | grep -q '^{index}:'
                 ip link set p0 down
                 ip addr flush dev p0
                 ip addr add {PEER}/24 dev p1
                 ip link set p1 up"
            ));
        });
    }

    /// Connects from the peer to a port where the host listens; says whether it went.
    pub(crate) fn connects(&self, port: u16) -> bool {
        self.connect(port).is_some()
    }

    /// Both ends of a connection from the peer.
    pub(crate) fn connect(&self, port: u16) -> Option<(TcpStream, TcpStream)> {
        let listener = listen(port);
        let client = self.peer.run(move || {
            let address = SocketAddr::new(HOST.parse().unwrap(), port);
            TcpStream::connect_timeout(&address, PATIENCE).ok()
        })?;
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        Some((client, server))
    }
}

/// Listens on a port of the host. A program that another thread starts holds all sockets until it has
/// become another program, one that was closed a moment ago included.
fn listen(port: u16) -> TcpListener {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind((HOST, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(Duration::from_millis(1));
            }
            listener => return listener.unwrap(),
        }
    }
}

/// Sends both ways over an open connection; says whether all arrived.
pub(crate) fn talks((client, server): &mut (TcpStream, TcpStream)) -> bool {
    fn carries(from: &mut TcpStream, to: &mut TcpStream) -> bool {
        let mut octets = [0; 5];
        from.write_all(b"hello").is_ok() && to.read_exact(&mut octets).is_ok() && &octets == b"hello"
    }
    carries(client, server) && carries(server, client)
}

pub(crate) fn ifindex(name: &str) -> u32 {
    shell(&format!("cat /proc/thread-self/net/dev >/dev/null; ip -o link show dev {name}"))
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn request(name: &str, hook: HookChoice) -> AttachRequest {
    AttachRequest {
        ifindex: ifindex(name),
        name: name.to_owned(),
        zone: 0,
        side: Side::Host,
        hook,
        bare_ip: false,
    }
}

/// The hooks of an attachment that are alive, by name.
pub(crate) fn alive(attached: &Attached) -> Vec<&'static str> {
    attached.hooks.iter().filter(|state| state.is_alive).map(|state| state.hook.name()).collect()
}

/// Packets of one direction with a verdict.
pub(crate) fn packets(counters: &ZoneCounters, direction: Direction, verdict: Verdict) -> u64 {
    counters[direction as usize][counter_slot(verdict, false) as usize].packets
}

/// All packets of one direction.
pub(crate) fn all_packets(counters: &ZoneCounters, direction: Direction) -> u64 {
    counters[direction as usize].iter().map(|counter| counter.packets).sum()
}

pub(crate) fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}
