//! Enforcing on an interface: note, slot, hooks, in this order; and back.
//!
//! The note comes first, so that whatever was made is found by whoever comes after a crash. The
//! slot is there before the first packet is judged, and goes only when no program runs any more.

use sg_common::abi::Attachment;

use super::{
    AttachRequest, Attached, HookChoice, HookKind, Kernel, KernelError, NO_ZONE, Side,
    attachment::{Record, RecordedHook},
    clsact, hooks,
    links::{Interface, Interfaces},
    slots, syscall,
    xdp::{Choice, choose},
};

/// A hook to try, and why it would be the one.
struct Candidate {
    hook: HookKind,
    why: String,
}

impl Kernel {
    /// See [`Kernel::attach`].
    pub(super) fn attach_interface(&mut self, request: &AttachRequest) -> Result<Attached, KernelError> {
        if self.generation() == 0 {
            return Err(KernelError::NothingPublished);
        }
        if request.zone >= NO_ZONE {
            return Err(KernelError::TooLarge {
                what: "the zone",
                found: request.zone.into(),
                limit: u64::from(NO_ZONE) - 1,
            });
        }
        let ifindex = request.ifindex;
        let interface = Interfaces::get(ifindex)
            .map_err(|error| KernelError::system("look at", &request.name, error))?
            .filter(|interface| interface.name == request.name)
            .ok_or_else(|| KernelError::NoInterface { name: request.name.clone(), ifindex })?;
        self.fit_zones(request.zone)?;
        if self.has_departed(ifindex) {
            // The interface was deleted and made again: no flow of the old one is valid on it.
            self.end(ifindex)?;
        }
        self.clean.set(request.zone, false);
        let before = self.records.get(&ifindex).cloned();
        let is_taken_over = before.is_none() && self.enforced_by_others().contains(&ifindex);
        let mut record = Record {
            ifindex,
            name: request.name.clone(),
            zone: request.zone,
            side: request.side,
            wanted: request.hook,
            bare_ip: request.bare_ip,
            hooks: before.as_ref().map_or_else(Vec::new, |before| before.hooks.clone()),
            owns_qdisc: before.as_ref().is_some_and(|before| before.owns_qdisc),
        };
        match self.enforce(request, &interface, &mut record) {
            Ok(()) => {
                let attached = self.inspect(&record);
                self.records.insert(ifindex, record);
                Ok(attached)
            }
            Err(error) if is_taken_over => {
                // Each hook has the program of one version or the other. To undo it would take both off.
                self.records.insert(ifindex, record);
                Err(error)
            }
            Err(error) => {
                if let Err(second) = self.undo(&record, before) {
                    tracing::warn!("after a failed attach to {}: {second}", request.name);
                }
                Err(error)
            }
        }
    }

    /// See [`Kernel::check`].
    pub(super) fn check_request(&self, request: &AttachRequest) -> Result<(), KernelError> {
        let AttachRequest { ifindex, ref name, .. } = *request;
        let interface = Interfaces::get(ifindex)
            .map_err(|error| KernelError::system("look at", name, error))?
            .ok_or_else(|| KernelError::NoInterface { name: name.clone(), ifindex })?;
        if !matches!(choose(request, &interface), Choice::ForceXdp) {
            return Ok(());
        }
        if let Err(reason) = self.set.program(HookKind::Xdp) {
            return Err(KernelError::Lacks { what: "what the XDP program needs", detail: reason.to_owned() });
        }
        self.occupant(request, &interface).map_or(Ok(()), Err)
    }

    fn enforce(
        &mut self,
        request: &AttachRequest,
        interface: &Interface,
        record: &mut Record,
    ) -> Result<(), KernelError> {
        self.pins.write_record(record)?;
        slots::put(&mut self.set.attachments, slot_of(record))?;
        let ingress = self.ingress(request, interface, record)?;
        let egress = self.place(record, self.tc(false, "XDP does not see what is sent".to_owned()))?;
        // Two hooks of one direction judge alike; a packet that both see is counted twice.
        for recorded in std::mem::replace(&mut record.hooks, vec![ingress.clone(), egress.clone()]) {
            if ![ingress.hook, egress.hook].contains(&recorded.hook) {
                self.held.release(&self.pins, record.ifindex, recorded.hook)?;
            }
        }
        self.drop_qdisc(record)?;
        self.pins.write_record(record)
    }

