//! What applying a policy would do, without doing it: nothing is written, into the kernel or to disk.
//! Asked for by itself, and before each change that somebody asks for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sg_common::tuple::Direction;

use super::{Engine, InForce};
use crate::{
    agent::{
        memory,
        numbering::Numbering,
        plan::{self, Candidate, Inputs, Placement},
        steps::steps,
    },
    difference::{self, Change, Line, Numbered, Reach, Settings},
    failure::{Exit, Failure},
    kernel::{
        Attached, HookChoice, Kernel,
        links::{Interface, Interfaces},
    },
    policy::{GroupIndex, Mode, Policy},
    state::ZoneRecord,
    view::{AccessChange, AccessLine, Coverage, Plan, PlannedInterface, RuleChanges, Size, SizeChange},
};

mod audited;
mod flows;

const WHAT: &str = "plan the policy";

/// Prefixes that the answer to `plan` lists; beyond that they are counted.
pub const LISTED: usize = 1 << 20;

/// An interface that is covered, before or after.
struct Covered<'a> {
    settings: Settings<'a>,
    reach: Reach<'a>,
    /// What tells this reach from the others of the same policy.
    key: Key,
}

/// A policy that was compiled to tell what it would change, for the change that follows at once. It is the
/// image of whatever is compiled of the same, and of nothing else.
pub(super) struct Prepared {
    policy: Arc<Policy>,
    inputs: Inputs,
    before: Numbering,
    next: plan::Plan,
}

impl Prepared {
    /// What compiling these would give.
    pub(super) fn of(self, policy: &Arc<Policy>, inputs: &Inputs, before: &Numbering) -> Option<plan::Plan> {
        let is_same = Arc::ptr_eq(&self.policy, policy) && self.inputs == *inputs && self.before == *before;
        is_same.then_some(self.next)
    }
}

/// The groups whose union applies, in order; `None`: everything passes.
type Key = Option<Vec<GroupIndex>>;

/// Covered interfaces by index.
type Coverages<'a> = BTreeMap<u32, Covered<'a>>;

impl Engine {
    /// What [`Engine::apply`] would change if it were asked now, with so many prefixes listed; further ones
    /// are counted.
    ///
    /// # Errors
    ///
    /// `apply` would refuse the policy; nobody remembers what is in force; or that cannot be read.
    pub fn plan(&self, candidate: &Candidate, listed: usize) -> Result<Plan, Failure> {
        self.preview(candidate, listed).map(|(plan, _)| plan)
    }

    /// The same before a change that follows at once, which need not compile the policy again.
    ///
    /// # Errors
    ///
    /// As [`Self::plan`].
    pub fn foretell(&mut self, candidate: &Candidate, listed: usize) -> Result<Plan, Failure> {
        let (plan, prepared) = self.preview(candidate, listed)?;
        self.prepared = Some(prepared);
        Ok(plan)
    }

    fn preview(&self, candidate: &Candidate, listed: usize) -> Result<(Plan, Prepared), Failure> {
        let interfaces =
            Interfaces::snapshot().map_err(|error| Failure::kernel("list interfaces", &error))?;
        let attached = self.kernel.as_ref().map_or_else(Vec::new, Kernel::attached);
        let in_force = self.in_force.as_ref();
        if in_force.is_none() && self.generation() > 0 {
            let why = format!("nobody remembers what generation {} says", self.generation());
            return Err(Failure::new(Exit::Failed, WHAT, why)
                .with_remedy("name the folder of the agent that applied it with --state-dir"));
        }
        // An apply covers again what was detached by name.
        let none = BTreeSet::new();
        let placement = plan::place(&candidate.policy, &interfaces, &none, &attached, &self.before.zones);
        self.check(&steps(&placement.requests, &attached))?;
        let next = plan::compile(
            &candidate.policy,
            &placement.inputs,
            &self.before.numbering,
            self.sizes.rules,
            &memory::limit(),
        )
        .map_err(|error| Failure::new(Exit::Invalid, WHAT, error))?;

        let before = in_force.map(|in_force| covered_now(in_force, &attached)).unwrap_or_default();
        let after = covered_then(candidate, &placement);
        let renumbered = next.renumbered.rules.iter().map(|(index, number, _)| (*index, number.0));
        let numbered = Numbered { policy: &candidate.policy, rules: renumbered.collect() };
        let mut plan = Plan {
            changed: false,
            generation: self.generation(),
            digest: candidate.digest.clone(),
            interfaces: treated_otherwise(&before, &after, &interfaces),
            access: access(&before, &after, listed)?,
            rules: rules(in_force, &numbered),
            flows: self.flows(&before, &after, &placement, &interfaces, &next.image)?,
            size: SizeChange {
                now: in_force.map_or_else(Size::default, |now| size(&now.candidate, now.bytes)),
                then: size(candidate, next.image.size()),
            },
            compile_ms: next.compile_ms,
            warnings: candidate.warnings.iter().map(ToString::to_string).collect(),
            problems: placement.problems.clone(),
        };
        plan.changed = plan.says_something();
        let prepared = Prepared {
            policy: Arc::clone(&candidate.policy),
            inputs: placement.inputs,
            before: self.before.numbering.clone(),
            next,
        };
        Ok((plan, prepared))
    }
}

