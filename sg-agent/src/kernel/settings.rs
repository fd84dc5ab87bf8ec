//! What the daemon may choose: where things are pinned, how large they are, and what may change at a start.

use std::path::PathBuf;

/// Where things are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// A folder on a BPF file system, as `/sys/fs/bpf/sg-agent`. It is made if it is missing.
    pub bpffs: PathBuf,
}

/// How large things are made when they are loaded for the first time. Whatever grows later starts
/// from here; the flow table keeps its size for as long as it is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows that fit; rounded up to a power of two.
    pub flows: u32,
    /// Zones that have counters.
    pub zones: u32,
    /// Rules that have counters.
    pub rules: u32,
    /// Nodes in one image buffer.
    pub image_nodes: u32,
    /// Bytes of the ring of drop events; rounded up to a power of two of pages.
    pub events_bytes: u32,
}

/// What may change between two starts of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Idle timeouts in seconds, by [`Timeout`](sg_common::flow::Timeout).
    pub timeouts_seconds: [u32; 8],
    /// Flows keep the verdict of the generation that admitted them.
    pub keep_flows: bool,
    /// Uses clsact filters even where the kernel has TCX links, as kernels before 6.6 do.
    pub avoid_tcx: bool,
}
