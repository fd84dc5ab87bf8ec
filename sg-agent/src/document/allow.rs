//! What an item of `allow` or of a service means: its grammar, without the names of services.

use sg_common::{addr::Family, tuple::Protocol};

use super::{
    diagnostic::quote,
    draft::Allowed,
    icmp,
    protocols::{self, ICMP, ICMPV6, IPV6_ICMP, TCP, UDP},
    services, spelling,
};
use crate::policy::Service;

/// Why a text is no item, and what may have been meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub message: String,
    pub suggestion: Option<String>,
}

fn refused<T>(message: String, suggestion: Option<String>) -> Result<T, Refused> {
    Err(Refused { message, suggestion })
}

/// Reads an item.
pub(super) fn item(text: &str) -> Result<Allowed, Refused> {
    let Some((head, rest)) = text.split_once('/') else { return word(text) };
    match head {
        "tcp" => ports(text, TCP.0, rest).map(|(first, last)| Allowed::Service(Service::Tcp(first, last))),
        "udp" => ports(text, UDP.0, rest).map(|(first, last)| Allowed::Service(Service::Udp(first, last))),
        "icmp" => kind(Family::V4, rest),
        "icmpv6" | IPV6_ICMP => kind(Family::V6, rest),
        _ => {
            let number = decimal(head).and_then(|number| u8::try_from(number).ok());
            if let (Some(name), true) =
                (number.and_then(protocols::name), rest.bytes().all(|byte| byte.is_ascii_digit()))
            {
                let message = format!("{}: a protocol number stands alone", quote(text));
                let has_parts = [TCP.0, UDP.0, ICMP.0, ICMPV6.0].contains(&name);
                return refused(message, has_parts.then(|| format!("{name}/{rest}")));
            }
            if protocols::number(head).is_some() || head == "all" {
                let message = format!("{}: `{head}` has no ports here; it stands alone", quote(text));
                return refused(message, Some(head.to_owned()));
            }
            // `443/tcp` is how /etc/services writes it.
            let swapped = format!("{rest}/{head}");
            let known = [TCP.0, UDP.0, ICMP.0, ICMPV6.0];
            let suggestion = if known.contains(&rest) && item(&swapped).is_ok() {
                Some(swapped)
            } else {
                spelling::nearest(head, known)
                    .map(|near| format!("{near}/{rest}"))
                    .filter(|near| item(near).is_ok())
            };
            refused(format!("{}: only `tcp`, `udp`, `icmp` and `icmpv6` take a `/`", quote(text)), suggestion)
        }
    }
}

/// An item without a slash.
fn word(text: &str) -> Result<Allowed, Refused> {
    let service = match text {
        "all" => Service::All,
        "tcp" => Service::Tcp(0, u16::MAX),
        "udp" => Service::Udp(0, u16::MAX),
        "icmp" => Service::Icmp(Family::V4, None),
        "icmpv6" | IPV6_ICMP => Service::Icmp(Family::V6, None),
        _ => {
            if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
                return number(text);
            }
            if let Some(number) = protocols::number(text) {
                return Ok(Allowed::Service(Service::Protocol(Protocol(number))));
            }
            if spelling::is_name(text) {
                return Ok(Allowed::Named(text.to_owned()));
            }
            let suggestion = Some(text.replacen([':', ' '], "/", 1).to_lowercase())
                .filter(|repaired| repaired != text && repaired.contains('/') && item(repaired).is_ok());
            let message =
                format!("{}: neither a service, nor a protocol, nor a port such as `tcp/443`", quote(text));
            return refused(message, suggestion);
        }
    };
    Ok(Allowed::Service(service))
}

/// A protocol by its number, as text.
fn number(text: &str) -> Result<Allowed, Refused> {
    match decimal(text) {
        Some(number) => protocol(i64::from(number)),
        None => refused(format!("{}: not a protocol number from 0 to 255", quote(text)), None),
    }
}

