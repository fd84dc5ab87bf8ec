//! Whether programs on one CPU can interrupt each other: what they keep for each CPU, the packet under
//! judgement above all, would then be another's.
//!
//! The hooks run in softirqs or with these held off, which exclude each other on a CPU. On a PREEMPT_RT
//! kernel they can be preempted, and since Linux 6.12.57 they exclude each other there only where
//! `CONFIG_PREEMPT_RT_NEEDS_BH_LOCK` is set.
//! <https://git.kernel.org/linus/3253cb49cbad4772389d6ef55be75db1f97da910>

use std::fs;

use super::KernelError;

/// Where the running kernel tells that it is a PREEMPT_RT one.
const REALTIME: &str = "/sys/kernel/realtime";
const LOCK: &str = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";

/// Refuses a kernel on which programs could interrupt each other.
pub(super) fn check() -> Result<(), KernelError> {
    let realtime = fs::read_to_string(REALTIME).ok();
    if excluded(realtime.as_deref(), super::clock::configuration().as_deref()) {
        return Ok(());
    }
    Err(KernelError::Lacks {
        what: "softirqs that exclude each other",
        detail: format!("{REALTIME} is 1, and its configuration in /boot does not say {LOCK}=y"),
    })
}

/// Whether softirqs exclude each other on a CPU, by what the kernel tells of itself. Where a realtime
/// kernel's configuration cannot be read, nobody knows.
fn excluded(realtime: Option<&str>, configuration: Option<&str>) -> bool {
    if realtime.is_none_or(|text| text.trim() != "1") {
        return true;
    }
    // A kernel that knows of no such option always has the lock.
    configuration.is_some_and(|text| {
        !text.contains(LOCK) || text.lines().any(|line| line.strip_prefix(LOCK) == Some("=y"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_realtime_kernel_without_the_lock_is_refused() {
        for (what, realtime, configuration, is_fine) in [
            ("no realtime kernel", None, None, true),
            ("told not to be one", Some("0\n"), None, true),
            ("of an older version", Some("1\n"), Some("CONFIG_HZ=250\n"), true),
            ("with the lock", Some("1\n"), Some("CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n"), true),
            ("without", Some("1\n"), Some("# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n"), false),
            ("nobody knows", Some("1\n"), None, false),
        ] {
            assert_eq!(excluded(realtime, configuration), is_fine, "{what}");
        }
        assert!(check().is_ok(), "the tests run on a kernel that will do");
    }
}
