//! Each check on numbers that pass, and on the same with one digit or letter changed.

use super::Check;

/// Numbers that their issuers, or articles about them, give as examples.
const PASSING: [(Check, &str); 18] = [
    (Check::Luhn, "4111 1111 1111 1111"),
    (Check::Iban, "GB82WEST12345698765432"),
    (Check::Nhs, "9434765919"),
    (Check::DeTaxId, "86095742719"),
    (Check::FrNir, "255081416802538"),
    (Check::EsDni, "12345678Z"),
    (Check::EsDni, "X1234567L"),
    (Check::ItFiscalCode, "RSSMRA85T10A562S"),
    (Check::NlBsn, "111222333"),
    (Check::PlPesel, "44051401359"),
    (Check::SePersonnummer, "811218-9876"),
    (Check::FiHetu, "131052-308T"),
    (Check::BrCpf, "529.982.247-25"),
    (Check::AuTfn, "123456782"),
    (Check::CaSin, "130692544"),
    (Check::ChAhv, "756.9217.0769.85"),
    (Check::BeNational, "85.07.30-033.28"),
    (Check::SePersonnummer, "19811218-9876"),
];

#[test]
fn checksums_pass_what_issuers_give() {
    let failing: Vec<_> =
        PASSING.iter().filter(|(check, text)| check.core(text.as_bytes()).is_none()).collect();
    assert!(failing.is_empty(), "{failing:?}");
}

/// The negative control of every checksum: another last character.
#[test]
fn checksums_refuse_every_other_last_character() {
    for (check, text) in PASSING {
        let (head, last) = text.split_at(text.len() - 1);
        let others: Vec<char> = if last.starts_with(|c: char| c.is_ascii_digit()) {
            ('0'..='9').collect()
        } else {
            ('A'..='Z').collect()
        };
        let passing: Vec<char> = others
            .into_iter()
            .filter(|other| check.core(format!("{head}{other}").as_bytes()).is_some())
            .collect();
        assert_eq!(passing, last.chars().collect::<Vec<_>>(), "{check:?}");
    }
}

#[test]
fn checksums_of_aadhaar_leave_one_last_digit() {
    for body in ["23456789012", "99887766554", "30020010045"] {
        let passing =
            ('0'..='9').filter(|last| Check::InAadhaar.core(format!("{body}{last}").as_bytes()).is_some());
        assert_eq!(passing.count(), 1, "{body}");
    }
    assert!(Check::InAadhaar.core(b"123456789012").is_none(), "none begins with 0 or 1");
}

#[test]
fn a_card_among_other_numbers_is_told_from_them() {
    let text = b"12 4111 1111 1111 1111 12";
    assert_eq!(Check::Luhn.core(text), Some(3..22));
    assert_eq!(Check::Luhn.core(b"12 4111 1111 1111 1112 12"), None, "negative control");
}

#[test]
fn secrets_are_told_from_words() {
    for secret in ["Xk29vQ!p", "hunter2hunter2", "correct-Horse-7"] {
        assert!(Check::Secret.core(secret.as_bytes()).is_some(), "{secret}");
    }
    for word in ["production", "12345678", "aaaaaaa1", "short1", "UPPERCASE"] {
        assert!(Check::Secret.core(word.as_bytes()).is_none(), "{word}");
    }
}
