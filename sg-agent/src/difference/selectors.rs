//! What is open, subtracted and put into words.

use sg_common::{
    addr::Family,
    tuple::{Protocol, Table},
};

use crate::{
    compile::{Opened, Ports},
    explain::words,
    policy::Service,
};

/// What `a` opens and `b` does not.
pub(super) fn less(a: &Opened, b: &Opened) -> Opened {
    let mut rest = Opened::default();
    for ((rest, a), b) in rest.0.iter_mut().zip(&a.0).zip(&b.0) {
        *rest = ranges_less(a, b);
    }
    rest
}

pub(super) fn is_nothing(opened: &Opened) -> bool {
    opened.0.iter().all(Vec::is_empty)
}

fn ranges_less(a: &[Ports], b: &[Ports]) -> Vec<Ports> {
    let mut rest = Vec::new();
    let mut cuts = b.iter().peekable();
    for (first, last) in a.iter().copied() {
        let mut start = Some(first);
        while cuts.next_if(|cut| cut.1 < first).is_some() {}
        // A cut that goes on beyond this range may also cut the next.
        while let (Some(from), Some(cut)) = (start, cuts.peek().copied().filter(|cut| cut.0 <= last)) {
            if from < cut.0 {
                rest.push((from, cut.0 - 1));
            }
            start = cut.1.checked_add(1).filter(|next| *next <= last);
            if start.is_some() {
                cuts.next();
            }
        }
        rest.extend(start.map(|from| (from, last)));
    }
    rest
}

/// The words for what is open in each family, in the policy's language: `tcp/443`, `icmp/echo-request`,
/// `gre`. Where that has none, a range: `icmp/9-255`; `other` is every protocol but TCP, UDP and ICMP.
///
/// What is open in both families is the same, but for ICMP.
pub(super) fn services(opened: [Option<&Opened>; 2]) -> Vec<String> {
    let everything = Opened::everything();
    let mut present = opened.into_iter().flatten();
    if present.clone().all(|opened| *opened == everything) {
        return vec!["all".to_owned()];
    }
    let Some(Opened([tcp, udp, _, other])) = present.next() else { return Vec::new() };
    let ports = |ranges: &[Ports], of: fn(u16, u16) -> Service| -> Vec<String> {
        ranges.iter().map(|(first, last)| words::service(of(*first, *last))).collect()
    };
    let mut services = ports(tcp, Service::Tcp);
    services.extend(ports(udp, Service::Udp));
    for (family, opened) in Family::ALL.into_iter().zip(opened) {
        let messages = opened.map_or(&[][..], |opened| &opened.0[Table::Icmp as usize]);
        for range in messages {
            icmp(&mut services, family, *range);
        }
    }
    for range in other {
        protocols(&mut services, *range);
    }
    services
}

/// Messages: whole types, and codes of the types that are not whole.
fn icmp(services: &mut Vec<String>, family: Family, (first, last): Ports) {
    let name = if family == Family::V4 { "icmp" } else { "icmpv6" };
    if (first, last) == (0, u16::MAX) {
        return services.push(name.to_owned());
    }
    let word = |kind, code| words::service(Service::Icmp(family, Some((kind, code))));
    let codes = |services: &mut Vec<String>, kind: u8, from: u8, to: u8| match (from, to) {
        (0, u8::MAX) => services.push(word(kind, None)),
        _ if from == to => services.push(word(kind, Some(from))),
        _ => services.push(format!("{}-{to}", word(kind, Some(from)))),
    };
    let [[first_kind, from], [last_kind, to]] = [first, last].map(u16::to_be_bytes);
    if first_kind == last_kind {
        return codes(services, first_kind, from, to);
    }
    let whole_from = if from == 0 { u16::from(first_kind) } else { u16::from(first_kind) + 1 };
    let whole_to = if to == u8::MAX { u16::from(last_kind) + 1 } else { u16::from(last_kind) };
    if from > 0 {
        codes(services, first_kind, from, u8::MAX);
    }
    runs(services, name, whole_from, whole_to, |kind| word(kind, None));
    if to < u8::MAX {
        codes(services, last_kind, 0, to);
    }
}

fn protocols(services: &mut Vec<String>, (first, last): Ports) {
    if (first, last) == (0, Opened::last(Table::Other)) {
        return services.push("other".to_owned());
    }
    runs(services, "other", first, last.saturating_add(1), |number| {
        words::service(Service::Protocol(Protocol(number)))
    });
}

