//! Snapshots of `counters -o json`, and a comparison that leaves no counter out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Cli;

/// Names a counter: interface, direction, and `allowed`, a drop reason, or `audited` and the reason
/// why an interface in audit mode would have dropped what it allowed.
pub type Key = (String, String, String);

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Every counter of every interface at one moment, or what they gained between two. `dropped` is no
/// counter of its own here: reading proves that it is the sum of the reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub BTreeMap<Key, Count>);

impl Counters {
    /// The counters now.
    ///
    /// # Errors
    /// The command fails, its output has another shape, or a sum is wrong.
    pub fn read(cli: &Cli) -> Result<Self> {
        let value = cli.json(&["counters"])?;
        Self::parse(&value).with_context(|| format!("counters -o json: {value:#}"))
    }

    /// The counters in the JSON shape of the command line's contract.
    ///
    /// # Errors
    /// The shape is another, or a sum is wrong.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut all = BTreeMap::new();
        for interface in value["interfaces"].as_array().context("no list of interfaces")? {
            let name = interface["name"].as_str().context("no name")?;
            for direction in ["inbound", "outbound"] {
                let counts = &interface[direction];
                let mut sum = Count::default();
                let reasons = counts["reasons"].as_object().context("no reasons")?;
                for (reason, value) in reasons {
                    let count = Count::parse(value).with_context(|| reason.clone())?;
                    sum.packets += count.packets;
                    sum.bytes += count.bytes;
                    all.insert((name.to_owned(), direction.to_owned(), reason.clone()), count);
                }
                let dropped = Count::parse(&counts["dropped"]).context("dropped")?;
                ensure!(
                    sum == dropped,
                    "{name} {direction}: dropped is {dropped:?}, its reasons add up to {sum:?}"
                );
                let allowed = Count::parse(&counts["allowed"]).context("allowed")?;
                if let Some(audited) = counts["audited_reasons"].as_object() {
                    for (reason, value) in audited {
                        let count = Count::parse(value).with_context(|| reason.clone())?;
                        all.insert(
                            (name.to_owned(), direction.to_owned(), format!("audited {reason}")),
                            count,
                        );
                    }
                }
                all.insert((name.to_owned(), direction.to_owned(), "allowed".to_owned()), allowed);
            }
        }
        Ok(Self(all))
    }

    /// What every counter gained since `before`; those that gained nothing are left out.
    ///
    /// # Errors
    /// A counter went back: that is never right.
    pub fn since(&self, before: &Self) -> Result<Self> {
        if let Some(gone) =
            before.0.iter().find(|(key, count)| count.packets > 0 && !self.0.contains_key(*key))
        {
            bail!("the counter {gone:?} is gone");
        }
        let mut gained = BTreeMap::new();
        for (key, now) in &self.0 {
            let then = before.0.get(key).copied().unwrap_or_default();
            let (Some(packets), Some(bytes)) =
                (now.packets.checked_sub(then.packets), now.bytes.checked_sub(then.bytes))
            else {
                bail!("{key:?} went back from {then:?} to {now:?}");
            };
            if packets > 0 || bytes > 0 {
                gained.insert(key.clone(), Count { packets, bytes });
            }
        }
        Ok(Self(gained))
    }

    /// The packets alone.
    #[must_use]
    pub fn packets(&self) -> BTreeMap<Key, u64> {
        self.0.iter().map(|(key, count)| (key.clone(), count.packets)).collect()
    }

    /// One counter's packets; zero if it never moved.
    #[must_use]
    pub fn of(&self, interface: &str, direction: &str, what: &str) -> u64 {
        let key = (interface.to_owned(), direction.to_owned(), what.to_owned());
        self.0.get(&key).map_or(0, |count| count.packets)
    }

    /// Whether the packets are exactly these: nothing missing, nothing else.
    ///
    /// # Errors
    /// They are not: the error shows every counter that moved.
    pub fn expect(&self, expected: &BTreeMap<Key, u64>) -> Result<()> {
        ensure!(
            self.packets() == *expected,
            "counters moved by {:#?}\nexpected {expected:#?}",
            self.packets()
        );
        Ok(())
    }
}

impl Count {
    fn parse(value: &Value) -> Result<Self> {
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name} in {value}"));
        Ok(Self { packets: number("packets")?, bytes: number("bytes")? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(allowed: u64, no_rule: u64, dropped: u64) -> Value {
        let count = |packets: u64| json!({"packets": packets, "bytes": packets * 60});
        let quiet = json!({"allowed": count(0), "dropped": count(0), "reasons": {}});
        json!({"generation": 1, "interfaces": [{"name": "eth0", "inbound": {
            "allowed": count(allowed), "dropped": count(dropped), "reasons": {"no_rule": count(no_rule)},
        }, "outbound": quiet}]})
    }

    #[test]
    fn dropped_is_the_sum_of_its_reasons() {
        assert!(Counters::parse(&sample(1, 3, 3)).is_ok());
        assert!(Counters::parse(&sample(1, 3, 4)).is_err());
    }

    #[test]
    fn a_difference_names_what_moved_and_refuses_what_went_back() {
        let before = Counters::parse(&sample(1, 3, 3)).unwrap();
        let after = Counters::parse(&sample(1, 5, 5)).unwrap();
        let moved = after.since(&before).unwrap();
        let key = ("eth0".to_owned(), "inbound".to_owned(), "no_rule".to_owned());
        assert_eq!(moved.packets(), BTreeMap::from([(key.clone(), 2)]));
        assert!(moved.expect(&BTreeMap::from([(key, 2)])).is_ok());
        assert!(moved.expect(&BTreeMap::new()).is_err());
        assert!(before.since(&after).is_err());
    }
}
