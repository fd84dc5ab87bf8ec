//! What an interface's entry says besides its rules, before and after.

use crate::{
    kernel::HookChoice,
    state::ZoneRecord,
    view::{SettingChange, told_mode},
};

/// What an entry says of an interface.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// All that is recorded.
    pub zone: &'a ZoneRecord,
    /// The hook that is wanted.
    pub hook: HookChoice,
}

impl Settings<'_> {
    /// By name, in the order of the policy's reference.
    fn values(&self) -> [(&'static str, String); 8] {
        let ZoneRecord {
            groups,
            side,
            mode,
            audit_groups,
            source_check,
            infrastructure,
            permit_ethertypes,
            addresses,
            zone: _,
            ifindex: _,
            name: _,
            is_retired: _,
            entry: _,
        } = self.zone;
        let list = |items: &[String]| match items {
            [] => "none".to_owned(),
            _ => items.join(", "),
        };
        let hook = match self.hook {
            HookChoice::Auto => "auto",
            HookChoice::Xdp => "xdp",
            HookChoice::Tc => "tc",
        };
        let switch = if *source_check { "on" } else { "off" };
        let ethertypes: Vec<String> =
            permit_ethertypes.iter().map(|number| format!("0x{number:04x}")).collect();
        [
            ("groups", list(groups)),
            ("side", side.clone()),
            ("addresses", list(addresses)),
            ("source_check", switch.to_owned()),
            ("mode", told_mode(mode, audit_groups)),
            ("hook", hook.to_owned()),
            ("infrastructure", list(infrastructure)),
            ("permit_ethertypes", list(&ethertypes)),
        ]
    }
}

/// The settings that differ.
#[must_use]
pub fn settings(before: Settings<'_>, after: Settings<'_>) -> Vec<SettingChange> {
    let pairs = before.values().into_iter().zip(after.values());
    pairs
        .filter(|(before, after)| before != after)
        .map(|((name, before), (_, after))| SettingChange { name: name.to_owned(), before, after })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(zone: &ZoneRecord, hook: HookChoice) -> Settings<'_> {
        Settings { zone, hook }
    }

    #[test]
    fn each_setting_that_differs_is_named_with_both_values() {
        let zone = ZoneRecord {
            zone: 0,
            ifindex: 4,
            name: "tap0".to_owned(),
            is_retired: false,
            entry: "tap*".to_owned(),
            groups: vec!["web".to_owned()],
            side: "guest".to_owned(),
            mode: "enforce".to_owned(),
            audit_groups: vec![],
            source_check: true,
            infrastructure: vec!["arp".to_owned(), "ndp".to_owned()],
            permit_ethertypes: vec![],
            addresses: vec!["10.0.2.7/32".to_owned()],
        };
        let text = str::to_owned;
        type Alter = fn(&mut ZoneRecord);
        let rows: [(Alter, &str, &str, &str); 8] = [
            (|zone| zone.groups.push("db".into()), "groups", "web", "web, db"),
            (|zone| zone.side = "host".into(), "side", "guest", "host"),
            (|zone| zone.addresses.clear(), "addresses", "10.0.2.7/32", "none"),
            (|zone| zone.source_check = false, "source_check", "on", "off"),
            (|zone| zone.mode = "audit".into(), "mode", "enforce", "audit"),
            (
                |zone| (zone.mode, zone.audit_groups) = ("audit".into(), vec!["web".into()]),
                "mode",
                "enforce",
                "audit (group web)",
            ),
            (|zone| zone.infrastructure.truncate(1), "infrastructure", "arp, ndp", "arp"),
            (|zone| zone.permit_ethertypes.push(0x88cc), "permit_ethertypes", "none", "0x88cc"),
        ];
        for (alter, name, before, after) in rows {
            let mut other = zone.clone();
            alter(&mut other);
            let expected = SettingChange { name: text(name), before: text(before), after: text(after) };
            assert_eq!(settings(with(&zone, HookChoice::Tc), with(&other, HookChoice::Tc)), [expected]);
        }
        let hook = SettingChange { name: text("hook"), before: text("auto"), after: text("xdp") };
        assert_eq!(settings(with(&zone, HookChoice::Auto), with(&zone, HookChoice::Xdp)), [hook]);
        let renamed = ZoneRecord { name: text("tap9"), zone: 7, entry: text("*"), ..zone.clone() };
        assert_eq!(settings(with(&zone, HookChoice::Tc), with(&renamed, HookChoice::Tc)), []);
    }
}