/// A protocol by its number.
pub(super) fn protocol(number: i64) -> Result<Allowed, Refused> {
    let Ok(byte) = u8::try_from(number) else {
        let port = u16::try_from(number).ok().map(|port| format!("tcp/{port}"));
        let hint = if port.is_some() { "; a port is written with its protocol" } else { "" };
        return refused(format!("{number} is not a protocol number from 0 to 255{hint}"), port);
    };
    Ok(Allowed::Service(if byte == TCP.1 {
        Service::Tcp(0, u16::MAX)
    } else if byte == UDP.1 {
        Service::Udp(0, u16::MAX)
    } else if byte == ICMP.1 {
        Service::Icmp(Family::V4, None)
    } else if byte == ICMPV6.1 {
        Service::Icmp(Family::V6, None)
    } else {
        Service::Protocol(Protocol(byte))
    }))
}

/// Protocol numbers that are far more likely meant as ports: the well-known ports of services
/// below 256 that anyone opens.
pub(super) fn looks_like_port(number: i64) -> Option<String> {
    const PORTS: [i64; 13] = [20, 21, 22, 23, 25, 53, 67, 80, 110, 123, 143, 161, 179];
    let name = u8::try_from(number).ok().and_then(protocols::name)?;
    PORTS.contains(&number).then(|| {
        format!(
            "{number} is the IP protocol {number} (`{name}`), not a port; a port is written `tcp/{number}`"
        )
    })
}

/// A port or an inclusive range, behind `tcp/` or `udp/`.
fn ports(text: &str, protocol: &str, rest: &str) -> Result<(u16, u16), Refused> {
    let (first, last) = rest.split_once('-').unwrap_or((rest, rest));
    let (Some(first), Some(last)) = (decimal(first), decimal(last)) else {
        // `tcp/https` is a likely slip: the service's name says its protocol.
        let suggestion = services::built_in(rest).map(|_| rest.to_owned());
        let message = format!(
            "{}: `{protocol}/` takes a port from 0 to 65535, or a range such as 8000-8099",
            quote(text)
        );
        return refused(message, suggestion);
    };
    if first > last {
        return refused(
            format!("{}: the range ends before it begins", quote(text)),
            Some(format!("{protocol}/{last}-{first}")),
        );
    }
    Ok((first, last))
}

/// A type and perhaps a code, behind `icmp/` or `icmpv6/`.
fn kind(family: Family, rest: &str) -> Result<Allowed, Refused> {
    let (protocol, other, of) = match family {
        Family::V4 => (ICMP.0, ICMPV6.0, Family::V6),
        Family::V6 => (ICMPV6.0, ICMP.0, Family::V4),
    };
    let (kind, code) = match rest.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (rest, None),
    };
    let byte = |text: &str| decimal(text).and_then(|number| u8::try_from(number).ok());
    let Some(number) = byte(kind).or_else(|| icmp::number(family, kind)) else {
        if icmp::number(of, kind).is_some() {
            let message = format!("`{kind}` is a type of {other}, not of {protocol}");
            return refused(message, Some(format!("{other}/{rest}")));
        }
        let near = spelling::nearest(kind, icmp::types(family).iter().map(|(name, _)| *name));
        let message =
            format!("{} is not a type of {protocol}: a number from 0 to 255 or a name", quote(kind));
        let code = code.map_or_else(String::new, |code| format!("/{code}"));
        return refused(message, near.map(|near| format!("{protocol}/{near}{code}")));
    };
    let code = match code.map(|code| (code, byte(code))) {
        None => None,
        Some((_, Some(code))) => Some(code),
        Some((code, None)) => {
            return refused(format!("{}: a code is a number from 0 to 255", quote(code)), None);
        }
    };
    Ok(Allowed::Service(Service::Icmp(family, Some((number, code)))))
}

