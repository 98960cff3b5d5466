//! Checks that tell a number of a kind from one that only looks like it.
//!
//! Each is given the text from the match's start on and the match's length, and says whether this is one.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// What a match must pass besides its pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Payment card number: 13 to 19 digits, a known leading digit, Luhn (ISO/IEC 7812-1 Annex B).
    Luhn,
    /// Bank account: length of its country, remainder 1 modulo 97 (ISO 13616, ISO/IEC 7064).
    Iban,
    /// US social security number: no area 000, 666 or 9xx, no group 00, no serial 0000.
    Ssn,
    /// An IPv4 address that is not this host's own.
    Ipv4,
    /// An IPv6 address that is not this host's own.
    Ipv6,
    /// 8 to 15 digits (ITU-T E.164), not all the same.
    Phone,
}

impl Check {
    /// Whether the match passes.
    #[must_use]
    pub fn passes(self, matched: &[u8]) -> bool {
        match self {
            Self::Luhn => card(matched),
            Self::Iban => iban(matched),
            Self::Ssn => ssn(matched),
            Self::Ipv4 => text(matched)
                .and_then(|t| t.parse().ok())
                .is_some_and(|ip: Ipv4Addr| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_broadcast()),
            Self::Ipv6 => text(matched)
                .and_then(|t| t.parse().ok())
                .is_some_and(|ip: Ipv6Addr| !ip.is_loopback() && !ip.is_unspecified()),
            Self::Phone => phone(matched),
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Groups of digits as they are written, and all digits in a row.
fn groups(bytes: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut digits = Vec::with_capacity(bytes.len());
    let mut starts = Vec::new();
    let mut inside = false;
    for byte in bytes {
        if byte.is_ascii_digit() {
            if !inside {
                starts.push(digits.len());
            }
            digits.push(byte - b'0');
        }
        inside = byte.is_ascii_digit();
    }
    starts.push(digits.len());
    (digits, starts)
}

/// Looks at every run of whole groups, as other numbers may stand before and after a card's.
fn card(bytes: &[u8]) -> bool {
    let (digits, edges) = groups(bytes);
    edges.iter().enumerate().any(|(index, start)| {
        edges.iter().skip(index + 1).any(|end| {
            let number = digits.get(*start..*end).unwrap_or_default();
            (13..=19).contains(&number.len())
                && number.first().is_some_and(|first| (2..=6).contains(first))
                && luhn(number)
        })
    })
}

/// Whether digits pass Luhn's check.
#[must_use]
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Lengths of account numbers by country (SWIFT IBAN Registry, release 99).
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29\
ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25\
MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25\
SV28TL23TN24TR26UA29VA22VG24XK20YE30";

fn iban_length(country: &[u8]) -> Option<usize> {
    IBAN_LENGTHS
        .as_bytes()
        .chunks_exact(4)
        .find(|entry| entry.get(..2) == Some(country))
        .and_then(|entry| text(entry.get(2..)?)?.parse().ok())
}

fn iban(bytes: &[u8]) -> bool {
    let packed: Vec<u8> =
        bytes.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
    let Some(length) = packed.get(..2).and_then(iban_length) else { return false };
    let Some(number) = packed.get(..length) else { return false };
    let (head, tail) = number.split_at(4);
    let remainder = tail.iter().chain(head).fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}

fn ssn(bytes: &[u8]) -> bool {
    let (digits, _) = groups(bytes);
    let number = |range: std::ops::Range<usize>| {
        digits.get(range).map(|part| part.iter().fold(0_u32, |n, d| n * 10 + u32::from(*d)))
    };
    match (digits.len(), number(0..3), number(3..5), number(5..9)) {
        (9, Some(area), Some(group), Some(serial)) => {
            area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
        }
        _ => false,
    }
}

fn phone(bytes: &[u8]) -> bool {
    let (digits, _) = groups(bytes);
    (8..=15).contains(&digits.len()) && digits.iter().any(|digit| Some(digit) != digits.first())
}
