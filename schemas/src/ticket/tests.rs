#![expect(clippy::unwrap_used, reason = "tests")]

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;
use crate::digest::Digest;
use crate::ids::{Name, TaskId};

mod mutations;

fn claims(now: Timestamp, content: &[u8], salt: &Salt) -> Claims {
    let name = |text: &str| Name::new(text).unwrap();
    Claims {
        version: 1,
        id: Uuid::from_u128(7),
        audience: "cell-a".into(),
        tenant: name("acme"),
        agent: name("support"),
        task: TaskId(Uuid::from_u128(8)),
        decision: Uuid::from_u128(9),
        bundle: Digest::plain(b"bundle"),
        directory: Digest::plain(b"directory"),
        content: salt.digest(content),
        content_bytes: content.len() as u64,
        provider: name("openai"),
        model: "m".into(),
        region: name("eu"),
        base_url: name("openai"),
        attempts_max: 3,
        output_tokens_max: 64,
        cost_usd_micros_max: None,
        not_before: now,
        expires: now + SignedDuration::from_secs(120),
        deadline: now + SignedDuration::from_secs(300),
    }
}

struct Case {
    signer: Signer,
    verifier: Verifier,
    salt: Salt,
    now: Timestamp,
}

fn case() -> Case {
    let key = SigningKey::from_bytes(&[3; 32]);
    let verifier = Verifier::new("cell-a", vec![("k1".into(), key.verifying_key())]);
    Case {
        signer: Signer::new("k1", key),
        verifier,
        salt: Salt::new([5; 32]),
        now: "2026-11-01T12:00:00Z".parse().unwrap(),
    }
}

const BYTES: &[u8] = b"{\"model\":\"m\"}";

#[test]
fn ticket_verifies_for_its_payload_now() {
    let Case { signer, verifier, salt, now } = case();
    let ticket = signer.sign(&claims(now, BYTES, &salt));
    let cleared = verifier.verify(&ticket, &salt, BYTES.into(), now).unwrap();
    assert_eq!(cleared.bytes().as_ref(), BYTES);
    assert_eq!(cleared.claims().audience, "cell-a");
}

#[test]
fn ticket_is_refused_with_the_reason() {
    let Case { signer, verifier, salt, now } = case();
    let good = claims(now, BYTES, &salt);
    let later = |seconds| now + SignedDuration::from_secs(seconds);
    let other_key = Signer::new("k1", SigningKey::from_bytes(&[4; 32]));
    let renamed = Signer::new("k2", SigningKey::from_bytes(&[3; 32]));
    let elsewhere = Claims { audience: "cell-b".into(), ..good.clone() };
    let long = Claims { expires: later(121), ..good.clone() };
    let backwards = Claims { expires: later(-1), ..good.clone() };
    let done = Claims { deadline: later(10), ..good.clone() };
    let table = [
        ("another key", other_key.sign(&good), BYTES, now, TicketError::Signature),
        ("another key id", renamed.sign(&good), BYTES, now, TicketError::Signature),
        ("another cell", signer.sign(&elsewhere), BYTES, now, TicketError::Audience),
        ("another payload", signer.sign(&good), b"{}".as_slice(), now, TicketError::Content),
        ("too early", signer.sign(&good), BYTES, later(-6), TicketError::TooEarly),
        ("too late", signer.sign(&good), BYTES, later(126), TicketError::Expired),
        ("too long a life", signer.sign(&long), BYTES, now, TicketError::Expired),
        ("ends before it begins", signer.sign(&backwards), BYTES, now, TicketError::Expired),
        ("past the task's deadline", signer.sign(&done), BYTES, later(11), TicketError::Expired),
        ("no ticket", String::new(), BYTES, now, TicketError::Malformed),
        ("cut", signer.sign(&good)[..40].to_owned(), BYTES, now, TicketError::Malformed),
        ("too long", "A".repeat(7_000), BYTES, now, TicketError::Malformed),
    ];
    for (what, ticket, bytes, at, error) in table {
        assert_eq!(verifier.verify(&ticket, &salt, bytes.into(), at).unwrap_err(), error, "{what}");
    }
}

#[test]
fn ticket_with_any_bit_changed_is_refused() {
    let Case { signer, verifier, salt, now } = case();
    let claims = claims(now, BYTES, &salt);
    for together in [1, 3, 16] {
        let other = |n| Claims { id: Uuid::from_u128(n), ..claims.clone() };
        let ticket = signer.sign_all(&(0..together).map(other).collect::<Vec<_>>()).swap_remove(0);
        verifier.verify(&ticket, &salt, BYTES.into(), now).unwrap();
        let ticket = URL_SAFE_NO_PAD.decode(ticket).unwrap();
        for at in 0..8 * ticket.len() {
            let mut changed = ticket.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert!(verifier.verify(&changed, &salt, BYTES.into(), now).is_err(), "bit {at} of {together}");
        }
    }
}

