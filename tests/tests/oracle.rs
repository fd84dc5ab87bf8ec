//! nftables judges the same traffic: generated policies, enforced by the agent on one box and by
//! `nft` with connection tracking on another, let the same packets cross.
//!
//! Twenty policies and a hundred probes each, or 200 of them where `SG_NIGHTLY` is set; a probe is up
//! to nine packets. `SG_ORACLE=POLICIES:PROBES` asks for so many, `SG_ORACLE_SEED` for what a failure
//! has named. What is left out, and why: [`sg_tests::oracle`].

use std::{
    env,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use sg_agent::document;
use sg_tests::{
    agreement::Dice,
    lab::can_run,
    oracle::{
        Crossing, Probe,
        crossing::{INSIDE, OUTSIDE},
        probes::{self, Sent},
        ruleset::ruleset,
    },
};

/// The ruleset that says the same.
fn translated(document: &str) -> Result<String> {
    let loaded = document::parse_str("policy.yaml", document, &document::Limits::default());
    ensure!(loaded.errors.is_empty(), "{:?}\n{document}", loaded.errors);
    let policy = loaded.policy.context("no policy")?;
    let groups = &policy.interfaces[0].groups;
    Ok(ruleset(&policy, groups, OUTSIDE, INSIDE))
}

/// Sends a probe across both boxes. Gives the packets that were sent and how many arrived.
fn compare(ours: &Crossing, theirs: &Crossing, probe: &Probe) -> Result<(u64, u64)> {
    let mut arrived: Vec<bool> = vec![];
    let mut sent = 0;
    for (number, Sent { direction, packet, after }) in probe.packets.iter().enumerate() {
        if after.is_some_and(|after| !arrived[after]) {
            arrived.push(false);
            continue;
        }
        let expected = theirs.arrives(*direction, packet).context("nftables")?;
        let found = ours.arrives(*direction, packet).context("the agent")?;
        if found != expected {
            bail!(
                "{}, packet {number} {direction}: nftables {}, the agent {}\n{packet:?}",
                probe.what,
                if expected { "lets it pass" } else { "drops it" },
                if found { "lets it pass" } else { "drops it" },
            );
        }
        sent += 1;
        arrived.push(expected);
    }
    Ok((sent, arrived.into_iter().filter(|arrived| *arrived).count() as u64))
}

#[test]
fn nftables_and_the_agent_let_the_same_packets_cross() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let default = if env::var_os("SG_NIGHTLY").is_some() { "200:200" } else { "20:100" };
    let asked = env::var("SG_ORACLE").unwrap_or_else(|_| default.to_owned());
    let (policies, probes) = asked.split_once(':').context("SG_ORACLE is POLICIES:PROBES")?;
    let (policies, probes): (u64, u64) = (policies.parse()?, probes.parse()?);
    let first = match env::var("SG_ORACLE_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    };
    eprintln!("SG_ORACLE_SEED={first} SG_ORACLE={policies}:{probes}");
    let start = Instant::now();
    let (mut ours, mut theirs) = (Crossing::new(true)?, Crossing::new(false)?);
    let (mut sent, mut arrived) = (0, 0);
    for number in 0..policies {
        let seed = first.wrapping_add(number);
        let mut dice = Dice(seed);
        let document = probes::document(&mut dice);
        let ruleset = translated(&document)?;
        for crossing in [&mut ours, &mut theirs] {
            crossing.enforce(&document, &ruleset, number == 0)?;
        }
        for turn in 0..probes {
            let probe = probes::probe(&mut dice, number, turn);
            let (more, of_them) = compare(&ours, &theirs, &probe).with_context(|| {
                format!("SG_ORACLE_SEED={seed} SG_ORACLE=1:{probes}, probe {turn}\n{document}\n{ruleset}")
            })?;
            sent += more;
            arrived += of_them;
        }
    }
    eprintln!("{arrived} of {sent} packets crossed under {policies} policies in {:.1?}", start.elapsed());
    ensure!(arrived > 0 && arrived < sent, "{arrived} of {sent} arrived: that shows nothing");
    Ok(())
}
