//! From a case's document to what judges by it.

use anyhow::{Context as _, Result, ensure};
use sg_agent::{
    compile::{self, Input, RuleNumbers, Zone},
    document,
    image::Image,
    policy::{Membership, Policy},
};

/// Nodes of the largest image.
pub const NODES: u32 = 4096;

/// A document's policy, and the image of its first interface entry as zone 0.
///
/// # Errors
/// It is not valid, has no such entry, or its image is too large.
pub fn compiled(document: &str) -> Result<(Policy, Image)> {
    let loaded = document::parse_str("policy.yaml", document, &document::Limits::default());
    ensure!(loaded.errors.is_empty(), "{:?}\n{document}", loaded.errors);
    let policy = loaded.policy.context("no policy")?;
    let entry = policy.interfaces.first().context("no interface entry")?;
    let zone = Zone::of(&policy, entry, entry.addresses.as_deref().unwrap_or(&[]), false);
    let members = Membership::written(&policy);
    let numbers = RuleNumbers::in_order(&policy);
    let zones = [Some(zone)];
    let input = Input { policy: &policy, members: &members, zones: &zones, numbers: &numbers };
    let image = compile::compile(&input, &compile::Limits { nodes: NODES })?;
    Ok((policy, image))
}
