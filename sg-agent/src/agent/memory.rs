//! Memory: how large an image may be on this machine, and what a change took given back.

use std::fs;

use crate::{compile::Limits, kernel};

/// Gives back what nothing is in any more: reading and compiling a large policy takes much more than
/// keeping it.
pub(super) fn give_back() {
    kernel::give_back_memory();
}

/// A third of the memory that is free now, for each of: the new image, and its two buffers.
pub(super) fn limit() -> Limits {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
    match available {
        Some(bytes) => {
            Limits { nodes: u32::try_from(bytes / 3 / 64).unwrap_or(u32::MAX).min(Limits::MAX.nodes) }
        }
        None => Limits::MAX,
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:        8137640 kB\nMemFree:          512 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_bytes(text), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }
}
