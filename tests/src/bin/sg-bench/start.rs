//! Starting an agent where the machine is busy with what has just been measured: once more, where it took too
//! long.

use anyhow::Result;
use sg_tests::lab::{Agent, agent::POLICY};

const TRIES: usize = 3;

/// Starts it with this policy.
///
/// # Errors
/// It does not become ready, however often: the error shows its last log.
pub(crate) fn with(agent: &mut Agent, policy: &str) -> Result<()> {
    agent.write(POLICY, policy)?;
    let mut tries = 1;
    loop {
        match agent.start() {
            Err(_) if tries < TRIES => {
                crate::go_on()?;
                // It may have ended by itself.
                drop(agent.kill());
                tries += 1;
            }
            started => return started,
        }
    }
}
