#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn ssrf_addresses_are_what_the_registries_say() {
    use Kind::{Loopback, Never, Private, Public};
    let table = [
        ("8.8.8.8", Public),
        ("172.15.255.255", Public),
        ("172.32.0.0", Public),
        ("100.128.0.1", Public),
        ("223.255.255.255", Public),
        ("127.0.0.1", Loopback),
        ("127.255.255.254", Loopback),
        ("10.1.2.3", Private),
        ("172.16.0.1", Private),
        ("172.31.255.255", Private),
        ("192.168.0.1", Private),
        ("0.0.0.0", Never),
        ("0.1.2.3", Never),
        ("100.100.100.200", Never),
        ("169.254.169.254", Never),
        ("192.0.0.192", Never),
        ("192.0.2.1", Never),
        ("198.19.0.1", Never),
        ("203.0.113.9", Never),
        ("224.0.0.1", Never),
        ("255.255.255.255", Never),
        ("2606:4700:4700::1111", Public),
        ("2a00:1450::1", Public),
        ("::1", Loopback),
        ("fc00::1", Private),
        ("fdff::1", Private),
        ("fd00:ec2::254", Never),
        ("fe80::1", Never),
        ("fec0::1", Never),
        ("ff02::1", Never),
        ("::", Never),
        ("2001::1", Never),
        ("2001:db8::1", Never),
        ("2002:7f00:1::", Never),
        ("3fff:0fff::1", Never),
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:169.254.169.254", Never),
        ("::ffff:10.0.0.1", Private),
        ("::ffff:8.8.8.8", Public),
        ("::127.0.0.1", Never),
        ("64:ff9b::808:808", Public),
        ("64:ff9b::a9fe:a9fe", Never),
        ("64:ff9b::7f00:1", Never),
        ("64:ff9b:1::1", Never),
    ];
    for (text, expected) in table {
        assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
    }
}

#[test]
fn ssrf_a_reach_permits_its_own_addresses_and_no_others() {
    let table = [
        ("8.8.8.8", [true, false, false]),
        ("127.0.0.1", [false, true, true]),
        ("10.0.0.1", [false, false, true]),
        ("169.254.169.254", [false, false, false]),
        ("::ffff:169.254.169.254", [false, false, false]),
        ("fd00:ec2::254", [false, false, false]),
    ];
    for (text, expected) in table {
        let ip = text.parse().unwrap();
        let got = [Reach::Public, Reach::Loopback, Reach::Private].map(|reach| permitted(reach, ip));
        assert_eq!(got, expected, "{text}");
    }
}
