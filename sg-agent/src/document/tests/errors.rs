//! Every error, with its place.

use super::*;

#[test]
fn the_document_itself() {
    check(&[
        ("", &["1:1: error: the document is empty; a policy begins with `version: 1`"]),
        ("groups: {}", &["1:1: error: `version` is missing; write `version: 1`"]),
        ("version: 2", &["1:10: error: `version` is the number 2; this agent reads version 1"]),
        ("version: \"1\"", &["1:10: error: `version` is the text `1`; this agent reads version 1"]),
        ("version:", &["1:1: error: `version` is nothing; this agent reads version 1"]),
        ("[1]", &["1:1: error: a policy is a list, and takes a mapping of keys"]),
        ("hello", &["1:1: error: a policy is the text `hello`, and takes a mapping of keys"]),
        (
            "version: 1\ngroup: {}\ninterface: []\nx: 1",
            &[
                "2:1: error: unknown key `group` in a policy → groups",
                "3:1: error: unknown key `interface` in a policy → interfaces",
                "4:1: error: unknown key `x` in a policy",
            ],
        ),
        (
            "version: 1\ngroups:\ninterfaces:\n",
            &[
                "2:1: error: `groups` has no value; write `{}`, or remove it",
                "3:1: error: `interfaces` has no value; write `[]`, or remove the key",
            ],
        ),
        (
            "version: 1\ninterfaces: {}",
            &["2:13: error: `interfaces` is a mapping, and takes a list of entries"],
        ),
    ]);
}

#[test]
fn yaml() {
    check(&[
        (
            "version: 1\ngroups: [",
            &["2:10: error: not valid YAML: while parsing a node, did not find expected node content"],
        ),
        ("version: 1\nversion: 1", &["2:1: error: `version` is given twice; the first is at p.yaml:1:1"]),
        (
            "version: 1\n---\nversion: 1",
            &["2:1: error: a second document begins here; a file holds one, so split the file"],
        ),
        (
            "version: 1\ngrups: {}\n---\nversion: 1",
            &[
                "2:1: error: unknown key `grups` in a policy → groups",
                "3:1: error: a second document begins here; a file holds one, so split the file",
            ],
        ),
        ("version: !!int 1", &["1:10: error: tags are not supported; remove `!!int`"]),
        ("version: 1\n? [a, b]\n: c", &["2:3: error: a key is one word, not a list or a mapping"]),
        (
            "version: 1\ngroups:\n  a: &a {inbound: []}\n  b:\n    <<: *a",
            &["5:5: error: unknown key `<<`: merge keys are not supported; write the keys out"],
        ),
        (
            "version: 1\ngroups: &g {a: *g}",
            &["2:16: error: this alias stands inside the value that it repeats"],
        ),
    ]);
}

#[test]
fn names() {
    check(&[
        (
            "version: 1\ngroups:\n  'a b': {}\n  -x: {}\nprefix_lists:\n  ä: {entries: [10.0.0.1]}\nservices:\n  _a: tcp/1",
            &[
                "3:3: error: `a b` cannot name a group: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
                "4:3: error: `-x` cannot name a group: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
                "6:3: error: `ä` cannot name a prefix list: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
                "8:3: error: `_a` cannot name a service: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
            ],
        ),
        (
            "version: 1\nservices:\n  gre: tcp/1\n  all: tcp/1\n  443: tcp/443\n  a: [b, https]\n  b: tcp/2\n  c: []\n  d: htps",
            &[
                "3:3: error: `gre` already means a protocol; give the service another name",
                "4:3: error: `all` already means a protocol; give the service another name",
                "5:3: error: `443` already means a protocol; give the service another name",
                "6:7: error: a service cannot hold `b`, a service of your own; write its ports",
                "8:6: error: `services` is an empty list; write at least one item",
                "9:6: error: there is no service or protocol `htps` → https",
            ],
        ),
    ]);
}

