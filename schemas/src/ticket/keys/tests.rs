#![expect(clippy::unwrap_used, reason = "tests")]

use jiff::SignedDuration;
use uuid::Uuid;

use super::*;
use crate::digest::{Digest, Salt};
use crate::ids::{Name, TaskId};
use crate::ticket::{Claims, TicketError, Verifier};

fn signer(id: &str, seed: u8) -> Signer {
    Signer::new(id, SigningKey::from_bytes(&[seed; 32]))
}

fn now() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

const SALT: [u8; 32] = [5; 32];
const BYTES: &[u8] = b"{}";

fn claims(from: Timestamp) -> Claims {
    let name = |text: &str| Name::new(text).unwrap();
    Claims {
        version: 1,
        id: Uuid::from_u128(1),
        audience: "cell".into(),
        tenant: name("acme"),
        agent: name("bot"),
        task: TaskId(Uuid::from_u128(2)),
        decision: Uuid::from_u128(3),
        bundle: Digest::plain(b"bundle"),
        directory: Digest::plain(b"directory"),
        content: Salt::new(SALT).digest(BYTES),
        content_bytes: BYTES.len() as u64,
        provider: name("p"),
        model: "m".into(),
        region: name("eu"),
        base_url: name("p"),
        attempts_max: 1,
        output_tokens_max: 1,
        cost_usd_micros_max: None,
        not_before: from,
        expires: from + SignedDuration::from_secs(120),
        deadline: from + SignedDuration::from_secs(3_600),
    }
}

/// What a worker says at a time of a ticket that was signed at another.
fn said(verifier: &Verifier, signer: &Signer, signed: Timestamp, at: Timestamp) -> Result<(), TicketError> {
    verifier.verify(&signer.sign(&claims(signed)), &Salt::new(SALT), BYTES.into(), at).map(drop)
}

#[test]
fn ticket_keys_are_read_as_they_are_written() {
    let (first, second) = (signer(FIRST_KEY_ID, 1), signer("ticket-2", 2));
    let retired = TrustedKey { until: Some(later(130)), ..first.trusted() };
    let keys = vec![retired, second.trusted()];
    assert_eq!(TrustedKey::read_all(&TrustedKey::write_all(&keys)).unwrap(), keys);
    assert_eq!(Signer::read(&second.secret()).unwrap().trusted(), second.trusted());
    // The form that a cell began with before keys had names.
    let digits = hex::encode([1; 32]);
    assert_eq!(Signer::read(&format!("{digits}\n")).unwrap().trusted(), first.trusted());
    let public = hex::encode(first.trusted().key.as_bytes());
    assert_eq!(TrustedKey::read_all(&public).unwrap(), [first.trusted()]);
    let rows = [
        String::new(),
        format!("a b {public}"),
        format!("a {public} until tomorrow"),
        format!("a {public} since 2026-11-01T12:00:00Z"),
        format!("a {}", &public[2..]),
        format!("ä {public}"),
        format!("a {public}\nb {public}"),
        format!("a {public}\na {}", hex::encode(second.trusted().key.as_bytes())),
        // The neutral element: any signature of some texts would pass.
        format!("a {}", hex::encode([&[1_u8][..], &[0; 31]].concat())),
        "\n".repeat(KEY_FILE_BYTES_MAX + 1),
    ];
    for text in rows {
        assert_eq!(TrustedKey::read_all(&text), Err(BadKeys), "{text:?}");
    }
    assert!(["", "a b c", &digits[2..]].iter().all(|text| Signer::read(text).is_err()));
}

#[test]
fn ticket_of_the_old_key_counts_until_its_end_and_that_of_the_new_one_goes_on() {
    let (old, new) = (signer(FIRST_KEY_ID, 1), signer("ticket-2", 2));
    let verifier = Verifier::trusting("cell", vec![old.trusted()]);
    assert_eq!(said(&verifier, &new, now(), now()), Err(TicketError::Signature), "not yet trusted");

    // Both, until the last ticket of the old one has run out.
    let both = TrustedKey::with_new(&verifier.trusted(), new.trusted()).unwrap();
    let copy = verifier.clone();
    verifier.trust(TrustedKey::retired(&both, "ticket-2", later(130)));
    for signer in [&old, &new] {
        assert_eq!(said(&verifier, signer, now(), later(100)), Ok(()), "{}", signer.key_id());
    }
    assert_eq!(said(&copy, &new, now(), now()), Ok(()), "copies share the keys");

    // Past its end the old one signs for nothing any more, with whatever times.
    assert_eq!(said(&verifier, &old, later(131), later(131)), Err(TicketError::Retired));
    assert_eq!(said(&verifier, &new, later(131), later(131)), Ok(()));
    // What waited so long goes back to be decided anew, and is no dead letter.
    assert_eq!(said(&verifier, &old, now(), later(200)), Err(TicketError::Expired));

    // A key that was lost ends at once, and a later rotation does not make it count again.
    let at_once = TrustedKey::retired(&both, "ticket-2", now());
    verifier.trust(TrustedKey::retired(&at_once, "ticket-2", later(130)));
    assert_eq!(said(&verifier, &old, now(), later(1)), Err(TicketError::Retired));

    // Negative control: without an end the old key would go on to count.
    verifier.trust(both);
    assert_eq!(said(&verifier, &old, later(131), later(131)), Ok(()));
}

#[test]
fn ticket_keys_stay_few_and_the_one_that_counts_is_never_forgotten() {
    let mut keys = vec![signer(FIRST_KEY_ID, 1).trusted()];
    for seed in 2..30_u8 {
        let id = TrustedKey::next_id(&keys);
        assert_eq!(id, format!("ticket-{seed}"));
        keys = TrustedKey::with_new(&keys, signer(&id, seed).trusted()).unwrap();
        keys = TrustedKey::retired(&keys, &id, later(i64::from(seed)));
        assert!(keys.len() <= KEYS_MAX && keys.last().unwrap().until.is_none(), "{seed}");
        assert_eq!(TrustedKey::read_all(&TrustedKey::write_all(&keys)).unwrap(), keys);
    }
    assert!(keys.iter().any(|key| key.id == "ticket-28"), "the one before is still known");
    let stay: Vec<_> = (1..=8).map(|seed| signer(&format!("k{seed}"), seed).trusted()).collect();
    assert_eq!(TrustedKey::with_new(&stay, signer("k9", 9).trusted()), None, "negative control");
}
