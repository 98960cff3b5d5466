//! A ticket, as text and as the bytes behind it: none but those that were signed permits anything.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use tidegate_schemas::digest::{Digest, Salt};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::ticket::{Claims, Signer, Verifier};
use uuid::Uuid;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "ticket",
    run,
    made,
    words: &["\u{0}", "\u{1}", "cell-a", "k1", "openai", "eu"],
    rounds: 20_000,
};

const CONTENT: &[u8] = b"{\"model\":\"m\"}";

struct Case {
    verifier: Verifier,
    salt: Salt,
    now: Timestamp,
    genuine: Vec<String>,
}

static CASE: LazyLock<Case> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[3; 32]);
    let (salt, now) = (Salt::new([5; 32]), "2026-11-01T12:00:00Z".parse().unwrap());
    let verifier = Verifier::new("cell-a", vec![("k1".into(), key.verifying_key())]);
    let signer = Signer::new("k1", key);
    let all = [1, 3, 16]
        .map(|together| signer.sign_all(&(0..together).map(|id| claims(id, now, &salt)).collect::<Vec<_>>()));
    Case { verifier, salt, now, genuine: all.concat() }
});

fn claims(id: u128, now: Timestamp, salt: &Salt) -> Claims {
    let name = |text: &str| Name::new(text).unwrap();
    Claims {
        version: 1,
        id: Uuid::from_u128(id),
        audience: "cell-a".into(),
        tenant: name("acme"),
        agent: name("desk"),
        task: TaskId(Uuid::from_u128(8)),
        decision: Uuid::from_u128(9),
        bundle: Digest::plain(b"bundle"),
        directory: Digest::plain(b"directory"),
        content: salt.digest(CONTENT),
        content_bytes: CONTENT.len() as u64,
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

fn made() -> Vec<Vec<u8>> {
    let texts = CASE.genuine.iter().map(|ticket| ticket.clone().into_bytes());
    texts.chain(CASE.genuine.iter().map(|ticket| URL_SAFE_NO_PAD.decode(ticket).unwrap())).collect()
}

fn run(data: &[u8]) {
    let Case { verifier, salt, now, genuine } = &*CASE;
    for ticket in [String::from_utf8_lossy(data).into_owned(), URL_SAFE_NO_PAD.encode(data)] {
        let permits = verifier.verify(&ticket, salt, Bytes::from_static(CONTENT), *now).is_ok();
        assert_eq!(permits, genuine.contains(&ticket), "what nobody signed permits: {ticket}");
        let other = verifier.verify(&ticket, salt, Bytes::from_static(b"{}"), *now);
        assert!(other.is_err(), "it permits other bytes: {ticket}");
    }
}