#[test]
fn groups() {
    check(&[
        ("version: 1\ngroups:\n  a:\n", &["3:3: error: group `a` has no value; write `{}`, or remove it"]),
        (
            "version: 1\ngroups:\n  a:\n    inbond: []\n    tags: {x: 1, y: true}\n    members: [web, 10.0.0.0/40]\n    description: 5\n    outbound:\n",
            &[
                "4:5: error: unknown key `inbond` in group `a` → inbound",
                "5:15: error: a tag is the number 1, not text; write it in quotes",
                "5:21: error: a tag is `true`, not text; write it in quotes",
                "6:15: error: `web`: not an IPv4 or IPv6 address or CIDR",
                "6:20: error: `10.0.0.0/40`: the prefix length is not a number from 0 to 32",
                "7:18: error: `description` is the number 5, not text; write it in quotes",
                "8:5: error: `outbound` has no value; write `[]` to let nothing out, or remove the key to let everything out",
            ],
        ),
    ]);
    let long = format!("version: 1\ngroups:\n  a:\n    description: {}", "é".repeat(256));
    assert_eq!(told(&long), ["4:18: error: `description` has 256 characters; 255 is the most it can have"]);
    let fits = format!("version: 1\ngroups:\n  a:\n    description: {}", "é".repeat(255));
    assert_eq!(parse_str("p", &fits, &Limits::default()).errors, []);
}

#[test]
fn rules() {
    check(&[
        (
            "version: 1\ngroups:\n  a:\n    inbound:\n      - {}\n      - {allow: https}\n      - {allow: https, to: anywhere}\n      - {allow: [], from: []}\n      - https\n    outbound:\n      - {allow: https}\n      - {allow: https, from: anywhere}\n",
            &[
                "5:9: error: an inbound rule needs `allow`: what may pass, such as `https` or `tcp/8443`",
                "5:9: error: an inbound rule needs `from`: a rule never opens to the world by omission; write `from: anywhere` if it is meant",
                "6:9: error: an inbound rule needs `from`: a rule never opens to the world by omission; write `from: anywhere` if it is meant",
                "7:24: error: an inbound rule has no `to`: it says from where traffic may come, with `from` → from",
                "8:17: error: `allow` is an empty list; write at least one item",
                "8:27: error: `from` is an empty list; write at least one item",
                "9:9: error: an inbound rule is the text `https`, and takes a mapping of keys",
                "11:9: error: an outbound rule needs `to`: a rule never opens to the world by omission; write `to: anywhere` if it is meant",
                "12:24: error: an outbound rule has no `from`: it says to where traffic may go, with `to` → to",
            ],
        ),
        (
            "version: 1\ngroups:\n  a:\n    inbound:\n      - allow: [htps, tpc/443, 443, 300, -1, 1.5, true, [ssh], tcp/90-80]\n        from: anywhere\n        id: a b\n        descripton: x\n",
            &[
                "5:17: error: there is no service or protocol `htps` → https",
                "5:23: error: `tpc/443`: only `tcp`, `udp`, `icmp` and `icmpv6` take a `/` → tcp/443",
                "5:32: error: 443 is not a protocol number from 0 to 255; a port is written with its protocol → tcp/443",
                "5:37: error: 300 is not a protocol number from 0 to 255; a port is written with its protocol → tcp/300",
                "5:42: error: -1 is not a protocol number from 0 to 255",
                "5:46: error: a service is the number 1.5, not text; write it in quotes",
                "5:51: error: a service is `true`, not text; write it in quotes",
                "5:57: error: a service is a list, not text",
                "5:64: error: `tcp/90-80`: the range ends before it begins → tcp/80-90",
                "7:13: error: `a b` cannot be an `id`: a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
                "8:9: error: unknown key `descripton` in an inbound rule → description",
            ],
        ),
    ]);
}

#[test]
fn peers() {
    check(&[(
        "version: 1
prefix_lists:
  office: {entries: [10.0.0.0/8]}
groups:
  web: {}
  a:
    inbound:
      - allow: https
        from:
          - office
          - web
          - list:offce
          - group:wbe
          - list:web
          - group:office
          - any
          - anywere
          - lists:office
          - group: web
          - 'list:a b'
          - 10.0.0.256
          - ::ffff:10.0.0.1
          - ::ffff:10.0.0.0/104
          - 2001:db8::/129
          - example.com
          - 10
",
        &[
            "10:13: error: `office` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME` → list:office",
            "11:13: error: `web` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME` → group:web",
            "12:13: error: there is no prefix list `offce` → list:office",
            "13:13: error: there is no group `wbe` → group:web",
            "14:13: error: there is no prefix list `web` → group:web",
            "15:13: error: there is no group `office` → list:office",
            "16:13: error: `any` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME` → anywhere",
            "17:13: error: `anywere` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME` → anywhere",
            "18:13: error: `lists:office` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME` → list:office",
            "19:13: error: an item of `from` is a mapping, not text; `group:NAME` and `list:NAME` have no space behind the colon",
            "20:13: error: `a b` is not a name, which `list:` needs",
            "21:13: error: `10.0.0.256`: not an IPv4 or IPv6 address or CIDR",
            "22:13: error: `::ffff:10.0.0.1`: an IPv4-mapped IPv6 address; write it as IPv4 → 10.0.0.1",
            "23:13: error: `::ffff:10.0.0.0/104`: an IPv4-mapped IPv6 address; write it as IPv4 → 10.0.0.0/8",
            "24:13: error: `2001:db8::/129`: the prefix length is not a number from 0 to 128",
            "25:13: error: `example.com` is not an address, a CIDR, `anywhere`, `list:NAME` or `group:NAME`",
            "26:13: error: an item of `from` is the number 10, not text; write it in quotes",
        ],
    )]);
}