/// Tickets that share a signature share nothing else: none passes for another, and what was never a leaf passes for none.
#[test]
fn tickets_that_were_signed_together_verify_each_for_itself() {
    let Case { signer, verifier, salt, now } = case();
    let bytes: Vec<Vec<u8>> = (0..5).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
    let all: Vec<Claims> = bytes.iter().map(|bytes| claims(now, bytes, &salt)).collect();
    let tickets = signer.sign_all(&all);
    let verify = |ticket: &str, bytes: &[u8]| {
        verifier.verify(ticket, &salt, bytes.to_vec().into(), now).map(|cleared| cleared.claims().clone())
    };
    for (at, ticket) in tickets.iter().enumerate() {
        assert_eq!(verify(ticket, &bytes[at]), Ok(all[at].clone()), "{at}");
        for (other, bytes) in bytes.iter().enumerate().filter(|(other, _)| *other != at) {
            assert_eq!(verify(ticket, bytes), Err(TicketError::Content), "{at} for {other}");
        }
    }
    let decoded: Vec<Vec<u8>> =
        tickets.iter().map(|ticket| URL_SAFE_NO_PAD.decode(ticket).unwrap()).collect();
    let first = Parts::read(&decoded[0]).unwrap();
    let elsewhere = claims(now, b"never signed", &salt).to_cbor();
    let rows = [
        (
            "claims of another leaf",
            Parts { claims: Parts::read(&decoded[1]).unwrap().claims, ..first.clone() },
        ),
        ("claims that are no leaf", Parts { claims: &elsewhere, ..first.clone() }),
        ("another place", Parts { index: 1, ..first.clone() }),
        ("a tree of another size with the same root", Parts { size: 6, ..first.clone() }),
        ("a path of another", Parts { path: Parts::read(&decoded[2]).unwrap().path, ..first.clone() }),
    ];
    for (what, parts) in rows {
        let forged = URL_SAFE_NO_PAD.encode(parts.to_cbor());
        assert_eq!(verify(&forged, b"never signed"), Err(TicketError::Signature), "{what}");
    }
    assert!(signer.sign_all(&[]).is_empty());
}

#[test]
fn clock_difference_of_five_seconds_is_forgiven() {
    let Case { signer, verifier, salt, now } = case();
    let ticket = signer.sign(&claims(now, BYTES, &salt));
    for seconds in [-5, 124] {
        let at = now + SignedDuration::from_secs(seconds);
        assert!(verifier.verify(&ticket, &salt, BYTES.into(), at).is_ok(), "{seconds}");
    }
}

#[test]
fn another_library_reads_and_verifies_a_ticket() {
    use coset::{CborSerializable as _, TaggedCborSerializable as _};
    let Case { signer, salt, now, .. } = case();
    let claims = claims(now, BYTES, &salt);
    let ticket = URL_SAFE_NO_PAD.decode(signer.sign(&claims)).unwrap();
    let both = coset::cbor::Value::from_slice(&ticket).unwrap().into_array().unwrap();
    let sealed = coset::CoseSign1::from_tagged_slice(&both[1].clone().to_vec().unwrap()).unwrap();
    assert_eq!(
        sealed.protected.header.alg,
        Some(coset::RegisteredLabelWithPrivate::Assigned(coset::iana::Algorithm::EdDSA))
    );
    assert_eq!(sealed.protected.header.key_id, b"k1");
    let key = SigningKey::from_bytes(&[3; 32]).verifying_key();
    // One leaf is its own root: SHA-256 of a zero byte and the claims.
    let root = Sha256::new().chain_update([0]).chain_update(both[0].as_bytes().unwrap()).finalize();
    let verified = |aad: &[u8]| {
        sealed.verify_detached_signature(&root, aad, |signature, data| {
            key.verify_strict(data, &Signature::from_slice(signature).unwrap())
        })
    };
    verified(b"tidegate ticket v2\0\0\0\0\0\0\0\x01").unwrap();
    verified(b"something else").unwrap_err();
    let payload = coset::cbor::Value::from_slice(both[0].as_bytes().unwrap()).unwrap();
    let payload = payload.as_map().unwrap();
    assert_eq!(payload.len(), 20, "all claims but the one that is absent");
    assert_eq!(payload[3].0, 4.into());
    assert_eq!(payload[3].1.as_text(), Some("acme"));
}