    /// Puts the ingress program on XDP or TC. Where XDP is not to be had it is TC, whatever was asked
    /// for: the wrong hook is a problem, none at all would be an open door.
    fn ingress(
        &mut self,
        request: &AttachRequest,
        interface: &Interface,
        record: &mut Record,
    ) -> Result<RecordedHook, KernelError> {
        let why = match choose(request, interface) {
            Choice::Tc(why) => return self.place(record, self.tc(true, why)),
            Choice::ForceXdp => "asked for".to_owned(),
            Choice::PreferXdp(why) => why,
        };
        let placed = match self.occupant(request, interface) {
            Some(error) => Err(error),
            None => {
                let xdp = Candidate { hook: HookKind::Xdp, why: why.clone() };
                self.place(record, vec![xdp]).map_err(|error| self.refused_xdp(error, request))
            }
        };
        self.awaits_xdp.remove(&request.ifindex);
        match placed {
            Err(error) if !error.is_permission() => {
                if request.hook == HookChoice::Xdp && matches!(error, KernelError::Occupied { .. }) {
                    self.awaits_xdp.insert(request.ifindex);
                }
                let why = match request.hook {
                    HookChoice::Xdp => format!("XDP is asked for, but {error}"),
                    HookChoice::Auto | HookChoice::Tc => format!("{why}, but {error}"),
                };
                self.place(record, self.tc(true, why))
            }
            placed => placed,
        }
    }

    /// The program of somebody else on the XDP hook, as an error.
    fn occupant(&self, request: &AttachRequest, interface: &Interface) -> Option<KernelError> {
        let ours = self.held.running(request.ifindex, HookKind::Xdp);
        let id = interface.xdp_program.filter(|id| Some(*id) != ours)?;
        let (interface, program) = (request.name.clone(), hooks::program_name(id));
        Some(KernelError::Occupied { interface, program })
    }

    /// A failure to attach XDP, told in terms of the interface.
    fn refused_xdp(&self, error: KernelError, request: &AttachRequest) -> KernelError {
        let interface = Interfaces::get(request.ifindex).ok().flatten();
        let occupant = interface.and_then(|interface| self.occupant(request, &interface));
        match (occupant, error.os_error()) {
            (Some(occupied), _) => occupied,
            (None, Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                KernelError::Lacks { what: "native XDP on this interface", detail: error.to_string() }
            }
            (None, _) => error,
        }
    }

    /// TC hooks to try, in order.
    fn tc(&self, is_ingress: bool, why: String) -> Vec<Candidate> {
        let (tcx, filter) = if is_ingress {
            (HookKind::TcxIngress, HookKind::ClsactIngress)
        } else {
            (HookKind::TcxEgress, HookKind::ClsactEgress)
        };
        let filter = Candidate { hook: filter, why: why.clone() };
        if self.settings.avoid_tcx { vec![filter] } else { vec![Candidate { hook: tcx, why }, filter] }
    }

    /// Puts the program on the first hook that takes it.
    fn place(
        &mut self,
        record: &mut Record,
        candidates: Vec<Candidate>,
    ) -> Result<RecordedHook, KernelError> {
        let count = candidates.len();
        let mut refused = String::new();
        for (number, Candidate { hook, why }) in candidates.into_iter().enumerate() {
            let was_there = record.hooks.iter().any(|recorded| recorded.hook == hook);
            match self.put(record, hook) {
                Ok(()) => {
                    let parts = [why, refused];
                    let why = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>();
                    return Ok(RecordedHook { hook, why: why.join("; ") });
                }
                Err(error) if number + 1 < count && is_unknown_hook(&error) => {
                    if !was_there {
                        record.hooks.retain(|recorded| recorded.hook != hook);
                    }
                    refused = format!("this kernel has no {} links", hook.mode());
                }
                Err(error) => {
                    if !was_there {
                        record.hooks.retain(|recorded| recorded.hook != hook);
                    }
                    return Err(error);
                }
            }
        }
        Err(KernelError::Lacks { what: "a hook", detail: refused })
    }

