//! The schemas of single items: names, addresses, what `allow`, `from` and `to` take.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use sg_common::addr::Family;

use crate::document::{
    addresses::ANYWHERE,
    decode::FIRST_ETHERTYPE,
    icmp,
    protocols::{self, IPV6_ICMP},
    services,
};

const NAME: &str = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}";
const BYTE: &str = "(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
const PORT: &str = "(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// The one version of the form: 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

/// One item, or a list of at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AtLeastOne<T>(pub Vec<T>);

/// One item, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Items<T>(pub Vec<T>);

impl<T> Items<T> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A name: 1 to 63 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(pub String);

/// An item of `allow`, as text: `all`, `tcp/443`, `icmp/echo-request`, `gre`, `https`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AllowItem(pub String);

/// An item of a service: as [`AllowItem`], without the names of the user's own services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ServiceItem(pub String);

/// An item of `from` or `to`: `anywhere`, an address, a CIDR, `list:NAME`, `group:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PeerItem(pub String);

/// An address or a CIDR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PrefixText(pub String);

/// An EtherType that is neither IP nor a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EtherType(pub u16);

/// A [`JsonSchema`] from a name, a sentence and a schema.
macro_rules! schema {
    ($of:ident, $description:literal, $schema:expr) => {
        impl JsonSchema for $of {
            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = $schema;
                schema.insert("description".to_owned(), $description.into());
                schema
            }
        }
    };
}

schema!(Version, "The version of the document's form.", json_schema!({"type": "integer", "const": 1}));
schema!(
    Name,
    "1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.",
    json_schema!({"type": "string", "pattern": format!("^{NAME}$")})
);
schema!(
    AllowItem,
    "What may pass: `all`, a service such as `https`, `tcp/443`, `udp/8000-8099`, `icmp/echo-request`, a protocol by name or number.",
    json_schema!({"anyOf": allow(&serde_json::json!(
        // A text of digits is a protocol number and no name.
        {"type": "string", "pattern": format!("^{NAME}$"), "not": {"pattern": "^[0-9]+$"}}
    ))})
);
schema!(
    ServiceItem,
    "What the service opens: as in `allow`, without other services of your own.",
    json_schema!({"anyOf": allow(&serde_json::json!({"enum": built_in_words()}))})
);
schema!(
    PrefixText,
    "An IPv4 or IPv6 address or CIDR.",
    json_schema!({"type": "string", "anyOf": prefixes()})
);
schema!(
    PeerItem,
    "`anywhere`, `anywhere-ipv4`, `anywhere-ipv6`, an address or CIDR, `list:NAME` or `group:NAME`.",
    json_schema!({"type": "string", "anyOf": peers()})
);
schema!(
    EtherType,
    "An EtherType as a number, or as text such as `0x88cc`; not IP (0x0800, 0x86dd) and no VLAN tag (0x8100, 0x88a8).",
    json_schema!({"anyOf": [
        {"type": "integer", "minimum": FIRST_ETHERTYPE, "maximum": u16::MAX, "not": {"enum": [0x0800, 0x86dd, 0x8100, 0x88a8]}},
        {
            "type": "string",
            "pattern": "^0x0*([6-9a-fA-F][0-9a-fA-F]{2}|[1-9a-fA-F][0-9a-fA-F]{3})$",
            "not": {"pattern": "^0x0*(800|86[dD][dD]|8100|88[aA]8)$"},
        },
    ]})
);

/// `allow` without names, and `names`.
fn allow(names: &serde_json::Value) -> serde_json::Value {
    let types = |family| {
        let names: Vec<_> = icmp::types(family).iter().map(|(name, _)| *name).collect();
        names.join("|")
    };
    serde_json::json!([
        {"type": "integer", "minimum": 0, "maximum": 255},
        {"type": "string", "pattern": format!("^{BYTE}$")},
        {"type": "string", "pattern": format!("^(tcp|udp)/{PORT}(-{PORT})?$")},
        {"type": "string", "pattern": format!("^icmp/({BYTE}|{})(/{BYTE})?$", types(Family::V4))},
        {"type": "string", "pattern": format!("^(icmpv6|{IPV6_ICMP})/({BYTE}|{})(/{BYTE})?$", types(Family::V6))},
        names,
    ])
}

fn built_in_words() -> Vec<&'static str> {
    protocols::reserved().chain(services::BUILT_IN.iter().map(|(name, _)| *name)).collect()
}

fn prefixes() -> Vec<serde_json::Value> {
    const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    vec![
        serde_json::json!({"pattern": format!(r"^{OCTET}(\.{OCTET}){{3}}(/([0-9]|[12][0-9]|3[0-2]))?$")}),
        serde_json::json!({"pattern": "^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?$"}),
    ]
}

fn peers() -> Vec<serde_json::Value> {
    let mut peers = vec![
        serde_json::json!({"enum": ANYWHERE}),
        serde_json::json!({"pattern": format!("^(list|group):{NAME}$")}),
    ];
    peers.extend(prefixes());
    peers
}

impl<T: JsonSchema> JsonSchema for AtLeastOne<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("AtLeastOne{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({
            "description": "One item, or a list of at least one.",
            "anyOf": [item, {"type": "array", "items": item, "minItems": 1}],
        })
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Items{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({
            "description": "One item, or a list.",
            "anyOf": [item, {"type": "array", "items": item}],
        })
    }
}
