//! Checks that tell a number of a kind from one that only looks like it.
//!
//! Each is given a match and says which part of it is the number, or that none is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use serde::{Deserialize, Serialize};

mod national;
mod secret;
#[cfg(test)]
mod tests;

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
    /// US individual taxpayer number: area 9xx, a group that is given out.
    Itin,
    /// UK national insurance number: prefixes that are given out.
    Nino,
    /// UK NHS number: modulo 11.
    Nhs,
    /// German tax number of a person: ISO/IEC 7064 MOD 11,10, one digit twice or thrice.
    DeTaxId,
    /// French social security number: 97 less the remainder modulo 97.
    FrNir,
    /// Spanish DNI or NIE: letter by the remainder modulo 23.
    EsDni,
    /// Italian tax code of a person: check letter.
    ItFiscalCode,
    /// Dutch citizen service number: the eleven test.
    NlBsn,
    /// Polish PESEL: weights, and a date.
    PlPesel,
    /// Swedish personal number: Luhn, and a date.
    SePersonnummer,
    /// Brazilian CPF: two check digits modulo 11.
    BrCpf,
    /// Indian Aadhaar number: Verhoeff.
    InAadhaar,
    /// Australian tax file number: weights modulo 11.
    AuTfn,
    /// Canadian social insurance number: Luhn.
    CaSin,
    /// Swiss AHV number: EAN-13.
    ChAhv,
    /// Belgian national number: 97 less the remainder modulo 97.
    BeNational,
    /// Finnish personal identity code: check character modulo 31.
    FiHetu,
    /// A text that nobody would write as a word: mixed characters, many of them different.
    Secret,
    /// A JSON Web Token's parts, or another text of base64url: not one character again and again.
    Varied,
}

impl Check {
    /// The part of the match that passes, if one does.
    #[must_use]
    pub fn core(self, matched: &[u8]) -> Option<Range<usize>> {
        let whole = |passes: bool| passes.then_some(0..matched.len());
        match self {
            Self::Luhn => card(matched),
            Self::Iban => iban(matched),
            Self::Ipv4 => {
                whole(text(matched).and_then(|t| t.parse().ok()).is_some_and(|ip: Ipv4Addr| {
                    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_broadcast()
                }))
            }
            Self::Ipv6 => whole(
                text(matched)
                    .and_then(|t| t.parse().ok())
                    .is_some_and(|ip: Ipv6Addr| !ip.is_loopback() && !ip.is_unspecified()),
            ),
            Self::Phone => whole(phone(matched)),
            Self::Secret => whole(secret::is_secret(matched)),
            Self::Varied => whole(secret::is_varied(matched)),
            _ => whole(national::passes(self, matched)),
        }
    }

    /// How much passing tells: a check digit more than a form, a form more than nothing.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Phone | Self::Secret | Self::Varied => 2,
            Self::Ssn | Self::Itin | Self::Nino => 3,
            _ => 4,
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Digits of a text, and where each stands.
fn digits(bytes: &[u8]) -> (Vec<u8>, Vec<usize>) {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_digit())
        .map(|(at, byte)| (byte - b'0', at))
        .unzip()
}

/// Looks at every run of whole groups, as other numbers may stand before and after a card's.
fn card(bytes: &[u8]) -> Option<Range<usize>> {
    let (digits, places) = digits(bytes);
    let mut edges: Vec<usize> = (0..digits.len())
        .filter(|index| {
            let before = index.checked_sub(1).and_then(|before| places.get(before));
            before.is_none_or(|before| places.get(*index).is_some_and(|place| *place > before + 1))
        })
        .collect();
    edges.push(digits.len());
    edges.iter().enumerate().find_map(|(index, start)| {
        edges.iter().skip(index + 1).rev().find_map(|end| {
            let number = digits.get(*start..*end).unwrap_or_default();
            let passes = (13..=19).contains(&number.len())
                && number.first().is_some_and(|first| (2..=6).contains(first))
                && luhn(number);
            passes.then_some(())?;
            Some(*places.get(*start)?..places.get(end.checked_sub(1)?)? + 1)
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

fn iban(bytes: &[u8]) -> Option<Range<usize>> {
    let (packed, places): (Vec<u8>, Vec<usize>) = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_alphanumeric())
        .map(|(at, byte)| (byte.to_ascii_uppercase(), at))
        .unzip();
    let length = packed.get(..2).and_then(iban_length)?;
    let (head, tail) = packed.get(..length)?.split_at(4);
    let remainder = tail.iter().chain(head).fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(())?;
    Some(0..places.get(length - 1)? + 1)
}

fn phone(bytes: &[u8]) -> bool {
    let (digits, _) = digits(bytes);
    (8..=15).contains(&digits.len())
        && digits.iter().any(|digit| Some(digit) != digits.first())
        && !is_date_or_address(bytes)
}

/// `2026-11-30`, `30.11.2026` and `192.0.2.1` have the form of a number in groups too.
fn is_date_or_address(bytes: &[u8]) -> bool {
    let groups: Vec<&str> = bytes
        .split(|byte| !byte.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .filter_map(text)
        .collect();
    let year = |group: &str| group.len() == 4 && (group.starts_with("19") || group.starts_with("20"));
    let short = |group: &str| group.len() <= 2;
    match groups.as_slice() {
        [first, second, third, ..] if year(first) => short(second) && short(third),
        [first, second, third] if year(third) => short(first) && short(second),
        [_, _, _, _] => text(bytes).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()),
        _ => false,
    }
}
