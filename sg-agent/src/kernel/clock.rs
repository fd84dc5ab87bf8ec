//! The tick clock of flows, as user space sees it.
//!
//! A tick is sixteen jiffies, and jiffies last as long as the kernel was built for. That is read
//! from the kernel's configuration where it can be, else measured by running the clock program.
//! Programs count in the low 32 bits of the 64-bit jiffies shifted; the clock program returns the
//! low 32 bits of the jiffies themselves, so that the bits above come from the monotonic clock.

use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use sg_common::abi::TICK_SHIFT;

use super::{KernelError, syscall};

/// Jiffies a second that kernels are built for.
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// How long a measurement takes: the rates differ by a fifth at least, and a jiffy is 10 ms at most.
const MEASURED: Duration = Duration::from_millis(200);
/// Seconds before the low 32 bits of the jiffies wrap for the first time.
const FIRST_WRAP_SECONDS: u64 = 300;

/// Runs the clock program: the low 32 bits of the jiffies.
fn low_jiffies(clock: &SchedClassifier) -> Result<u32, KernelError> {
    // The kernel asks for an Ethernet header at least.
    let frame = [0; 14];
    let result = clock
        .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() })
        .map_err(|error| KernelError::program("run", "the clock program", error))?;
    Ok(result.return_value)
}

/// The jiffies as the programs read them.
pub(crate) fn jiffies(clock: &SchedClassifier, rate: u32) -> Result<u64, KernelError> {
    Ok(jiffies_of(low_jiffies(clock)?, syscall::monotonic(), rate))
}

/// The present tick.
pub(crate) fn tick(clock: &SchedClassifier, rate: u32) -> Result<u32, KernelError> {
    Ok((jiffies(clock, rate)? >> TICK_SHIFT) as u32)
}

/// The jiffies at a moment at which their low bits are `low`.
fn jiffies_of(low: u32, monotonic: Duration, rate: u32) -> u64 {
    let rate = u64::from(rate);
    let begin = (1_u64 << 32) - FIRST_WRAP_SECONDS * rate;
    let guess = begin + monotonic.as_secs() * rate + u64::from(monotonic.subsec_millis()) * rate / 1000;
    // The number nearest to the guess that has these low bits.
    let off = low.wrapping_sub(guess as u32).cast_signed();
    guess.wrapping_add_signed(off.into())
}

/// Ticks in `seconds`, at least one.
pub(crate) fn ticks(seconds: u32, rate: u32) -> u32 {
    let ticks = (u64::from(seconds) * u64::from(rate)).div_ceil(1 << TICK_SHIFT);
    ticks.clamp(1, u64::from(u32::MAX) / 2) as u32
}

/// Jiffies in a duration.
pub(crate) fn jiffies_in(duration: Duration, rate: u32) -> u64 {
    u64::try_from(duration.as_millis() * u128::from(rate) / 1000).unwrap_or(u64::MAX)
}

/// How long so many jiffies last.
pub(crate) fn duration(jiffies: u64, rate: u32) -> Duration {
    Duration::from_secs(jiffies) / rate
}

/// Milliseconds in a tick.
pub(crate) fn tick_millis(rate: u32) -> f64 {
    f64::from(1000 << TICK_SHIFT) / f64::from(rate)
}

/// Jiffies a second.
pub(crate) fn rate(clock: &SchedClassifier) -> Result<u32, KernelError> {
    match configured() {
        Some(rate) => Ok(rate),
        None => measure(clock),
    }
}

/// What the kernel's configuration says, where distributions install it.
fn configured() -> Option<u32> {
    rate_in(&configuration()?)
}

/// The running kernel's configuration.
pub(super) fn configuration() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    std::fs::read_to_string(format!("/boot/config-{}", release.trim())).ok()
}

fn rate_in(configuration: &str) -> Option<u32> {
    configuration.lines().find_map(|line| line.strip_prefix("CONFIG_HZ=")?.trim().parse().ok())
}

fn measure(clock: &SchedClassifier) -> Result<u32, KernelError> {
    let (begin, before) = (Instant::now(), low_jiffies(clock)?);
    std::thread::sleep(MEASURED);
    let (passed, elapsed) = (low_jiffies(clock)?.wrapping_sub(before), begin.elapsed());
    Ok(nearest(f64::from(passed) / elapsed.as_secs_f64()))
}

/// The rate nearest to a measured one, by ratio.
fn nearest(measured: f64) -> u32 {
    let distance = |rate: &u32| (measured.max(1.0) / f64::from(*rate)).ln().abs();
    RATES.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(RATES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jiffies_are_told_from_low_bits_and_uptime() {
        for (what, seconds, rate, drift) in [
            ("just booted", 0, 250, 0),
            ("before the wrap", 299, 250, 3),
            ("after the wrap", 301, 250, -7),
            ("a year", 31_536_000, 1000, 40_000),
            ("many wraps", 400_000_000, 1000, -40_000),
        ] {
            let jiffies = ((1_u64 << 32) - 300 * rate + seconds * rate).wrapping_add_signed(drift);
            let found = jiffies_of(jiffies as u32, Duration::from_secs(seconds), rate as u32);
            assert_eq!(found, jiffies, "{what}");
        }
    }

    #[test]
    fn seconds_become_ticks() {
        assert_eq!((ticks(30, 250), ticks(0, 250), ticks(432_000, 1000)), (469, 1, 27_000_000));
        assert!((tick_millis(250) - 64.0).abs() < 1e-9);
    }

    #[test]
    fn rates_are_told_apart() {
        for (measured, rate) in [(0.0, 100), (97.0, 100), (262.0, 250), (288.0, 300), (1100.0, 1000)] {
            assert_eq!(nearest(measured), rate, "{measured}");
        }
        assert_eq!(rate_in("CONFIG_HZ_250=y\nCONFIG_HZ=250\n"), Some(250));
        assert_eq!(rate_in("# CONFIG_HZ is not set\n"), None);
    }
}