/// The numbers from `from` to before `to`: by their words, or many of them as a range.
fn runs(services: &mut Vec<String>, name: &str, from: u16, to: u16, word: impl Fn(u8) -> String) {
    const FEW: u16 = 2;
    if to.saturating_sub(from) > FEW {
        services.push(format!("{name}/{from}-{}", to - 1));
    } else {
        services.extend((from..to).filter_map(|number| u8::try_from(number).ok()).map(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(table: Table, ranges: &[Ports]) -> Opened {
        let mut opened = Opened::default();
        opened.0[table as usize] = ranges.to_vec();
        opened
    }

    #[test]
    fn ranges_are_subtracted() {
        type Row = (&'static [Ports], &'static [Ports], &'static [Ports]);
        let rows: [Row; 9] = [
            (&[], &[(1, 2)], &[]),
            (&[(1, 2)], &[], &[(1, 2)]),
            (&[(0, u16::MAX)], &[(443, 443)], &[(0, 442), (444, u16::MAX)]),
            (&[(0, u16::MAX)], &[(0, 5), (u16::MAX, u16::MAX)], &[(6, u16::MAX - 1)]),
            (&[(1, 5), (10, 20)], &[(3, 12)], &[(1, 2), (13, 20)]),
            (&[(1, 5), (10, 20), (30, 40)], &[(0, 35)], &[(36, 40)]),
            (&[(10, 20)], &[(1, 5), (12, 13), (15, 15), (30, 40)], &[(10, 11), (14, 14), (16, 20)]),
            (&[(10, 20)], &[(10, 20)], &[]),
            (&[(0, u16::MAX)], &[(0, u16::MAX)], &[]),
        ];
        for (a, b, rest) in rows {
            assert_eq!(ranges_less(a, b), rest, "{a:?} less {b:?}");
        }
    }

    #[test]
    fn what_is_open_is_told_in_the_language_of_the_policy() {
        let kind = |kind: u16| kind << 8;
        // (table, ranges, in IPv4, in IPv6)
        let rows: [(Table, &[Ports], &str, &str); 12] = [
            (Table::Tcp, &[(443, 443), (8000, 8099)], "tcp/443, tcp/8000-8099", "tcp/443, tcp/8000-8099"),
            (Table::Tcp, &[(0, u16::MAX)], "tcp", "tcp"),
            (Table::Udp, &[(0, 52), (54, u16::MAX)], "udp/0-52, udp/54-65535", "udp/0-52, udp/54-65535"),
            (Table::Icmp, &[(0, u16::MAX)], "icmp", "icmpv6"),
            (Table::Icmp, &[(kind(8), kind(8) | 255)], "icmp/echo-request", "icmpv6/8"),
            (
                Table::Icmp,
                &[(kind(3) | 4, kind(3) | 4)],
                "icmp/destination-unreachable/4",
                "icmpv6/time-exceeded/4",
            ),
            (Table::Icmp, &[(kind(9), u16::MAX)], "icmp/9-255", "icmpv6/9-255"),
            (
                Table::Icmp,
                &[(kind(3) | 4, kind(5) | 1)],
                "icmp/destination-unreachable/4-255, icmp/source-quench, icmp/redirect/0-1",
                "icmpv6/time-exceeded/4-255, icmpv6/parameter-problem, icmpv6/5/0-1",
            ),
            (Table::Other, &[(47, 47), (50, 51)], "gre, esp, ah", "gre, esp, ah"),
            (Table::Other, &[(0, 255)], "other", "other"),
            (Table::Other, &[(0, 46), (48, 255)], "other/0-46, other/48-255", "other/0-46, other/48-255"),
            (Table::Other, &[], "", ""),
        ];
        for (table, ranges, v4, v6) in rows {
            let opened = opened(table, ranges);
            assert_eq!(services([Some(&opened), None]).join(", "), v4, "{table:?} {ranges:?}");
            assert_eq!(services([None, Some(&opened)]).join(", "), v6, "{table:?} {ranges:?}");
        }
        let everything = Opened::everything();
        assert_eq!(services([Some(&everything), Some(&everything)]), ["all"]);
        let ping = opened(Table::Icmp, &[(kind(8), kind(8) | 255)]);
        let ping_v6 = opened(Table::Icmp, &[(kind(128), kind(128) | 255)]);
        assert_eq!(services([Some(&ping), Some(&ping_v6)]), ["icmp/echo-request", "icmpv6/echo-request"]);
    }
}
