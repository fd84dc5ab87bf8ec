//! Takes the programs to interfaces, and off them. What is in force is not its concern.

use tracing::{debug, info, warn};

use super::Engine;
use crate::{
    agent::{
        cut::Regime,
        plan::Before,
        steps::{Steps, is_behind},
    },
    failure::{Exit, Failure},
    kernel::{
        self, AttachRequest, Kernel, KernelError, Seed, Side,
        links::{Interface, Interfaces},
    },
    view::Detached,
};

impl Engine {
    /// Attaches and detaches; what fails is a problem, and the rest is done all the same. Problems that
    /// were `known` before are not told again.
    pub(super) fn carry_out(
        &mut self,
        steps: &Steps,
        attached: &[kernel::Attached],
        interfaces: &[Interface],
        known: &[String],
    ) {
        let Some(kernel) = &mut self.kernel else { return };
        let is_new = |request: &&AttachRequest| {
            request.side == Side::Host
                && attached.iter().all(|old| old.ifindex != request.ifindex || old.is_gone)
        };
        let hosts: Vec<&AttachRequest> = steps.attach.iter().filter(is_new).collect();
        if !hosts.is_empty() {
            match seeds(kernel, &hosts, interfaces).and_then(|seeds| kernel.seed_flows(&seeds)) {
                Ok(count) => debug!(count, "entered open sockets as flows"),
                Err(error) => warn!("open sockets could not be entered as flows: {error}"),
            }
        }
        let mut refused = Vec::new();
        let mut now = attached.to_vec();
        now.retain(|old| steps.attach.iter().all(|request| request.ifindex != old.ifindex));
        for request in &steps.attach {
            match kernel.attach(request) {
                Ok(attached) => {
                    for hook in &attached.hooks {
                        info!(interface = %request.name, hook = %hook.hook, why = %hook.why, "attached");
                    }
                    now.push(attached);
                }
                Err(error) => {
                    refused.push(request.ifindex);
                    self.problems.push(problem(&request.name, &error));
                }
            }
        }
        if now.iter().any(is_behind) {
            match kernel.put_first() {
                Ok(_) => info!("put before programs that others had put in front"),
                Err(error) => self.problems.push(format!("cannot get before another program: {error}")),
            }
            let behind = kernel.attached().into_iter().filter(is_behind);
            self.problems.extend(
                behind.map(|attached| format!("{}: another program is still in front", attached.name)),
            );
        }
        let errors = kernel.detach_each(&steps.detach);
        for ifindex in &steps.detach {
            let name = attached.iter().find(|old| old.ifindex == *ifindex).map_or("?", |old| &old.name);
            let mut failed = errors.iter().filter(|(of, _)| of == ifindex).peekable();
            if failed.peek().is_none() {
                info!(interface = %name, "detached");
            }
            self.problems.extend(failed.map(|(_, error)| problem(name, error)));
        }
        // What cannot be attached, or read, stays another version's as long as that enforces.
        let is_unread =
            |ifindex| interfaces.iter().any(|found| found.ifindex == ifindex && !found.is_supported);
        let is_needed = |ifindex: &u32| refused.contains(ifindex) || is_unread(*ifindex);
        if !kernel.enforced_by_others().iter().any(is_needed) {
            // All else that it still holds is nobody's.
            let retired = kernel.retire_other_versions();
            for interface in &retired.interfaces {
                info!(interface = %interface, "ended what another version enforced");
            }
            self.problems.extend(retired.errors.iter().map(ToString::to_string));
        }
        // Not in force as asked for, but in force.
        self.problems.extend(
            now.iter()
                .filter(|attached| !steps.detach.contains(&attached.ifindex))
                .filter_map(kernel::Attached::lacks_xdp),
        );
        for problem in self.problems.iter().filter(|problem| !known.contains(problem)) {
            warn!("{problem}");
        }
    }

