//! Names of protocols and ICMP types for whoever reads or writes them outside of documents.

use sg_common::{addr::Family, tuple::Protocol};

use super::{icmp, protocols};

/// The name of a protocol as `allow` takes it, else its number.
#[must_use]
pub fn protocol_name(Protocol(number): Protocol) -> String {
    protocols::name(number).map_or_else(|| number.to_string(), ToOwned::to_owned)
}

/// The protocol of a name as `allow` takes it, or of a number.
#[must_use]
pub fn protocol_number(text: &str) -> Option<Protocol> {
    let with_parts = [protocols::TCP, protocols::UDP, protocols::ICMP, protocols::ICMPV6];
    let named = with_parts.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| protocols::number(text)).or_else(|| {
        (text == protocols::IPV6_ICMP).then_some(protocols::ICMPV6.1).or_else(|| text.parse().ok())
    })?;
    Some(Protocol(number))
}

/// The name of an ICMP type of a family.
#[must_use]
pub fn icmp_name(family: Family, number: u8) -> Option<&'static str> {
    icmp::types(family).iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// The number of a named ICMP type of a family.
#[must_use]
pub fn icmp_number(family: Family, name: &str) -> Option<u8> {
    icmp::number(family, name)
}
