//! Numbers that states give to people, each with the check that its issuer publishes.

use super::{Check, digits, luhn};

/// Letters by the remainder modulo 23 (Spain, Real Decreto 1553/2005).
const ES_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
/// Characters by the remainder modulo 31 (Finland, Digital and Population Data Services Agency).
const FI_LETTERS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
/// Values of characters in odd places, `0` to `9` and then `A` to `Z` (Italy, Decreto ministeriale 23 December 1976).
const IT_ODD: [u32; 36] = [
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14,
    16, 10, 22, 25, 24, 23,
];
/// Prefixes that are never given out (UK, HMRC National Insurance Manual NIM39110).
const NINO_NEVER: [&[u8]; 7] = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];

/// Whether the whole match is such a number.
pub(super) fn passes(check: Check, matched: &[u8]) -> bool {
    let number = digits(matched).0;
    let letters: Vec<u8> =
        matched.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
    let with_check_digit = !matches!(check, Check::Ssn | Check::Itin | Check::Nino);
    if with_check_digit && number.iter().all(|digit| Some(digit) == number.first()) {
        return false;
    }
    match check {
        Check::Ssn => ssn(&number),
        Check::Itin => itin(&number),
        Check::Nino => nino(&letters),
        Check::Nhs => nhs(&number),
        Check::DeTaxId => de_tax_id(&number),
        Check::FrNir => fr_nir(&letters),
        Check::EsDni => es_dni(&letters),
        Check::ItFiscalCode => it_fiscal_code(&letters),
        Check::NlBsn => nl_bsn(&number),
        Check::PlPesel => pl_pesel(&number),
        Check::SePersonnummer => se_personnummer(&number),
        Check::BrCpf => br_cpf(&number),
        Check::InAadhaar => number.len() == 12 && number.first() > Some(&1) && verhoeff(&number),
        Check::AuTfn => {
            number.len() == 9 && weighted(&number, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
        }
        Check::CaSin => number.len() == 9 && !matches!(number.first(), Some(0 | 8)) && luhn(&number),
        Check::ChAhv => ch_ahv(&number),
        Check::BeNational => be_national(&number),
        Check::FiHetu => fi_hetu(&letters),
        Check::Luhn
        | Check::Iban
        | Check::Ipv4
        | Check::Ipv6
        | Check::Phone
        | Check::Secret
        | Check::Varied => false,
    }
}

/// The number that digits write.
fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

fn part(digits: &[u8], range: std::ops::Range<usize>) -> u64 {
    value(digits.get(range).unwrap_or_default())
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// The number that ASCII digits write; none where one is no digit.
fn written(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn ssn(number: &[u8]) -> bool {
    let (area, group, serial) = (part(number, 0..3), part(number, 3..5), part(number, 5..9));
    number.len() == 9 && area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
}

/// Groups that the IRS gives out (Publication 4757 and later notices).
fn itin(number: &[u8]) -> bool {
    number.len() == 9
        && number.first() == Some(&9)
        && matches!(part(number, 3..5), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

fn nino(text: &[u8]) -> bool {
    let (Some(prefix), Some(suffix)) = (text.get(..2), text.last()) else { return false };
    let allowed = |byte: &u8, never: &[u8]| byte.is_ascii_uppercase() && !never.contains(byte);
    text.len() == 9
        && prefix.first().is_some_and(|first| allowed(first, b"DFIQUV"))
        && prefix.last().is_some_and(|second| allowed(second, b"DFIOQUV"))
        && !NINO_NEVER.contains(&prefix)
        && text.get(2..8).is_some_and(|middle| middle.iter().all(u8::is_ascii_digit))
        && (b'A'..=b'D').contains(suffix)
}

/// NHS Data Dictionary, NHS NUMBER.
fn nhs(number: &[u8]) -> bool {
    let check = 11 - weighted(number, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if check == 11 { 0 } else { check };
    number.len() == 10 && number.last().is_some_and(|last| u32::from(*last) == check)
}

/// Bundeszentralamt für Steuern: of the first ten digits one stands there twice or thrice.
fn de_tax_id(number: &[u8]) -> bool {
    let Some((last, first)) = number.split_last() else { return false };
    let most = (0..10).map(|digit| first.iter().filter(|other| **other == digit).count()).max();
    let product = first.iter().fold(10_u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let check = if product == 1 { 0 } else { 11 - product };
    number.len() == 11
        && first.first() != Some(&0)
        && matches!(most, Some(2 | 3))
        && check == u32::from(*last)
}

/// INSEE: departments 2A and 2B of Corsica count as 19 and 18.
fn fr_nir(text: &[u8]) -> bool {
    let (Some(body), Some(key)) = (text.get(..13), text.get(13..15).and_then(written)) else { return false };
    let mut body = body.to_vec();
    match body.get(5..7) {
        Some(b"2A") => body.splice(5..7, *b"19").for_each(drop),
        Some(b"2B") => body.splice(5..7, *b"18").for_each(drop),
        _ => {}
    }
    let month = body.get(3..5).and_then(written);
    text.len() == 15
        && matches!(body.first(), Some(b'1' | b'2' | b'3' | b'4' | b'7' | b'8'))
        && matches!(month, Some(1..=12 | 20..=42 | 50..=99))
        && written(&body).is_some_and(|body| 97 - body % 97 == key)
}

fn es_dni(text: &[u8]) -> bool {
    let Some((letter, body)) = text.split_last().filter(|_| text.len() == 9) else { return false };
    let mut body = body.to_vec();
    if let Some(first) = body.first_mut() {
        *first = match *first {
            b'X' => b'0',
            b'Y' => b'1',
            b'Z' => b'2',
            other => other,
        };
    }
    let expected = written(&body).and_then(|body| ES_LETTERS.get(usize::try_from(body % 23).ok()?));
    expected == Some(letter)
}

fn it_fiscal_code(text: &[u8]) -> bool {
    let Some((check, body)) = text.split_last().filter(|_| text.len() == 16) else { return false };
    let sum: Option<u32> = body
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            let value = char::from(*byte).to_digit(36)?;
            if index % 2 == 0 {
                IT_ODD.get(usize::try_from(value).ok()?).copied()
            } else {
                Some(if value > 9 { value - 10 } else { value })
            }
        })
        .sum();
    sum.is_some_and(|sum| u32::from(b'A') + sum % 26 == u32::from(*check))
}

fn nl_bsn(number: &[u8]) -> bool {
    let Some(last) = number.last().filter(|_| number.len() == 9) else { return false };
    let sum = weighted(number.get(..8).unwrap_or_default(), &[9, 8, 7, 6, 5, 4, 3, 2]);
    sum % 11 == u32::from(*last)
}

/// The century stands in the month: 1800 + 80, 2000 + 20, 2100 + 40, 2200 + 60.
fn pl_pesel(number: &[u8]) -> bool {
    let sum = weighted(number, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    number.len() == 11
        && sum.is_multiple_of(10)
        && (1..=12).contains(&(part(number, 2..4) % 20))
        && (1..=31).contains(&part(number, 4..6))
}

/// Ten or twelve digits; a co-ordination number's day is 60 more.
fn se_personnummer(number: &[u8]) -> bool {
    let short = if number.len() == 12 { number.get(2..).unwrap_or_default() } else { number };
    short.len() == 10
        && (1..=12).contains(&part(short, 2..4))
        && matches!(part(short, 4..6), 1..=31 | 61..=91)
        && luhn(short)
}

fn br_cpf(number: &[u8]) -> bool {
    let check = |count: usize| {
        let first = number.get(..count).unwrap_or_default();
        let sum: usize =
            first.iter().enumerate().map(|(index, digit)| usize::from(*digit) * (count + 1 - index)).sum();
        let check = sum * 10 % 11 % 10;
        number.get(count).is_some_and(|digit| usize::from(*digit) == check)
    };
    number.len() == 11 && check(9) && check(10)
}

/// Verhoeff's check over the dihedral group of order ten (J. Verhoeff, Error Detecting Decimal Codes, 1969).
fn verhoeff(number: &[u8]) -> bool {
    // Digits 0 to 4 are rotations, 5 to 9 reflections.
    let times = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permuted = |digit: u8, times: usize| {
        (0..times % 8).fold(digit, |digit, _| PERMUTATION.get(usize::from(digit)).copied().unwrap_or(digit))
    };
    let check = number
        .iter()
        .rev()
        .enumerate()
        .fold(0, |check, (index, digit)| times(check, permuted(*digit, index)));
    check == 0
}

/// 756, the country of EAN-13, and its check digit.
fn ch_ahv(number: &[u8]) -> bool {
    let sum = weighted(number, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    number.len() == 13 && part(number, 0..3) == 756 && sum.is_multiple_of(10)
}

/// Born from 2000 on, a 2 stands before the number that is divided.
fn be_national(number: &[u8]) -> bool {
    let (body, key) = (part(number, 0..9), part(number, 9..11));
    let passes = |body: u64| 97 - body % 97 == key;
    number.len() == 11
        && part(number, 2..4) <= 12
        && part(number, 4..6) <= 31
        && (passes(body) || passes(2_000_000_000 + body))
}

fn fi_hetu(text: &[u8]) -> bool {
    // The sign of the century is no letter before 2000, so ten characters or eleven are left.
    let Some((check, body)) = text.split_last() else { return false };
    let (Some(date), Some(serial)) =
        (body.get(..6), body.len().checked_sub(3).and_then(|from| body.get(from..)))
    else {
        return false;
    };
    let day = date.get(..2).and_then(written);
    let month = date.get(2..4).and_then(written);
    let expected = written(&[date, serial].concat())
        .and_then(|number| FI_LETTERS.get(usize::try_from(number % 31).ok()?));
    (10..=11).contains(&text.len())
        && matches!(day, Some(1..=31))
        && matches!(month, Some(1..=12))
        && expected == Some(check)
}