#[test]
fn prefix_lists() {
    check(&[(
        "version: 1\nprefix_lists:\n  a: {}\n  b: {entries: [], file: x}\n  c: {entry: []}\n  d: [10.0.0.1]\n  e: {file: x}\n",
        &[
            "3:6: error: prefix list `a` has neither `entries` nor `file`; write one of them",
            "4:20: error: prefix list `b` has both `entries` and `file`; keep one of them",
            "5:6: error: prefix list `c` has neither `entries` nor `file`; write one of them",
            "5:7: error: unknown key `entry` in prefix list `c` → entries",
            "6:6: error: prefix list `d` is a list, and takes a mapping of keys",
            "7:13: error: the list file `x`: cannot be read: this document was not read from a file, so there is nothing beside it; use `entries`",
        ],
    )]);
}

#[test]
fn interfaces() {
    check(&[(
        "version: 1
groups: {web: {}}
interfaces:
  - {}
  - {match: eth0, groups: [wbe]}
  - {match: 'eth[', groups: web}
  - {match: '', groups: web}
  - {match: 5, groups: []}
  - {match: a, groups: web, side: gest, mode: enforced, hook: ebpf}
  - {match: b, groups: web, side: guest, source_check: true}
  - {match: c, groups: web, side: guest, addresses: []}
  - {match: d, groups: web, source_check: yes}
  - {match: e, groups: web, infrastructure: {arp: 1, igmp: true}}
  - {match: f, groups: web, permit_ethertypes: [0x800, 12, 0x88cc, lldp, 70000]}
  - {match: g, groups: web, adresses: [10.0.0.1]}
",
        &[
            "4:5: error: an interface entry needs `match`: an interface name or a glob",
            "4:5: error: an interface entry needs `groups`: the groups whose rules apply to it",
            "5:28: error: there is no group `wbe` → web",
            "6:13: error: `eth[` is not an interface name or glob: the `[` has no closing `]`",
            "7:13: error: `` is not an interface name or glob: an empty name matches no interface",
            "8:13: error: `match` is the number 5, not text; write it in quotes",
            "8:24: error: `groups` is an empty list; write at least one item",
            "9:35: error: `side` is `gest`, and takes `host` or `guest` → guest",
            "9:47: error: `mode` is `enforced`, and takes `enforce` or `audit` → enforce",
            "9:63: error: `hook` is `ebpf`, and takes `auto` or `xdp` or `tc`",
            "10:42: error: `source_check` needs `addresses` on `side: guest`: without them, nothing would pass",
            "11:53: error: `addresses` is an empty list; write the instance's addresses, or remove the key",
            "12:43: error: `source_check` is the text `yes`, and takes `true` or `false` → true",
            "13:51: error: `arp` is the number 1, and takes `true` or `false`",
            "13:54: error: unknown key `igmp` in `infrastructure`",
            "14:49: error: 0x0800 is judged by rules and cannot be permitted as a whole",
            "14:56: error: an item of `permit_ethertypes` is the number 12, and takes an EtherType from 0x600 to 0xffff",
            "14:68: error: an item of `permit_ethertypes` is the text `lldp`, and takes an EtherType from 0x600 to 0xffff",
            "14:74: error: an item of `permit_ethertypes` is the number 70000, and takes an EtherType from 0x600 to 0xffff",
            "15:29: error: unknown key `adresses` in an interface entry → addresses",
        ],
    )]);
}