fn covered_now<'a>(in_force: &'a InForce, attached: &[Attached]) -> Coverages<'a> {
    let InForce { candidate, record, inputs, .. } = in_force;
    let covered = record.zones.iter().filter_map(|zone| {
        let is_its = |attached: &&Attached| (attached.ifindex, attached.zone) == (zone.ifindex, zone.zone);
        let attached = attached.iter().find(is_its).filter(|attached| !attached.is_gone)?;
        covered(&candidate.policy, inputs, zone, attached.wanted)
    });
    covered.collect()
}

fn covered_then<'a>(candidate: &'a Candidate, placement: &'a Placement) -> Coverages<'a> {
    let covered = placement.zones.iter().filter_map(|zone| {
        let request = placement.requests.iter().find(|request| request.ifindex == zone.ifindex)?;
        covered(&candidate.policy, &placement.inputs, zone, request.hook)
    });
    covered.collect()
}

fn covered<'a>(
    policy: &'a Policy,
    inputs: &'a Inputs,
    zone: &'a ZoneRecord,
    hook: HookChoice,
) -> Option<(u32, Covered<'a>)> {
    let compiled = inputs.zones.get(zone.zone as usize)?.as_ref().filter(|_| !zone.is_retired)?;
    let (reach, key) = match compiled.mode {
        Mode::Audit => (Reach::Everything, None),
        Mode::Enforce => {
            let mut key = compiled.groups.clone();
            key.sort_unstable();
            (Reach::Rules { policy, members: &inputs.members, groups: &compiled.groups }, Some(key))
        }
    };
    Some((zone.ifindex, Covered { settings: Settings { zone, hook }, reach, key }))
}

/// Interfaces whose coverage or settings differ. One that is gone is none of the policy's doing.
fn treated_otherwise(
    before: &Coverages<'_>,
    after: &Coverages<'_>,
    interfaces: &[Interface],
) -> Vec<PlannedInterface> {
    let mut changes: Vec<PlannedInterface> = interfaces
        .iter()
        .filter_map(|Interface { ifindex, name, .. }| {
            let (coverage, settings) = match (before.get(ifindex), after.get(ifindex)) {
                (None, None) => return None,
                (None, Some(_)) => (Coverage::Begins, Vec::new()),
                (Some(_), None) => (Coverage::Ends, Vec::new()),
                (Some(old), Some(new)) => (Coverage::Stays, difference::settings(old.settings, new.settings)),
            };
            let is_change = coverage != Coverage::Stays || !settings.is_empty();
            is_change.then(|| PlannedInterface { name: name.clone(), coverage, settings })
        })
        .collect();
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

/// Who gains and loses access, where an interface is covered before and after. Interfaces under the
/// same groups are compared once.
fn access(
    before: &Coverages<'_>,
    after: &Coverages<'_>,
    listed: usize,
) -> Result<Vec<AccessChange>, Failure> {
    let mut pairs: Vec<(&Covered<'_>, &Covered<'_>)> =
        after.iter().filter_map(|(ifindex, new)| Some((before.get(ifindex)?, new))).collect();
    pairs.sort_by(|(_, a), (_, b)| a.settings.zone.name.cmp(&b.settings.zone.name));
    let mut alike: HashMap<(&Key, &Key), usize> = HashMap::new();
    let mut compared: Vec<(Vec<String>, [Change; 2])> = Vec::new();
    for (old, new) in pairs {
        let at = match alike.get(&(&old.key, &new.key)) {
            Some(at) => *at,
            None => {
                let change = |direction| {
                    difference::change(old.reach, new.reach, direction)
                        .map_err(|error| Failure::new(Exit::Failed, WHAT, error))
                };
                compared.push((Vec::new(), [change(Direction::Inbound)?, change(Direction::Outbound)?]));
                alike.insert((&old.key, &new.key), compared.len() - 1);
                compared.len() - 1
            }
        };
        compared[at].0.push(new.settings.zone.name.clone());
    }
    let mut left = listed;
    let mut changes = Vec::new();
    for (interfaces, change) in compared {
        for (direction, change) in Direction::ALL.into_iter().zip(change) {
            if change != Change::default() {
                changes.push(AccessChange {
                    interfaces: interfaces.clone(),
                    direction: direction.name().to_owned(),
                    gains: change.gains.iter().map(|line| written(line, &mut left)).collect(),
                    losses: change.losses.iter().map(|line| written(line, &mut left)).collect(),
                });
            }
        }
    }
    Ok(changes)
}

fn written(line: &Line, left: &mut usize) -> AccessLine {
    let (addresses, more_addresses) = line.addresses(*left);
    *left -= addresses.len().min(*left);
    AccessLine { services: line.services(), addresses, more_addresses }
}

fn rules(in_force: Option<&InForce>, after: &Numbered<'_>) -> RuleChanges {
    let nothing = Policy::default();
    let before = match in_force {
        // A record has a line for each of its policy's rules, in the same order.
        Some(InForce { candidate, record, .. }) => Numbered {
            policy: &candidate.policy,
            rules: candidate
                .policy
                .rules()
                .zip(&record.rules)
                .map(|((index, _), rule)| (index, rule.number))
                .collect(),
        },
        None => Numbered { policy: &nothing, rules: Vec::new() },
    };
    difference::rules(&before, after)
}

fn size(candidate: &Candidate, bytes: usize) -> Size {
    Size { bytes, rules: candidate.counts.rules, prefixes: candidate.counts.prefixes }
}
