//! Enforcing on an interface: note, slot, hooks, in this order; and back.
//!
//! The note comes first, so that whatever was made is found by whoever comes after a crash. The
//! slot is there before the first packet is judged, and goes only when no program runs any more.

use sg_common::abi::Attachment;

use super::{
    AttachRequest, Attached, HookKind, Kernel, KernelError, NO_ZONE, Side,
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
        if let Some(old) = self.records.get(&ifindex).cloned()
            && old.hooks.iter().all(|recorded| self.held.running(ifindex, recorded.hook).is_none())
        {
            // The interface was deleted and made again: no flow of the old one is valid on it.
            self.end(&old)?;
            self.clear_zone(old.zone)?;
        }
        let before = self.records.get(&ifindex).cloned();
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
                let attached =
                    hooks::inspect(&record, &self.set, |ifindex, hook| self.held.running(ifindex, hook));
                self.records.insert(ifindex, record);
                Ok(attached)
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
        let ours = self.held.running(ifindex, HookKind::Xdp);
        match interface.xdp_program.filter(|id| Some(*id) != ours) {
            Some(id) => {
                Err(KernelError::Occupied { interface: name.clone(), program: hooks::program_name(id) })
            }
            None => Ok(()),
        }
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

    fn ingress(
        &mut self,
        request: &AttachRequest,
        interface: &Interface,
        record: &mut Record,
    ) -> Result<RecordedHook, KernelError> {
        let xdp = |why| Candidate { hook: HookKind::Xdp, why };
        match choose(request, interface) {
            Choice::Tc(why) => self.place(record, self.tc(true, why)),
            Choice::ForceXdp => {
                let result = self.place(record, vec![xdp("asked for".to_owned())]);
                result.map_err(|error| self.refused_xdp(error, request))
            }
            Choice::PreferXdp(why) => match self.place(record, vec![xdp(why.clone())]) {
                Err(error) if !error.is_permission() => {
                    let error = self.refused_xdp(error, request);
                    self.place(record, self.tc(true, format!("{why}, but {error}")))
                }
                result => result,
            },
        }
    }

    /// A failure to attach XDP, told in terms of the interface.
    fn refused_xdp(&self, error: KernelError, request: &AttachRequest) -> KernelError {
        let occupant =
            Interfaces::get(request.ifindex).ok().flatten().and_then(|interface| interface.xdp_program);
        let ours = self.held.running(request.ifindex, HookKind::Xdp);
        match (occupant.filter(|id| Some(*id) != ours), error.os_error()) {
            (Some(id), _) => {
                KernelError::Occupied { interface: request.name.clone(), program: hooks::program_name(id) }
            }
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
        let Some(mut before) = before else { return self.end(made) };
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

    /// Ends an attachment: hooks, then the slot, then the note. Goes on past errors.
    pub(super) fn end(&mut self, record: &Record) -> Result<(), KernelError> {
        let mut record = record.clone();
        let mut result = Ok(());
        for recorded in std::mem::take(&mut record.hooks) {
            result = result.and(self.held.release(&self.pins, record.ifindex, recorded.hook));
        }
        result = result.and(self.drop_qdisc(&mut record));
        syscall::grace_period();
        result = result.and(slots::clear(&mut self.set.attachments, record.ifindex));
        self.records.remove(&record.ifindex);
        result.and(self.pins.remove_record(record.ifindex))
    }
}

fn slot_of(record: &Record) -> Attachment {
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
