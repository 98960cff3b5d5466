//! What recognisers find and what they leave alone.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{KnownLabels, Labels, NOWHERE, Sensitivity, Stakes};

use super::checksum::luhn;
use super::scan::Scanner;
use super::{Taxonomy, UNKNOWN};

static TAXONOMY: LazyLock<Taxonomy> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundles/default/taxonomy.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});
pub(super) static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&TAXONOMY).unwrap());

fn found(text: &str) -> Vec<String> {
    SCANNER.scan(&[text]).counts.keys().map(ToString::to_string).collect()
}

#[test]
fn finds() {
    let table = [
        ("jane.doe+x@mail.example.co.uk", "email"),
        ("jörg@müller.de", "email"),
        ("jane (at) example (dot) org", "email_spelled"),
        ("+49 (0)30 1234567", "phone"),
        ("+1-415-555-2671", "phone"),
        ("0044 20 7946 0958", "phone"),
        ("(415) 555-2671", "phone_bracketed"),
        ("(07700) 900123", "phone_bracketed"),
        ("415-555-2671 x1234", "phone_national"),
        ("415-555-2671", "phone_national"),
        ("030/1234567", "phone_national"),
        ("my phone is 4155552671", "phone_named"),
        ("call me on 12 34 56 78", "phone_near"),
        ("call me on 450 0840", "phone_short"),
        ("PSC 3294, Box 9168\nAPO AA 61487", "street_address_military"),
        ("uscgc healy, fpo ae 44941", "street_address_military"),
        ("4111111111111111", "card"),
        ("5500-0000-0000-0004", "card"),
        ("order 12 of 4111 1111 1111 1111 exp 12/29", "card"),
        ("3782 822463 10005", "card"),
        ("4111.1111.1111.1111", "card"),
        ("GB82 WEST 1234 5698 7654 32", "iban"),
        ("de89370400440532013000 is it", "iban"),
        ("AB12 then DE89 3704 0044 0532 0130 00", "iban"),
        ("NO9386011117947", "iban"),
        ("123-45-6789", "us_ssn"),
        ("SSN: 123456789", "us_ssn_named"),
        ("passport no. C01X00T47", "identity_document"),
        ("born on 12 March 1984", "birth_date"),
        ("DOB: 1984-03-12", "birth_date"),
        ("date of birth: March 12, 1984", "birth_date"),
        ("912-70-1234", "us_itin"),
        ("AB 12 34 56 C", "uk_nino"),
        ("NHS number 943 476 5919", "uk_nhs"),
        ("Steuer-ID 86 095 742 719", "de_tax_id"),
        ("2 55 08 14 168 025 38", "fr_nir"),
        ("NIE X1234567L", "es_nie"),
        ("DNI 12345678Z", "es_dni"),
        ("rssmra85t10a562s", "it_fiscal_code"),
        ("BSN: 111222333", "nl_bsn"),
        ("pesel 44051401359", "pl_pesel"),
        ("811218-9876", "se_personnummer"),
        ("131052-308T", "fi_hetu"),
        ("529.982.247-25", "br_cpf"),
        ("CPF 52998224725", "br_cpf_named"),
        ("tax file number 123 456 782", "au_tfn"),
        ("SIN 130 692 544", "ca_sin"),
        ("756.9217.0769.85", "ch_ahv"),
        ("85.07.30-033.28", "be_national"),
        ("MRN: 00481-516", "medical_record"),
        ("lives at 42 Old Mill Lane, Apt 3", "street_address"),
        ("Mozartstraße 12a", "street_address_de"),
        ("12 bis, rue de la République", "street_address_fr"),
        ("Calle de Alcalá 45", "street_address_south"),
        ("P.O. Box 1234", "post_box"),
        ("Springfield, IL 62704", "us_zip"),
        ("SW1A 1AA", "uk_postcode"),
        ("login with admin and Xk29vQ!p", "password_said"),
        ("123456789:AAabcdefghijklmnopqrstuvwxyz0123456", "telegram_token"),
        ("https://hooks.slack.com/services/T00000000/B00000000/abcdefgh", "webhook"),
        ("from 203.0.113.7.", "ipv4"),
        ("2001:db8::8a2e:370:7334", "ipv6"),
        ("00:1b:44:11:3a:b7", "mac"),
        ("AKIAIOSFODNN7EXAMPLE", "api_key"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "api_key"),
        ("sk-proj-abcdefghijklmnopqrstuvwx", "api_key"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x", "token"),
        ("Authorization: Bearer abcdefghijklmnop1234", "bearer"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private_key"),
        ("DB_PASSWORD=hunter2hunter2", "password"),
        ("{\"api_key\": \"abcdef123456\"}", "password"),
        ("the password is correcthorse", "password"),
        ("postgres://me:s3cret@db.example/x", "url_password"),
        ("The Patient\nwas DIAGNOSED   WITH flu", "health_words"),
        ("an Attorney-Client matter", "legal_words"),
        ("steuererklärung", "finance_words"),
        ("Ｊａｎｅ＠ｅｘａｍｐｌｅ．ｏｒｇ", "email"),
        ("41\u{200b}11 1111 1111\u{ad} 1111", "card"),
        ("٤١١١ ١١١١ ١١١١ ١١١١", "card"),
        ("123\u{2011}45\u{2011}6789", "us_ssn"),
    ];
    let missed: Vec<_> = table.iter().filter(|(text, name)| !found(text).iter().any(|f| f == name)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn what_is_no_finding_is_left_alone() {
    let table = [
        ("What is the capital of France?", ""),
        ("4111 1111 1111 1112", "card: wrong check digit"),
        ("1234 5678 9012 3456", "card: wrong leading digit"),
        ("4111 1111 111", "card: too short"),
        ("GB82 WEST 1234 5698 7654 33", "iban: wrong remainder"),
        ("GB82 WEST 1234 5698 7654", "iban: too short for its country"),
        ("XX82 WEST 1234 5698 7654 32", "iban: no such country"),
        ("000-12-3456 666-12-3456 900-12-3456", "ssn: areas never given out"),
        ("123-00-6789 123-45-0000", "ssn: no such group or serial"),
        ("256.1.1.1 and 1.2.3", "ipv4: out of range, too short"),
        ("127.0.0.1 0.0.0.0 ::1", "own addresses"),
        ("at 12:30:45 on 2026-11-23", "times and dates"),
        ("std::vec::Vec", "no address"),
        ("me@home", "e-mail: no domain"),
        ("@handle and a@b.c", "e-mail: no top level domain"),
        ("meet at noon", "e-mail: only a word"),
        ("sk-short", "key: too short"),
        ("AKIA1234", "key: too short"),
        ("a password is a secret word", "no value"),
        ("-----BEGIN PUBLIC KEY-----", "not private"),
        ("outpatient impatient", "key words: only whole ones"),
        ("+11111111111", "phone: one digit only"),
        ("room 101, page 2024", "short numbers"),
        ("10.5281/zenodo.1234567", "a doi"),
        ("https://example.org/a/b?c=d", "a link"),
        ("912-89-1234", "itin: no such group"),
        ("QQ 12 34 56 C and GB 12 34 56 C and AB 12 34 56 E", "nino: never given out"),
        ("2 55 08 14 168 025 39", "nir: wrong key"),
        ("X1234567M", "nie: wrong letter"),
        ("DNI 12345678A", "dni: wrong letter"),
        ("rssmra85t10a562t", "fiscal code: wrong letter"),
        ("BSN: 111222334", "bsn: eleven test"),
        ("pesel 44051401358", "pesel: wrong digit"),
        ("811218-9875", "personnummer: wrong digit"),
        ("131052-308U", "hetu: wrong character"),
        ("85.07.30-033.29", "national number: wrong key"),
        ("44051401359", "nothing near says that it is a pesel"),
        ("the password for production is kept in the vault", "no value"),
        ("Monitoring 12 services on 5 nodes", "no street"),
        ("internationalisation and containerisation", "long words are no base64"),
        ("100% of 50%20", "a broken escape"),
        ("we had a call on 2026-11-30 and one on 30.11.2026", "dates near a word of telephones"),
        ("12 34 56 78", "nothing near says that it is a telephone"),
        ("450 0840", "nothing near says so either"),
        ("the unit 5 box 2 of the lesson", "no address of the military"),
    ];
    let wrong: Vec<_> =
        table.iter().map(|(text, why)| (text, why, found(text))).filter(|(_, _, f)| !f.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What may still be a telephone number, but is none of the kind that its check belongs to.
#[test]
fn checksums_tell_what_a_number_is_not() {
    let table = [
        ("NHS number 943 476 5918", "uk_nhs"),
        ("9434765919 is the number", "uk_nhs"),
        ("529.982.247-26", "br_cpf"),
        ("756.9217.0769.86", "ch_ahv"),
        ("tax file number 123 456 783", "au_tfn"),
        ("SIN 130 692 545", "ca_sin"),
        ("Steuer-ID 86 095 742 718", "de_tax_id"),
        ("aadhaar 2345 6789 0120 or 2345 6789 0121", "us_ssn"),
    ];
    let wrong: Vec<_> = table.iter().filter(|(text, name)| found(text).iter().any(|f| f == name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn checksums_hold_for_every_digit() {
    let digits = |text: &str| text.bytes().map(|b| b - b'0').collect::<Vec<u8>>();
    let passing: Vec<char> =
        ('0'..='9').filter(|last| luhn(&digits(&format!("411111111111111{last}")))).collect();
    assert_eq!(passing, ['1']);
}

#[test]
fn work_grows_with_the_text_only() {
    // What makes each pattern look again and again: counted bytes, not time.
    let hard = [
        "4111 ",
        "1",
        "DE12 ",
        "a@",
        "0044 1 ",
        "1.2.3.",
        "password=",
        "fe:",
        "eyJ",
        "a.",
        "-----BEGIN ",
        "sk-",
    ];
    for seed in hard {
        let read = |times: usize| SCANNER.scan(&[&seed.repeat(times)]).bytes_read as f64;
        let (one, two) = (read(2_000), read(4_000));
        assert!(two <= one * 2.2 + 4_096.0, "`{seed}`: {one} bytes, twice the text {two}");
        assert!(two <= 600.0 * (seed.len() * 4_000) as f64, "`{seed}`: {two} bytes");
    }
}

#[test]
fn unbounded_patterns_are_refused() {
    for pattern in [r"[a-z]+@x", r"a*", r"(?:ab){1,400}", r""] {
        let mut taxonomy = TAXONOMY.clone();
        taxonomy.recognisers.first_mut().unwrap().pattern = pattern.to_owned();
        assert!(Scanner::new(&taxonomy).is_err(), "{pattern}");
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn labels() -> impl Strategy<Value = Labels> {
    let some = |words: &'static [&'static str]| {
        proptest::collection::btree_set(proptest::sample::select(words).prop_map(name), 0..4)
    };
    let sensitivity = proptest::sample::select(vec![
        Sensitivity::Public,
        Sensitivity::Internal,
        Sensitivity::Confidential,
        Sensitivity::Restricted,
    ]);
    let stakes = proptest::sample::select(vec![Stakes::Low, Stakes::Medium, Stakes::High]);
    (
        sensitivity,
        some(&["personal", "health", "card", "network", "gossip"]),
        some(&["gdpr", "pci", "martian"]),
        some(&["eu", "ch", "atlantis"]),
        some(&["cloud_processing", "nonsense"]),
        proptest::option::of(proptest::sample::select(vec!["support", "mischief"]).prop_map(name)),
        stakes,
    )
        .prop_map(|(sensitivity, categories, regulations, residency, consent, purpose, stakes)| Labels {
            sensitivity,
            categories,
            regulations,
            residency,
            consent,
            purpose,
            stakes,
        })
}

fn unknown(labels: &Labels) -> bool {
    let all =
        labels.categories.iter().chain(&labels.regulations).chain(&labels.residency).chain(&labels.purpose);
    all.map(Name::as_str).any(|word| ["gossip", "martian", "atlantis", "mischief"].contains(&word))
}

proptest! {
    #[test]
    fn labels_are_never_lowered(declared in labels(), found in labels()) {
        let raised = TAXONOMY.raise(&declared, &found.categories);
        prop_assert!(raised.at_least_as_strict_as(&declared));
        prop_assert!(raised.categories.is_superset(&found.categories));
        // Finding more never gives less.
        prop_assert!(raised.at_least_as_strict_as(&TAXONOMY.raise(&declared, &BTreeSet::new())));
    }

    #[test]
    fn an_unknown_name_is_restricted(declared in labels()) {
        let raised = TAXONOMY.raise(&declared, &BTreeSet::new());
        if unknown(&declared) {
            prop_assert_eq!(raised.sensitivity, Sensitivity::Restricted);
        }
    }

    #[test]
    fn any_text_can_be_scanned(text in "\\PC{0,400}") {
        let once = SCANNER.scan(&[&text]);
        prop_assert_eq!(once, SCANNER.scan(&[&text]));
    }
}

#[test]
fn what_a_producer_made_up_is_known_as_unknown_alone() {
    let made_up =
        |also: &[&str]| also.iter().copied().chain(["anna-schmidt", "canary-7f3a"]).map(name).collect();
    let labels = Labels {
        categories: made_up(&["health"]),
        regulations: made_up(&[]),
        residency: made_up(&["eu", NOWHERE]),
        consent: made_up(&["marketing"]),
        purpose: Some(name("anna-schmidt")),
        ..Labels::of(Sensitivity::Public)
    };
    let names = |words: &[&str]| words.iter().copied().map(name).collect();
    let known = KnownLabels {
        categories: names(&["health", UNKNOWN]),
        regulations: names(&[UNKNOWN]),
        residency: names(&["eu", NOWHERE, UNKNOWN]),
        consent: names(&["marketing", UNKNOWN]),
        purpose: Some(name(UNKNOWN)),
    };
    assert_eq!(TAXONOMY.known(&labels), known);
    assert!(TAXONOMY.known(&Labels::of(Sensitivity::Restricted)).is_empty(), "negative control");
}

proptest! {
    #[test]
    fn known_labels_are_those_of_the_task_in_the_taxonomy_s_words(declared in labels(), found in labels()) {
        let labels = TAXONOMY.raise(&declared, &found.categories);
        let told = |names: &BTreeSet<Name>, made_up: &str| -> BTreeSet<Name> {
            let word = |of: &Name| if of.as_str() == made_up { name(UNKNOWN) } else { of.clone() };
            names.iter().map(word).collect()
        };
        let purpose = labels.purpose.iter().cloned().collect();
        let known = KnownLabels {
            categories: told(&labels.categories, "gossip"),
            regulations: told(&labels.regulations, "martian"),
            residency: told(&labels.residency, "atlantis"),
            consent: told(&labels.consent, "nonsense"),
            purpose: told(&purpose, "mischief").pop_first(),
        };
        prop_assert_eq!(TAXONOMY.known(&labels), known);
    }
}
