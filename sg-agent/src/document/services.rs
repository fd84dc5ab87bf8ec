//! The built-in services: those that the AWS console offers, and the common ones of
//! `/etc/services`. A service of the user's own with the same name comes first.

use crate::policy::Service;

const fn tcp(port: u16) -> Service {
    Service::Tcp(port, port)
}

const fn udp(port: u16) -> Service {
    Service::Udp(port, port)
}

/// Every built-in service, in name order, and what it opens.
pub const BUILT_IN: &[(&str, &[Service])] = &[
    ("amqp", &[tcp(5672)]),
    ("amqps", &[tcp(5671)]),
    ("aurora", &[tcp(3306)]),
    ("auth", &[tcp(113)]),
    ("bacula-dir", &[tcp(9101)]),
    ("bacula-fd", &[tcp(9102)]),
    ("bacula-sd", &[tcp(9103)]),
    ("bgp", &[tcp(179)]),
    ("bootpc", &[udp(68)]),
    ("bootps", &[udp(67)]),
    ("cassandra", &[tcp(9042)]),
    ("chargen", &[tcp(19), udp(19)]),
    ("cqlsh", &[tcp(9042)]),
    ("daytime", &[tcp(13), udp(13)]),
    ("dhcp", &[udp(67), udp(68)]),
    ("dhcpv6-client", &[udp(546)]),
    ("dhcpv6-server", &[udp(547)]),
    ("discard", &[tcp(9), udp(9)]),
    ("dns", &[tcp(53), udp(53)]),
    ("dns-tcp", &[tcp(53)]),
    ("dns-udp", &[udp(53)]),
    ("domain", &[tcp(53), udp(53)]),
    ("domain-s", &[tcp(853), udp(853)]),
    ("echo", &[tcp(7), udp(7)]),
    ("elastic-graphics", &[tcp(2007)]),
    ("elasticache", &[tcp(6379)]),
    ("elasticsearch", &[tcp(9200), tcp(9300)]),
    ("epmd", &[tcp(4369)]),
    ("etcd", &[Service::Tcp(2379, 2380)]),
    ("finger", &[tcp(79)]),
    ("ftp", &[tcp(21)]),
    ("ftp-data", &[tcp(20)]),
    ("ftps", &[tcp(990)]),
    ("ftps-data", &[tcp(989)]),
    ("git", &[tcp(9418)]),
    ("gopher", &[tcp(70)]),
    ("http", &[tcp(80)]),
    ("http-alt", &[tcp(8080)]),
    ("http3", &[udp(443)]),
    ("https", &[tcp(443)]),
    ("imap", &[tcp(143)]),
    ("imap2", &[tcp(143)]),
    ("imaps", &[tcp(993)]),
    ("ipp", &[tcp(631)]),
    ("ipsec-nat-t", &[udp(4500)]),
    ("ircd", &[tcp(6667)]),
    ("ircs-u", &[tcp(6697)]),
    ("isakmp", &[udp(500)]),
    ("iscsi-target", &[tcp(3260)]),
    ("kafka", &[tcp(9092)]),
    ("kerberos", &[tcp(88), udp(88)]),
    ("kpasswd", &[tcp(464), udp(464)]),
    ("kubernetes-api", &[tcp(6443)]),
    ("ldap", &[tcp(389)]),
    ("ldaps", &[tcp(636)]),
    ("mariadb", &[tcp(3306)]),
    ("mdns", &[udp(5353)]),
    ("memcached", &[tcp(11211)]),
    ("microsoft-ds", &[tcp(445)]),
    ("mongodb", &[tcp(27017)]),
    ("mqtt", &[tcp(1883)]),
    ("mqtts", &[tcp(8883)]),
    ("ms-sql-m", &[udp(1434)]),
    ("ms-sql-s", &[tcp(1433)]),
    ("ms-wbt-server", &[tcp(3389)]),
    ("mssql", &[tcp(1433)]),
    ("munin", &[tcp(4949)]),
    ("mysql", &[tcp(3306)]),
    ("nbd", &[tcp(10809)]),
    ("netbios-dgm", &[udp(138)]),
    ("netbios-ns", &[udp(137)]),
    ("netbios-ssn", &[tcp(139)]),
    ("nfs", &[tcp(2049)]),
    ("nntp", &[tcp(119)]),
    ("nntps", &[tcp(563)]),
    ("nrpe", &[tcp(5666)]),
    ("ntp", &[udp(123)]),
    ("ntske", &[tcp(4460)]),
    ("openvpn", &[tcp(1194), udp(1194)]),
    ("oracle", &[tcp(1521)]),
    ("pop3", &[tcp(110)]),
    ("pop3s", &[tcp(995)]),
    ("postgres", &[tcp(5432)]),
    ("postgresql", &[tcp(5432)]),
    ("printer", &[tcp(515)]),
    ("ptp-event", &[udp(319)]),
    ("ptp-general", &[udp(320)]),
    ("puppet", &[tcp(8140)]),
    ("qotd", &[tcp(17)]),
    ("radius", &[tcp(1812), udp(1812)]),
    ("radius-acct", &[tcp(1813), udp(1813)]),
    ("rdp", &[tcp(3389)]),
    ("redis", &[tcp(6379)]),
    ("redshift", &[tcp(5439)]),
    ("rsync", &[tcp(873)]),
    ("rtsp", &[tcp(554), udp(554)]),
    ("sieve", &[tcp(4190)]),
    ("sip", &[tcp(5060), udp(5060)]),
    ("sip-tls", &[tcp(5061)]),
    ("smb", &[tcp(445)]),
    ("smtp", &[tcp(25)]),
    ("smtps", &[tcp(465)]),
    ("snmp", &[udp(161)]),
    ("snmp-trap", &[udp(162)]),
    ("snmptrap", &[udp(162)]),
    ("socks", &[tcp(1080)]),
    ("ssh", &[tcp(22)]),
    ("stun", &[tcp(3478), udp(3478)]),
    ("submission", &[tcp(587)]),
    ("submissions", &[tcp(465)]),
    ("sunrpc", &[tcp(111), udp(111)]),
    ("svn", &[tcp(3690)]),
    ("syslog", &[udp(514)]),
    ("syslog-tls", &[tcp(6514)]),
    ("tacacs", &[tcp(49)]),
    ("telnet", &[tcp(23)]),
    ("telnets", &[tcp(992)]),
    ("tftp", &[udp(69)]),
    ("time", &[tcp(37), udp(37)]),
    ("vnc", &[tcp(5900)]),
    ("vxlan", &[udp(4789)]),
    ("whois", &[tcp(43)]),
    ("winrm", &[Service::Tcp(5985, 5986)]),
    ("winrm-http", &[tcp(5985)]),
    ("winrm-https", &[tcp(5986)]),
    ("wireguard", &[udp(51820)]),
    ("x11", &[Service::Tcp(6000, 6007)]),
    ("xdmcp", &[udp(177)]),
    ("xmpp-client", &[tcp(5222)]),
    ("xmpp-server", &[tcp(5269)]),
    ("zabbix-agent", &[tcp(10050)]),
    ("zabbix-trapper", &[tcp(10051)]),
    ("zookeeper", &[tcp(2181)]),
];

/// What a built-in service opens.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static [Service]> {
    let index = BUILT_IN.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    BUILT_IN.get(index).map(|(_, services)| *services)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{protocols, spelling};

    #[test]
    fn the_table_is_in_name_order_and_every_name_is_one() {
        assert!(BUILT_IN.is_sorted_by(|(a, _), (b, _)| a < b));
        for (name, services) in BUILT_IN {
            assert!(spelling::is_name(name), "{name}");
            assert!(!services.is_empty(), "{name}");
            assert!(protocols::reserved().all(|reserved| reserved != *name), "{name} is a protocol");
            assert_eq!(built_in(name), Some(*services));
        }
        assert_eq!(built_in("metrics"), None);
    }
}
