//! Whether programs on one CPU can interrupt each other: what they keep for each CPU, the packet under
//! judgement above all, would then be another's.
//!
//! The hooks run in softirqs or with these held off, which exclude each other on a CPU. On a PREEMPT_RT
//! kernel they can be preempted, and since Linux 6.12.57 they exclude each other there only where
//! `CONFIG_PREEMPT_RT_NEEDS_BH_LOCK` is set.
//! <https://git.kernel.org/linus/3253cb49cbad4772389d6ef55be75db1f97da910>

use std::fs;

use super::KernelError;

/// Where a kernel with the patches of the realtime project tells that it is one. One without them, which
/// has been to be had since Linux 6.12, tells it by its version alone.
const REALTIME: &str = "/sys/kernel/realtime";
const VERSION: &str = "/proc/sys/kernel/version";
const LOCK: &str = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";

/// Refuses a kernel on which programs could interrupt each other.
pub(super) fn check() -> Result<(), KernelError> {
    let [realtime, version] = [REALTIME, VERSION].map(|path| fs::read_to_string(path).ok());
    let configuration = super::clock::configuration();
    if !is_realtime(realtime.as_deref(), version.as_deref(), configuration.as_deref())
        || excluded(configuration.as_deref())
    {
        return Ok(());
    }
    Err(KernelError::Lacks {
        what: "softirqs that exclude each other",
        detail: format!("it is a PREEMPT_RT kernel, and its configuration in /boot does not say {LOCK}=y"),
    })
}

/// Whether it is a PREEMPT_RT kernel, by what it tells of itself in any way.
fn is_realtime(realtime: Option<&str>, version: Option<&str>, configuration: Option<&str>) -> bool {
    realtime.is_some_and(|text| text.trim() == "1")
        || version.is_some_and(|text| text.split_whitespace().any(|word| word == "PREEMPT_RT"))
        || configuration.is_some_and(|text| text.lines().any(|line| line.trim() == "CONFIG_PREEMPT_RT=y"))
}

/// Whether softirqs exclude each other on a CPU of a realtime kernel. Where its configuration cannot be
/// read, nobody knows.
fn excluded(configuration: Option<&str>) -> bool {
    // A kernel that knows of no such option always has the lock.
    configuration.is_some_and(|text| {
        !text.contains(LOCK) || text.lines().any(|line| line.strip_prefix(LOCK) == Some("=y"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realtime_kernel_is_known_by_whatever_tells_of_it() {
        const PLAIN: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)\n";
        const REAL: &str = "#1 SMP PREEMPT_RT Debian 6.12.57-1 (2025-11-05)\n";
        const CONFIGURED: &str = "CONFIG_HZ=250\nCONFIG_PREEMPT_RT=y\n";
        for (what, realtime, version, configuration, expected) in [
            ("nothing", None, None, None, false),
            ("another", None, Some(PLAIN), Some("# CONFIG_PREEMPT_RT is not set\n"), false),
            ("told not to be one", Some("0\n"), Some(PLAIN), None, false),
            ("with the project's patches", Some("1\n"), Some(PLAIN), None, true),
            ("without them", None, Some(REAL), None, true),
            ("by its configuration alone", None, None, Some(CONFIGURED), true),
        ] {
            assert_eq!(is_realtime(realtime, version, configuration), expected, "{what}");
        }
    }

    #[test]
    fn only_a_realtime_kernel_without_the_lock_is_refused() {
        for (what, configuration, is_fine) in [
            ("of an older version", Some("CONFIG_HZ=250\n"), true),
            ("with the lock", Some("CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n"), true),
            ("without", Some("# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n"), false),
            ("nobody knows", None, false),
        ] {
            assert_eq!(excluded(configuration), is_fine, "{what}");
        }
        assert!(check().is_ok(), "the tests run on a kernel that will do");
    }
}
