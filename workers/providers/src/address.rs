//! Which addresses may be connected to: the special-purpose registries of IANA (RFC 6890), closed by default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Reach;

#[cfg(test)]
mod tests;

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Globally reachable.
    Public,
    /// This host.
    Loopback,
    /// A private network (RFC 1918, RFC 4193).
    Private,
    /// Link-local (metadata services), multicast, shared, documentation, transition and reserved ranges.
    Never,
}

/// Whether a provider of this reach may be at this address.
pub(crate) fn permitted(reach: Reach, ip: IpAddr) -> bool {
    match (reach, kind(ip)) {
        (Reach::Public, kind) => kind == Kind::Public,
        (Reach::Loopback, kind) => kind == Kind::Loopback,
        // Not public ones: a private name that suddenly resolves to the internet is a fault or an attack.
        (Reach::Private, kind) => matches!(kind, Kind::Loopback | Kind::Private),
    }
}

/// What an address is. An IPv4 address inside an IPv6 one counts as itself.
pub(crate) fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [127, ..] => Kind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Private,
        // Unspecified, shared (also Alibaba's metadata), link-local (metadata), protocol assignments, 6to4 relays,
        // benchmarking, documentation, multicast, reserved, broadcast.
        [0, ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    if let Some(inner) = ip.to_ipv4_mapped() {
        return kind_v4(inner);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // Amazon's metadata service stands inside the unique local range.
        [0xfd00, 0x0ec2, ..] => Kind::Never,
        [0xfc00..=0xfdff, ..] => Kind::Private,
        // NAT64 (RFC 6052): what counts is the address behind it.
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            if kind_v4(Ipv4Addr::new(a, b, c, d)) == Kind::Public { Kind::Public } else { Kind::Never }
        }
        // Protocol assignments with Teredo, documentation, 6to4.
        [0x2001, 0x0000..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Kind::Never
        }
        // Only 2000::/3 is assigned to the public internet.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never,
    }
}
