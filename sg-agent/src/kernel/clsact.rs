//! Filters of the clsact qdisc: the hooks of kernels without TCX links, before 6.6.
//!
//! A filter is no link: it cannot be pinned, and belongs to whoever knows its place. Ours has a
//! fixed priority and one of two handles, so that writing it again replaces it between two packets,
//! and removing it removes no other. Among filters of one priority the newest comes first: with the
//! other handle ours gets before them, and only then leaves its old place.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        tc::{
            TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
        },
    },
};

use super::netlink::{Answer, Netlink, attributes, string_of, u32_of};

/// Before all other filters.
const PRIORITY: u16 = 1;
/// "sg" and "sh", to stay out of the way of handles that people and programs count up from 1.
const HANDLES: [u32; 2] = [0x7367, 0x7368];
const KIND: &str = "clsact";

/// A filter that was found on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// If it is in a place of ours, its handle.
    ours: Option<u32>,
    /// For a BPF filter, the program.
    pub(crate) program: Option<u32>,
    /// For a BPF filter its name, else what kind of filter it is.
    pub(crate) name: String,
}

impl Filter {
    /// Whether it is in a place of ours.
    pub(crate) const fn is_ours(&self) -> bool {
        self.ours.is_some()
    }
}

fn parent(is_ingress: bool) -> TcHandle {
    let minor = if is_ingress { TcHandle::MIN_INGRESS } else { TcHandle::MIN_EGRESS };
    TcHandle { major: u16::MAX, minor }
}

fn message(ifindex: u32, parent: TcHandle, handle: TcHandle, info: u32) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header = TcHeader { handle, parent, info, ..message.header };
    message
}

fn qdisc(ifindex: u32) -> TcMessage {
    let mut message = message(ifindex, TcHandle::CLSACT, TcHandle { major: u16::MAX, minor: 0 }, 0);
    message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
    message
}

fn filter(ifindex: u32, is_ingress: bool, handle: u32) -> TcMessage {
    const ETH_P_ALL: u16 = 3;
    let info = u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be());
    let mut message = message(ifindex, parent(is_ingress), handle.into(), info);
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message
}

/// Adds the qdisc. Tells whether it was missing.
pub(crate) fn add_qdisc(ifindex: u32) -> io::Result<bool> {
    let message = RouteNetlinkMessage::NewQueueDiscipline(qdisc(ifindex));
    match Netlink::open()?.request(message, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Removes the qdisc if no filter is left in it.
pub(crate) fn remove_empty_qdisc(ifindex: u32) -> io::Result<()> {
    for is_ingress in [true, false] {
        if !filters(ifindex, is_ingress)?.is_empty() {
            return Ok(());
        }
    }
    ignore_missing(Netlink::open()?.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc(ifindex)), 0))
}

/// Puts a program in our place, or replaces the one that is there.
pub(crate) fn put(ifindex: u32, is_ingress: bool, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut ours = handles(ifindex, is_ingress)?.into_iter();
    let [first, _] = HANDLES;
    write(ifindex, is_ingress, ours.next().unwrap_or(first), program, name)?;
    // Two are there when the agent died while it got before others.
    ours.try_for_each(|handle| delete(ifindex, is_ingress, handle))
}

/// Puts a program before all others, and only then takes ours off its place.
pub(crate) fn lead(ifindex: u32, is_ingress: bool, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let ours = handles(ifindex, is_ingress)?;
    // Both are taken when the agent died while it did this: the one behind goes first.
    if let &[_, behind] = ours.as_slice() {
        delete(ifindex, is_ingress, behind)?;
    }
    let old = ours.first().copied();
    let [first, second] = HANDLES;
    let free = if old == Some(first) { second } else { first };
    write(ifindex, is_ingress, free, program, name)?;
    old.map_or(Ok(()), |handle| delete(ifindex, is_ingress, handle))
}

/// Whether a filter of somebody else runs before ours.
pub(crate) fn is_behind(ifindex: u32, is_ingress: bool) -> io::Result<bool> {
    let filters = filters(ifindex, is_ingress)?;
    Ok(filters.iter().position(Filter::is_ours).is_some_and(|place| place > 0))
}

/// The handles in use of ours, in the order in which their filters run.
fn handles(ifindex: u32, is_ingress: bool) -> io::Result<Vec<u32>> {
    Ok(filters(ifindex, is_ingress)?.into_iter().filter_map(|filter| filter.ours).collect())
}

fn write(ifindex: u32, is_ingress: bool, handle: u32, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut message = filter(ifindex, is_ingress, handle);
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    Netlink::open()?.request(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE)
}

/// Removes our filter. None there: nothing to do.
pub(crate) fn remove(ifindex: u32, is_ingress: bool) -> io::Result<()> {
    handles(ifindex, is_ingress)?.into_iter().try_for_each(|handle| delete(ifindex, is_ingress, handle))
}

fn delete(ifindex: u32, is_ingress: bool, handle: u32) -> io::Result<()> {
    let message = filter(ifindex, is_ingress, handle);
    ignore_missing(Netlink::open()?.request(RouteNetlinkMessage::DelTrafficFilter(message), 0))
}

/// Every filter on a hook, in the order in which they run.
pub(crate) fn filters(ifindex: u32, is_ingress: bool) -> io::Result<Vec<Filter>> {
    let wanted = message(ifindex, parent(is_ingress), TcHandle::UNSPEC, 0);
    let read = |answer: &Answer<'_>| read(answer, ifindex);
    match Netlink::open()?.list(&RouteNetlinkMessage::GetTrafficFilter(wanted), read) {
        // No such qdisc, or no such interface.
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        result => result,
    }
}

/// Reads a `tcmsg` and its attributes. Each priority is listed as a whole, with handle 0, before its
/// filters: what is no BPF filter is told once for all of them.
fn read(answer: &Answer<'_>, ifindex: u32) -> Option<Filter> {
    const HEADER: usize = 20;
    const RTM_NEWTFILTER: u16 = 44;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const TCA_BPF_NAME: u16 = 7;
    const TCA_BPF_ID: u16 = 11;
    let (handle, info) = (answer.u32(8), answer.u32(16));
    if answer.kind != RTM_NEWTFILTER || answer.u32(4) != ifindex {
        return None;
    }
    let mut filter = Filter { ours: None, program: None, name: String::new() };
    let mut is_bpf = false;
    for (kind, value) in answer.attributes(HEADER) {
        match kind {
            TCA_KIND => {
                filter.name = string_of(value);
                is_bpf = filter.name == TcFilterBpf::KIND;
            }
            TCA_OPTIONS if is_bpf => {
                for (kind, value) in attributes(value) {
                    match kind {
                        TCA_BPF_NAME => filter.name = string_of(value),
                        TCA_BPF_ID => filter.program = u32_of(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let is_ours = is_bpf && HANDLES.contains(&handle) && info >> 16 == u32::from(PRIORITY);
    filter.ours = is_ours.then_some(handle);
    (is_bpf == (handle != 0)).then_some(filter)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_missing(&error) => Ok(()),
        result => result,
    }
}