/// The same statement in other bytes, and statements that are none, with signatures that are well.
#[test]
fn only_the_one_form_of_a_ticket_is_taken() {
    let Case { signer, verifier, salt, now } = case();
    let good = claims(now, BYTES, &salt);
    let key = SigningKey::from_bytes(&[3; 32]);
    let made = |protected: &[u8], claims: &[u8]| {
        let signature = key.sign(&cose::to_be_signed(protected, 1, &tree::leaf(claims))).to_bytes();
        Parts { claims, protected, size: 1, index: 0, path: Vec::new(), signature: &signature }.to_cbor()
    };
    let verify = |bytes: &[u8]| verifier.verify(&URL_SAFE_NO_PAD.encode(bytes), &salt, BYTES.into(), now);
    let (protected, payload) = (cose::protected("k1"), good.to_cbor());
    let bytes = made(&protected, &payload);
    assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), signer.sign(&good));
    verify(&bytes).unwrap();

    let tag = bytes.windows(2).position(|two| two == [0xd2, 0x84]).unwrap();
    let untagged = [&bytes[..tag], &bytes[tag + 1..]].concat();
    let followed = [bytes.as_slice(), &[0]].concat();
    // The length of the protected header in two bytes where one does.
    let longer = [&bytes[..tag + 2], &[0x58, protected.len() as u8], &bytes[tag + 3..]].concat();
    let none = [&protected[..2], &[0x26], &protected[3..]].concat();
    let larger = {
        let parts = Parts::read(&bytes).unwrap();
        Parts { size: 2, ..parts }.to_cbor()
    };
    let rows = [
        ("untagged", untagged),
        ("followed by more", followed),
        ("a length in more bytes", longer),
        ("another algorithm", made(&none, &payload)),
        ("a place that does not fit the path", larger),
        ("claims followed by more", made(&protected, &[payload.as_slice(), &[0]].concat())),
        ("no claims", made(&protected, &[])),
        ("another version", made(&protected, &Claims { version: 2, ..good.clone() }.to_cbor())),
    ];
    for (what, bytes) in rows {
        assert_eq!(verify(&bytes).unwrap_err(), TicketError::Malformed, "{what}");
    }
    // What is unproven says the same of itself.
    assert_eq!(Claims::told(&signer.sign(&good)), Some(good));
}

/// The claims of `ticket.cddl`: each number, whether it may be absent, and its type.
fn described() -> Vec<(u64, bool, String)> {
    let text = include_str!("../../ticket.cddl");
    let claims = text.split_once("\nclaims = {\n").unwrap().1.split_once("\n}").unwrap().0;
    let rule = |line: &str| {
        let (rule, _) = line.split_once(',').unwrap();
        let (number, of) = rule.split_once(" => ").unwrap();
        let bare = number.trim().trim_start_matches("? ");
        (bare.parse().unwrap(), number.contains('?'), of.trim().to_owned())
    };
    claims.lines().map(rule).collect()
}

/// The same of claims as they are written.
fn written(claims: &Claims) -> Vec<(u64, String)> {
    use minicbor::data::Type;

    let bytes = claims.to_cbor();
    let mut decoder = minicbor::Decoder::new(&bytes);
    let count = decoder.map().unwrap().unwrap();
    let mut entry = || {
        let number = decoder.u64().unwrap();
        let of = match decoder.datatype().unwrap() {
            Type::Bytes => format!("bstr .size {}", decoder.bytes().unwrap().len()),
            Type::String => decoder.str().map(|_| "tstr".to_owned()).unwrap(),
            _ => decoder.i64().map(|_| if number > 18 { "int" } else { "uint" }.to_owned()).unwrap(),
        };
        (number, of)
    };
    (0..count).map(|_| entry()).collect()
}

#[test]
fn the_description_on_disk_is_that_of_the_claims() {
    let Case { salt, now, .. } = case();
    let without = claims(now, BYTES, &salt);
    let with = Claims { cost_usd_micros_max: Some(1), ..without.clone() };
    let described = described();
    let all = described.iter().map(|(number, _, of)| (*number, of.clone()));
    assert_eq!(written(&with), all.clone().collect::<Vec<_>>());
    let optional: Vec<u64> =
        described.iter().filter(|(_, optional, _)| *optional).map(|(n, ..)| *n).collect();
    assert_eq!(written(&without), all.filter(|(n, _)| !optional.contains(n)).collect::<Vec<_>>());
    assert_eq!(optional, [18]);
}