    /// Ends enforcement on one interface until the next policy.
    ///
    /// # Errors
    ///
    /// Nothing is attached to an interface of that name, or it cannot be detached.
    pub fn detach(&mut self, name: &str) -> Result<Detached, Failure> {
        let what = format!("detach {name}");
        self.not_on_trial(&what)?;
        let attached = self.kernel.as_ref().map_or_else(Vec::new, Kernel::attached);
        let interfaces = Interfaces::snapshot().map_err(|error| Failure::kernel(what.clone(), &error))?;
        let ifindex = interfaces.iter().find(|interface| interface.name == name).map(|found| found.ifindex);
        let Some(found) =
            attached.iter().find(|attached| attached.name == name || Some(attached.ifindex) == ifindex)
        else {
            return Err(Failure::new(Exit::Failed, what, "nothing is attached to it"));
        };
        let ifindex = found.ifindex;
        self.excluded.insert(name.to_owned());
        if self.in_force.is_some() {
            self.follow()?;
        } else if let Some(kernel) = &mut self.kernel {
            kernel.detach(ifindex).map_err(|error| Failure::kernel(what, &error))?;
            // Nobody follows what becomes of its zone: whoever gets it next gets it cleared.
            self.before.zones.retire(ifindex);
        }
        Ok(Detached { interfaces: vec![name.to_owned()], all: false })
    }

    /// Ends all enforcement until the next policy.
    ///
    /// # Errors
    ///
    /// Something could not be removed; all else was.
    pub fn detach_all(&mut self) -> Result<Detached, Failure> {
        if self.trial.take().is_some() {
            self.end_note();
        }
        // The links must not be held while their pins go.
        self.kernel = None;
        self.in_force = None;
        self.before = Before::default();
        self.problems.clear();
        let report = kernel::detach_all(&self.paths);
        detached(report, "detach everything", true)
    }
}

/// The open sockets that use the interfaces of `requests`, by address. Where another version enforces,
/// what it let live is in the flows that are taken over; where there are none, the policy is asked.
fn seeds(
    kernel: &Kernel,
    requests: &[&AttachRequest],
    interfaces: &[Interface],
) -> Result<Vec<Seed>, KernelError> {
    let (inherited, others) = (kernel.inherited(), kernel.enforced_by_others());
    let requests = requests.iter().filter(|request| !inherited.contains_key(&request.ifindex));
    let sockets = kernel::sockets()?;
    let (mut seeds, mut image) = (Vec::new(), None);
    for request in requests {
        let Some(interface) = interfaces.iter().find(|found| found.ifindex == request.ifindex) else {
            continue;
        };
        let own = sockets
            .iter()
            .filter(|socket| interface.addresses.iter().any(|address| address.contains(socket.local)));
        let seed = |socket| Seed { zone: request.zone, socket };
        if others.contains(&request.ifindex) {
            let image = match &mut image {
                Some(image) => &*image,
                none => none.insert(kernel.current_image()?),
            };
            let (zone, is_audited, is_reversed) = (request.zone, false, false);
            let regime = Regime { image, zone, is_audited, is_reversed };
            seeds.extend(own.filter_map(|socket| regime.admitted(socket)).map(seed));
        } else {
            seeds.extend(own.copied().map(seed));
        }
    }
    Ok(seeds)
}

fn problem(interface: &str, error: &KernelError) -> String {
    match error.remedy() {
        Some(remedy) => format!("{interface}: {error}; {remedy}"),
        None => format!("{interface}: {error}"),
    }
}

/// What a detach ended, or why something is left.
///
/// # Errors
///
/// The report could not be made, or has errors.
pub fn detached(
    report: Result<kernel::DetachReport, KernelError>,
    what: &str,
    all: bool,
) -> Result<Detached, Failure> {
    let report = report.map_err(|error| Failure::kernel(what, &error))?;
    let Some(first) = report.errors.first() else {
        return Ok(Detached { interfaces: report.interfaces, all });
    };
    let others = report.errors[1..].iter().map(ToString::to_string).collect();
    Err(Failure::kernel(what, first).with_diagnostics(others))
}
