//! Entries of `interfaces`.

use sg_common::{addr::Prefix, image::MACS_MAX};

use super::{Decoder, Field};
use crate::{
    document::{
        addresses,
        diagnostic::quote,
        draft::Interface,
        keys,
        tree::{NodeId, Scalar},
    },
    policy::{Hook, Infrastructure, Mac, Mode, Side, matching::Pattern},
};

const SIDES: [(&str, Side); 2] = [("host", Side::Host), ("guest", Side::Guest)];
pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
const HOOKS: [(&str, Hook); 3] = [("auto", Hook::Auto), ("xdp", Hook::Xdp), ("tc", Hook::Tc)];

/// Below this, the field of an Ethernet header is a length.
pub(in crate::document) const FIRST_ETHERTYPE: u16 = 0x0600;
/// What rules judge, and so cannot be let through beside them: IPv4, IPv6 and VLAN tags.
const JUDGED: [u16; 4] = [0x0800, 0x86dd, 0x8100, 0x88a8];

impl Decoder<'_, '_> {
    pub(super) fn interface(&mut self, value: NodeId) -> Option<Interface> {
        let at = self.tree.node(value).at;
        let [pattern, groups, side, addresses, source_check, mode, hook, infrastructure, ethertypes] =
            self.fields(value, "an interface entry", &keys::INTERFACE)?;
        let name = match pattern {
            Some(pattern) => self.text(pattern.value, "`match`").filter(|name| {
                Pattern::parse(&name.value)
                    .inspect_err(|error| {
                        let message =
                            format!("{} is not an interface name or glob: {error}", quote(&name.value));
                        self.report.error(name.at, message);
                    })
                    .is_ok()
            }),
            None => {
                let message = "an interface entry needs `match`: an interface name or a glob";
                self.report.error(at, message.to_owned());
                None
            }
        };
        let groups = match groups {
            Some(groups) => {
                let items = self.list(groups.value, "groups");
                items.iter().filter_map(|item| self.name(*item, "the name of a group")).collect()
            }
            None => {
                let message = "an interface entry needs `groups`: the groups whose rules apply to it";
                self.report.error(at, message.to_owned());
                Vec::new()
            }
        };
        let side = side.map_or(Some(Side::default()), |side| self.keyword(side, "side", &SIDES));
        let mode = mode.map_or(Some(Mode::default()), |mode| self.keyword(mode, "mode", &MODES));
        let hook = hook.map_or(Some(Hook::default()), |hook| self.keyword(hook, "hook", &HOOKS));
        let has_addresses = addresses.is_some();
        let (addresses, macs) = match addresses {
            Some(addresses) => {
                let (prefixes, macs) = self.own_addresses(addresses);
                (Some(prefixes), macs)
            }
            None => (None, Vec::new()),
        };
        let check = source_check.and_then(|check| self.flag(check, "source_check"));
        if let (Some(check), Some(true), Some(Side::Guest), false) =
            (source_check, check, side, has_addresses)
        {
            let message =
                "`source_check` needs `addresses` on `side: guest`: without them, nothing would pass";
            self.report.error(check.at, message.to_owned());
        }
        let infrastructure = match infrastructure {
            Some(infrastructure) => self.infrastructure(infrastructure),
            None => Infrastructure::default(),
        };
        let permit_ethertypes = match ethertypes {
            Some(ethertypes) => self.ethertypes(ethertypes),
            None => Vec::new(),
        };
        Some(Interface {
            pattern: name?,
            groups,
            side: side?,
            addresses,
            macs,
            source_check: check,
            mode: mode?,
            hook: hook?,
            infrastructure,
            permit_ethertypes,
        })
    }

    /// The instance's IP addresses and networks, and its Ethernet addresses.
    fn own_addresses(&mut self, field: Field) -> (Vec<Prefix>, Vec<Mac>) {
        let at = self.tree.node(field.value).at;
        let items = self.items(field.value);
        if items.is_empty() {
            let message = "`addresses` is an empty list; write the instance's addresses, or remove the key";
            self.report.error(at, message.to_owned());
        }
        let (mut prefixes, mut macs, mut is_whole) = (Vec::new(), Vec::new(), true);
        for item in items.iter() {
            let Some(text) = self.word(*item, "an address in `addresses`") else {
                is_whole = false;
                continue;
            };
            if let Some(mac) = Mac::parse(text.value) {
                macs.push(mac);
                continue;
            }
            let prefix = addresses::prefix(text.value, text.at, self.report);
            is_whole &= prefix.is_some();
            prefixes.extend(prefix);
        }
        macs.sort_unstable();
        macs.dedup();
        if macs.len() > MACS_MAX {
            let message =
                format!("`addresses` lists {} Ethernet addresses, and takes {MACS_MAX} at most", macs.len());
            self.report.error(at, message);
        }
        if is_whole && prefixes.is_empty() && !macs.is_empty() {
            let message = "`addresses` lists Ethernet addresses alone; write the instance's IP addresses too";
            self.report.error(at, message.to_owned());
        }
        (prefixes, macs)
    }

    fn infrastructure(&mut self, field: Field) -> Infrastructure {
        let Some([arp, ndp, dhcp, mld]) = self.fields(field.value, "`infrastructure`", &keys::INFRASTRUCTURE)
        else {
            return Infrastructure::default();
        };
        let mut switch =
            |field: Option<Field>, key| field.and_then(|field| self.flag(field, key)).unwrap_or(true);
        Infrastructure {
            arp: switch(arp, "arp"),
            ndp: switch(ndp, "ndp"),
            dhcp: switch(dhcp, "dhcp"),
            mld: switch(mld, "mld"),
        }
    }

    fn ethertypes(&mut self, field: Field) -> Vec<u16> {
        let mut permitted: Vec<_> =
            self.items(field.value).iter().filter_map(|item| self.ethertype(*item)).collect();
        permitted.sort_unstable();
        permitted.dedup();
        permitted
    }

    /// A number, or `0x88cc` as text, which is how JSON can write it.
    fn ethertype(&mut self, item: NodeId) -> Option<u16> {
        let node = self.tree.node(item);
        let number = match node.scalar() {
            Some(Scalar::Integer(number)) => u16::try_from(number).ok(),
            Some(Scalar::Text(text)) => text
                .strip_prefix("0x")
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .and_then(|digits| u16::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        let Some(number) = number.filter(|number| *number >= FIRST_ETHERTYPE) else {
            let message = format!(
                "an item of `permit_ethertypes` is {}, and takes an EtherType from 0x600 to 0xffff",
                node.describe()
            );
            self.report.error(node.at, message);
            return None;
        };
        if JUDGED.contains(&number) {
            let message = format!("{number:#06x} is judged by rules and cannot be permitted as a whole");
            self.report.error(node.at, message);
            return None;
        }
        Some(number)
    }
}