/// A decimal number of 16 bits without sign and leading zeros.
fn decimal(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_means_what_the_table_says() {
        let icmp = |kind| Service::Icmp(Family::V4, kind);
        let icmpv6 = |kind| Service::Icmp(Family::V6, kind);
        for (text, service) in [
            ("all", Service::All),
            ("tcp", Service::Tcp(0, 65535)),
            ("6", Service::Tcp(0, 65535)),
            ("udp", Service::Udp(0, 65535)),
            ("17", Service::Udp(0, 65535)),
            ("tcp/443", Service::Tcp(443, 443)),
            ("udp/0", Service::Udp(0, 0)),
            ("tcp/8000-8099", Service::Tcp(8000, 8099)),
            ("tcp/0-65535", Service::Tcp(0, 65535)),
            ("icmp", icmp(None)),
            ("1", icmp(None)),
            ("icmpv6", icmpv6(None)),
            ("ipv6-icmp", icmpv6(None)),
            ("58", icmpv6(None)),
            ("icmp/echo-request", icmp(Some((8, None)))),
            ("icmpv6/echo-request", icmpv6(Some((128, None)))),
            ("icmp/3", icmp(Some((3, None)))),
            ("icmp/3/4", icmp(Some((3, Some(4))))),
            ("icmp/destination-unreachable/4", icmp(Some((3, Some(4))))),
            ("icmpv6/packet-too-big", icmpv6(Some((2, None)))),
            ("icmp/255/255", icmp(Some((255, Some(255))))),
            ("gre", Service::Protocol(Protocol(47))),
            ("47", Service::Protocol(Protocol(47))),
            ("ah", Service::Protocol(Protocol(51))),
            ("sctp", Service::Protocol(Protocol(132))),
            ("0", Service::Protocol(Protocol(0))),
            ("255", Service::Protocol(Protocol(255))),
        ] {
            assert_eq!(item(text), Ok(Allowed::Service(service)), "{text}");
        }
        for name in ["https", "metrics", "rdp"] {
            assert_eq!(item(name), Ok(Allowed::Named(name.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_is_no_item_is_refused_with_what_was_meant() {
        // (text, part of the message, suggestion)
        for (text, message, suggestion) in [
            ("tcp/", "takes a port", None),
            ("tcp/65536", "takes a port", None),
            ("tcp/080", "takes a port", None),
            ("tcp/+80", "takes a port", None),
            ("tcp/80-", "takes a port", None),
            ("tcp/80-90-100", "takes a port", None),
            ("tcp/https", "takes a port", Some("https")),
            ("tcp/90-80", "ends before it begins", Some("tcp/80-90")),
            ("tpc/443", "only `tcp`", Some("tcp/443")),
            ("TCP/443", "only `tcp`", Some("tcp/443")),
            ("443/tcp", "only `tcp`", Some("tcp/443")),
            ("tcp:443", "neither a service", Some("tcp/443")),
            ("tcp 443", "neither a service", Some("tcp/443")),
            ("gre/1", "has no ports", Some("gre")),
            ("all/1", "has no ports", Some("all")),
            ("6/443", "stands alone", Some("tcp/443")),
            ("47/1", "stands alone", None),
            ("443", "not a protocol number", Some("tcp/443")),
            ("99999", "not a protocol number", None),
            ("icmp/256", "not a type of icmp", None),
            ("icmp/echo-requst", "not a type of icmp", Some("icmp/echo-request")),
            ("icmp/packet-too-big", "is a type of icmpv6", Some("icmpv6/packet-too-big")),
            ("icmp/3/host", "a code is a number", None),
            ("icmp/3/4/5", "a code is a number", None),
            ("", "neither a service", None),
            ("-1", "neither a service", None),
        ] {
            let Err(refused) = item(text) else { panic!("{text} was taken") };
            assert!(refused.message.contains(message), "{text}: {}", refused.message);
            assert_eq!(refused.suggestion.as_deref(), suggestion, "{text}");
        }
    }
}
