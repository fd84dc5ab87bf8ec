//! Ending enforcement from the outside: with the daemon dead, or in the way of another version.
//!
//! Everything here goes on past errors and reports them all.

use aya::maps::{Array, Map, MapData};
use sg_common::abi::map;

use super::{
    DetachReport, KernelError, Paths,
    attachment::{HookKind, Record},
    clsact, hooks,
    links::Interfaces,
    pins::{CURRENT, Pins, remove_tree, require_bpffs, versions},
    set::map_path,
    slots, syscall,
};

impl DetachReport {
    /// Keeps an error, or what was to be had.
    fn keep<T>(&mut self, result: Result<T, KernelError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }
}

/// See [`super::detach_all`].
pub(super) fn all(paths: &Paths) -> Result<DetachReport, KernelError> {
    let root = &paths.bpffs;
    if !root.exists() {
        return Ok(DetachReport::default());
    }
    // Folders are removed whole: not on a disk, because of a mistyped path.
    require_bpffs(root)?;
    let folders = versions(root).map_err(|error| KernelError::system("list", root.display(), error))?;
    let mut report = DetachReport::default();
    for folder in folders {
        if let Some(Some(pins)) = report.keep(Pins::at(root, folder)) {
            end_version(&pins, &mut report, |_, _| false);
        }
    }
    // Another's folder inside, or a missing one, is no failure.
    let _ = std::fs::remove_dir(root);
    report.interfaces.sort_unstable();
    report.interfaces.dedup();
    Ok(report)
}

/// Ends all that one ABI version enforces, and removes its folder. `is_taken` tells the filters that
/// are another version's by now: both put them into one place.
pub(super) fn end_version(pins: &Pins, report: &mut DetachReport, is_taken: impl Fn(u32, HookKind) -> bool) {
    let notes = report.keep(pins.notes()).unwrap_or_default();
    // A link needs no note to be ended.
    for (ifindex, hook, _) in report.keep(pins.links()).unwrap_or_default() {
        report.keep(hooks::release(pins, None, ifindex, hook));
    }
    for (ifindex, note) in notes {
        if let Some(mut record) = report.keep(note) {
            record.hooks.retain(|recorded| !is_taken(ifindex, recorded.hook));
            end_hooks(pins, &record, report);
            report.interfaces.push(record.name);
        } else {
            // Nor does a filter: its place is known. Whose the qdisc is, is not.
            for hook in HookKind::FILTERS.into_iter().filter(|hook| !is_taken(ifindex, *hook)) {
                report.keep(hooks::release(pins, None, ifindex, hook));
            }
        }
    }
    syscall::grace_period();
    report.keep(remove_tree(pins.folder()));
}

/// See [`super::detach_interface`].
pub(super) fn interface(paths: &Paths, name: &str) -> Result<DetachReport, KernelError> {
    let mut report = DetachReport::default();
    let Some(pins) = Pins::open(paths)? else { return Ok(report) };
    let ifindex = Interfaces::snapshot()?
        .into_iter()
        .find_map(|interface| (interface.name == name).then_some(interface.ifindex));
    let is_it = |record: &Record| match ifindex {
        Some(ifindex) => record.ifindex == ifindex,
        None => record.name == name,
    };
    for record in pins.records()?.into_iter().filter(is_it) {
        end_hooks(&pins, &record, &mut report);
        syscall::grace_period();
        report.keep(clear_slot(&pins, record.ifindex));
        report.keep(pins.remove_record(record.ifindex));
        report.interfaces.push(name.to_owned());
    }
    Ok(report)
}

fn end_hooks(pins: &Pins, record: &Record, report: &mut DetachReport) {
    for recorded in &record.hooks {
        report.keep(hooks::release(pins, None, record.ifindex, recorded.hook));
    }
    if record.owns_qdisc {
        let removed = clsact::remove_empty_qdisc(record.ifindex)
            .map_err(|error| KernelError::system("remove the clsact qdisc of", &record.name, error));
        report.keep(removed);
    }
}

fn clear_slot(pins: &Pins, ifindex: u32) -> Result<(), KernelError> {
    let failed = |error| KernelError::map("open", map::ATTACHMENTS, error);
    let path = map_path(&pins.folder().join(CURRENT), map::ATTACHMENTS);
    let data = MapData::from_pin(path).map_err(failed)?;
    slots::clear(&mut Array::try_from(Map::Array(data)).map_err(failed)?, ifindex)
}