    fn put(&mut self, record: &mut Record, hook: HookKind) -> Result<(), KernelError> {
        let program = self.set.program(hook).map_err(|reason| KernelError::Lacks {
            what: "what the XDP program needs",
            detail: reason.to_owned(),
        })?;
        if record.hooks.iter().all(|recorded| recorded.hook != hook) {
            record.hooks.push(RecordedHook { hook, why: String::new() });
            self.pins.write_record(record)?;
        }
        if !hook.is_link() {
            let added = clsact::add_qdisc(record.ifindex)
                .map_err(|error| KernelError::system("add a clsact qdisc to", &record.name, error))?;
            if added {
                record.owns_qdisc = true;
                self.pins.write_record(record)?;
            }
        }
        self.held.hold(&self.pins, program, record.ifindex, hook)
    }

    /// Removes a qdisc that is ours and of no more use.
    fn drop_qdisc(&self, record: &mut Record) -> Result<(), KernelError> {
        if record.owns_qdisc && record.hooks.iter().all(|recorded| recorded.hook.is_link()) {
            clsact::remove_empty_qdisc(record.ifindex)
                .map_err(|error| KernelError::system("remove the clsact qdisc of", &record.name, error))?;
            record.owns_qdisc = false;
        }
        Ok(())
    }

    /// Puts things back as they were before an attach failed half-way.
    fn undo(&mut self, made: &Record, before: Option<Record>) -> Result<(), KernelError> {
        let Some(mut before) = before else {
            self.records.insert(made.ifindex, made.clone());
            return self.end(made.ifindex);
        };
        let mut result = slots::put(&mut self.set.attachments, slot_of(&before));
        for recorded in &made.hooks {
            if before.hooks.iter().all(|kept| kept.hook != recorded.hook) {
                let released = self.held.release(&self.pins, made.ifindex, recorded.hook);
                result = result.and(released);
            }
        }
        before.owns_qdisc |= made.owns_qdisc;
        result = result.and(self.drop_qdisc(&mut before)).and(self.pins.write_record(&before));
        self.records.insert(before.ifindex, before);
        result
    }

    /// Ends one attachment.
    pub(super) fn end(&mut self, ifindex: u32) -> Result<(), KernelError> {
        self.end_all(&[ifindex]).into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Ends attachments: hooks, then slots, notes, flows and counters. Goes on past errors. All of them
    /// share one wait for programs that still run, and one walk over the flows.
    pub(super) fn end_all(&mut self, interfaces: &[u32]) -> Vec<(u32, KernelError)> {
        let mut errors = Vec::new();
        let mut ended = Vec::new();
        for ifindex in interfaces {
            let Some(mut record) = self.records.remove(ifindex) else { continue };
            for recorded in std::mem::take(&mut record.hooks) {
                let released = self.held.release(&self.pins, *ifindex, recorded.hook);
                errors.extend(released.err().map(|error| (*ifindex, error)));
            }
            errors.extend(self.drop_qdisc(&mut record).err().map(|error| (*ifindex, error)));
            ended.push(record);
        }
        if ended.is_empty() {
            return errors;
        }
        syscall::grace_period();
        for record in &ended {
            let ifindex = record.ifindex;
            let cleared = slots::clear(&mut self.set.attachments, ifindex);
            let cleared = cleared.and(self.pins.remove_record(ifindex));
            errors.extend(cleared.err().map(|error| (ifindex, error)));
            self.forget(ifindex);
        }
        // What another version still enforces goes on with its flows.
        let inherited = self.inherited();
        let is_over = |record: &&Record| inherited.get(&record.ifindex) != Some(&record.zone);
        let zones: Vec<u32> = ended.iter().filter(is_over).map(|record| record.zone).collect();
        if let Err(error) = self.clear_zones(&zones) {
            errors.push((ended[0].ifindex, error));
        }
        errors
    }
}

pub(super) fn slot_of(record: &Record) -> Attachment {
    let bare_ip = if record.bare_ip { Attachment::BARE_IP } else { 0 };
    let guest = if record.side == Side::Guest { Attachment::GUEST } else { 0 };
    Attachment { ifindex: record.ifindex, zone_and_flags: record.zone | bare_ip | guest }
}

/// Whether a kernel says so that it does not know such links.
fn is_unknown_hook(error: &KernelError) -> bool {
    /// Internal to the kernel, and told to user space all the same.
    const ENOTSUPP: i32 = 524;
    matches!(error.os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}
