//! Looking whether everything in the kernel is as it was left, and mending what is not.
//!
//! What is enforced is known from the attachments themselves: no policy is asked, and what was
//! detached on purpose has left nothing behind that would be mended.

use super::{Attached, Kernel, KernelError, attachment::Record, links::Interfaces};

/// What was not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that is pinned, or where it is pinned, was gone.
    Pin,
    /// A program was gone from its hook.
    Hook,
    /// A program of somebody else's had come before ours.
    Place,
    /// Somebody had the XDP hook that was asked for.
    Xdp,
}

impl Kind {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Hook => "hook",
            Self::Place => "place",
            Self::Xdp => "xdp",
        }
    }
}

/// Something that was not as it should be, and is again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Of which kind it was.
    pub kind: Kind,
    /// The interface that it concerns, where it is one.
    pub interface: Option<String>,
    /// What was wrong.
    pub what: String,
}

/// What came of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What was mended.
    pub repairs: Vec<Repair>,
    /// What could not be.
    pub problems: Vec<String>,
}

impl Kernel {
    /// See [`Kernel::look`].
    pub(super) fn look_and_mend(&mut self) -> Look {
        let mut look = Look::default();
        self.restore_pins(&mut look);
        let wrong = self.wrong();
        if wrong.is_empty() {
            return look;
        }
        for attached in &wrong {
            if let Err(error) = self.mend(attached) {
                look.problems.push(format!("{}: {error}", attached.name));
            }
        }
        if wrong.iter().any(is_behind)
            && let Err(error) = self.put_programs_first()
        {
            look.problems.push(format!("cannot get before another program: {error}"));
        }
        self.notice_departures();
        for attached in wrong {
            let after = self.records.get(&attached.ifindex).map(|record| self.inspect(record));
            if after.is_some_and(|after| !is_wrong(&after)) {
                look.repairs.extend(said(&attached));
            }
        }
        look
    }

    /// Attachments with something to mend. Those that are known to be sound are not looked at.
    fn wrong(&self) -> Vec<Attached> {
        self.notice_departures();
        let is_sound = |record: &&Record| {
            record.hooks.iter().all(|recorded| {
                let program = self.set.program(recorded.hook);
                program.is_ok_and(|program| self.held.is_sound(program, record.ifindex, recorded.hook))
            })
        };
        let awaits = |record: &&Record| self.awaits_xdp.contains(&record.ifindex);
        let suspect = self.records.values().filter(|record| !is_sound(record) || awaits(record));
        suspect.map(|record| self.inspect(record)).filter(is_wrong).collect()
    }

    /// Puts what an attachment lacks back. One whose interface goes away meanwhile is left to the
    /// event that tells so.
    fn mend(&mut self, attached: &Attached) -> Result<(), KernelError> {
        if !is_broken(attached) && !attached.is_xdp_free {
            return Ok(());
        }
        let found = Interfaces::get(attached.ifindex)
            .map_err(|error| KernelError::system("look at", &attached.name, error))?;
        let Some(interface) = found else { return Ok(()) };
        match self.attach_interface(&attached.request(interface.name)) {
            Ok(_) | Err(KernelError::NoInterface { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts pins back that are gone: the file system, the folder, and whatever was in it. Whether or not
    /// that can be done, enforcement goes on from what is held.
    pub(super) fn restore_pins(&mut self, look: &mut Look) {
        let gone = match self.pins.restore() {
            Ok(gone) => gone,
            Err(error) => {
                look.problems
                    .push(format!("what is pinned cannot be reached, and is enforced all the same: {error}"));
                None
            }
        };
        self.set.folder = self.pins.set(self.set.number);
        let mut errors = Vec::new();
        let mut found = Vec::new();

        let (names, failed) = self.holdings.restore_pins(&self.set.folder);
        errors.extend(failed);
        if !names.is_empty() {
            found.push(Repair {
                kind: Kind::Pin,
                interface: None,
                what: format!("the pins of {} were gone", names.join(", ")),
            });
        }
        match self.pins.restore_current(self.set.number) {
            Ok(true) => {
                found.push(Repair {
                    kind: Kind::Pin,
                    interface: None,
                    what: "what led to the set in force was gone".to_owned(),
                });
            }
            Ok(false) => {}
            Err(error) => errors.push(error),
        }
        let (links, failed) = self.held.restore_pins(&self.pins);
        errors.extend(failed);
        found.extend(self.told(&links, "the pin of a link was gone", "pins of links were gone"));
        let (notes, failed) = self.pins.restore_records(self.records.values());
        errors.extend(failed);
        found.extend(self.told(&notes, "its note was gone", "notes were gone"));

        // What was in a folder went with it.
        match gone {
            Some(what) => look.repairs.push(Repair { kind: Kind::Pin, interface: None, what }),
            None => look.repairs.append(&mut found),
        }
        // One says what all of them say.
        if look.problems.is_empty() {
            look.problems.extend(errors.first().map(ToString::to_string));
        }
    }

    /// One thing about what is pinned that concerned these interfaces.
    fn told(&self, interfaces: &[u32], one: &str, several: &str) -> Option<Repair> {
        match interfaces {
            [] => None,
            [ifindex] => {
                let name = self.records.get(ifindex).map(|record| record.name.clone());
                Some(Repair { kind: Kind::Pin, interface: name, what: one.to_owned() })
            }
            all => {
                let what = format!("{} {several}", all.len());
                Some(Repair { kind: Kind::Pin, interface: None, what })
            }
        }
    }
}

/// Whether there is something to mend. An interface that has gone is for the event that tells so.
fn is_wrong(attached: &Attached) -> bool {
    !attached.is_gone && (is_broken(attached) || is_behind(attached) || attached.is_xdp_free)
}

fn is_broken(attached: &Attached) -> bool {
    attached.hooks.iter().any(|hook| !hook.is_alive)
}

fn is_behind(attached: &Attached) -> bool {
    attached.hooks.iter().any(|hook| !hook.programs_before.is_empty())
}

/// What was wrong with an attachment.
fn said(attached: &Attached) -> Vec<Repair> {
    let mut said = Vec::new();
    for hook in &attached.hooks {
        if !hook.is_alive {
            said.push((Kind::Hook, format!("the program was gone from {}", hook.hook)));
        }
        if !hook.programs_before.is_empty() {
            let others = hook.programs_before.join(", ");
            said.push((Kind::Place, format!("{others} ran before it at {}", hook.hook)));
        }
    }
    if attached.is_xdp_free {
        said.push((Kind::Xdp, "XDP was asked for, and another program had the hook".to_owned()));
    }
    let repair = |(kind, what)| Repair { kind, interface: Some(attached.name.clone()), what };
    said.into_iter().map(repair).collect()
}
