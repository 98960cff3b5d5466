//! Tickets that were changed, mixed, cut, signed by others or come at the wrong time, by the ten thousand: none is accepted.
//!
//! Beside the verifier stands a second reading of it, written as a list of checks of which one can be left out. With all checks
//! it must say the same of every ticket, and without any one of them it must accept some: so each check is one that counts, and
//! the mutations reach it.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const SEED: u64 = 20_261_130;
const MUTATIONS: usize = 24_000;
const KINDS: u32 = 12;

/// What a verifier checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    Form,
    Inclusion,
    KeyId,
    Signature,
    Version,
    Audience,
    NotBefore,
    Expiry,
    Life,
    Deadline,
    KeyEnd,
    Digest,
}

const CHECKS: [Check; 12] = [
    Check::Form,
    Check::Inclusion,
    Check::KeyId,
    Check::Signature,
    Check::Version,
    Check::Audience,
    Check::NotBefore,
    Check::Expiry,
    Check::Life,
    Check::Deadline,
    Check::KeyEnd,
    Check::Digest,
];

/// A ticket, what it comes with, and when.
struct Shown {
    ticket: String,
    salt: Salt,
    bytes: Vec<u8>,
    at: Timestamp,
}

struct World {
    now: Timestamp,
    signer: Signer,
    retired: Signer,
    stranger: Signer,
    verifier: Verifier,
    dice: StdRng,
}

/// A ticket that is well, and what it was made of.
struct Good {
    claims: Claims,
    ticket: String,
    salt: Salt,
    bytes: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let now = "2026-11-01T12:00:00Z".parse().unwrap();
        let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
        let ended = TrustedKey {
            until: Some(now - SignedDuration::from_secs(1)),
            ..TrustedKey::new("k0", key(2).verifying_key())
        };
        let keys = vec![ended, TrustedKey::new("k1", key(3).verifying_key())];
        Self {
            now,
            signer: Signer::new("k1", key(3)),
            retired: Signer::new("k0", key(2)),
            stranger: Signer::new("k1", key(4)),
            verifier: Verifier::trusting("cell-a", keys),
            dice: StdRng::seed_from_u64(SEED),
        }
    }

    /// Tickets that were signed together, each for a payload of its own.
    fn good(&mut self) -> Vec<Good> {
        let count = self.dice.random_range(2..=5);
        let made: Vec<(Claims, Salt, Vec<u8>)> = (0..count)
            .map(|_| {
                let bytes = format!("{{\"model\":\"m\",\"n\":{}}}", self.dice.random::<u64>()).into_bytes();
                let salt = Salt::new(self.dice.random());
                let id = Uuid::from_u128(self.dice.random());
                let task = TaskId(Uuid::from_u128(self.dice.random()));
                (Claims { id, task, ..claims(self.now, &bytes, &salt) }, salt, bytes)
            })
            .collect();
        let tickets =
            self.signer.sign_all(&made.iter().map(|(claims, ..)| claims.clone()).collect::<Vec<_>>());
        let all = made.into_iter().zip(tickets);
        all.map(|((claims, salt, bytes), ticket)| Good { claims, ticket, salt, bytes }).collect()
    }

    /// One change of a ticket that is well.
    fn changed(&mut self, kind: u32, good: &[Good]) -> Shown {
        let (one, other) = (&good[0], &good[1]);
        let as_it_is =
            |ticket: String| Shown { ticket, salt: one.salt, bytes: one.bytes.clone(), at: self.now };
        match kind {
            0 => as_it_is(flipped(&mut self.dice, &one.ticket)),
            1 => as_it_is(swapped(&mut self.dice, one, other)),
            2 => as_it_is(encoded_anew(&mut self.dice, &one.ticket)),
            3 => as_it_is(cut(&mut self.dice, &one.ticket)),
            4 => as_it_is(resigned(&mut self.dice, &self.stranger, &self.retired, &self.signer, one)),
            5 => as_it_is(self.signer.sign(&reclaimed(&mut self.dice, one))),
            // Too late, and too early.
            6 => {
                let late = SignedDuration::from_millis(self.dice.random_range(125_001..10_000_000));
                Shown { at: self.now + late, ..as_it_is(one.ticket.clone()) }
            }
            7 => {
                let early = SignedDuration::from_millis(self.dice.random_range(5_001..10_000_000));
                Shown { at: self.now - early, ..as_it_is(one.ticket.clone()) }
            }
            // Another payload, whole or nearly.
            8 => Shown { bytes: other.bytes.clone(), ..as_it_is(one.ticket.clone()) },
            9 => {
                let mut bytes = one.bytes.clone();
                let at = self.dice.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.dice.random_range(0..8);
                Shown { bytes, ..as_it_is(one.ticket.clone()) }
            }
            10 => Shown { salt: other.salt, ..as_it_is(one.ticket.clone()) },
            _ => {
                let mut bytes = one.bytes.clone();
                bytes.push(b' ');
                Shown { bytes, ..as_it_is(one.ticket.clone()) }
            }
        }
    }
}

fn flipped(dice: &mut StdRng, ticket: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(ticket).unwrap();
    for _ in 0..dice.random_range(1..=3) {
        let at = dice.random_range(0..bytes.len());
        bytes[at] ^= 1 << dice.random_range(0..8);
    }
    let flipped = URL_SAFE_NO_PAD.encode(bytes);
    // Two flips of one bit change nothing.
    if flipped == ticket { format!("{flipped}A") } else { flipped }
}

/// Parts of one ticket in another.
fn swapped(dice: &mut StdRng, one: &Good, other: &Good) -> String {
    let [a, b] = [one, other].map(|good| URL_SAFE_NO_PAD.decode(&good.ticket).unwrap());
    let (mine, theirs) = (Parts::read(&a).unwrap(), Parts::read(&b).unwrap());
    let mut parts = mine.clone();
    match dice.random_range(0..5) {
        0 => parts.claims = theirs.claims,
        1 => parts.path = theirs.path,
        2 => parts.index = theirs.index,
        3 => parts.size = mine.size + dice.random_range(1..4),
        _ => (parts.index, parts.path) = (theirs.index, theirs.path),
    }
    URL_SAFE_NO_PAD.encode(parts.to_cbor())
}

/// The same statement in other bytes or letters.
fn encoded_anew(dice: &mut StdRng, ticket: &str) -> String {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    let bytes = URL_SAFE_NO_PAD.decode(ticket).unwrap();
    let tag = bytes.windows(2).position(|two| two == [0xd2, 0x84]).unwrap();
    let longer = |at: usize, head: &[u8]| [&bytes[..at], head, &bytes[at + 1..]].concat();
    match dice.random_range(0..8) {
        0 => format!("{ticket}="),
        1 => format!("{}A", STANDARD_NO_PAD.encode(&bytes)),
        2 => format!("{}\n", STANDARD.encode(&bytes)),
        3 => URL_SAFE_NO_PAD.encode([bytes.as_slice(), &[0xf6]].concat()),
        // Lengths, tags and counts in more bytes than they need.
        4 => URL_SAFE_NO_PAD.encode(longer(0, &[0x98, 2])),
        5 => URL_SAFE_NO_PAD.encode(longer(tag, &[0xd8, 18])),
        6 => URL_SAFE_NO_PAD.encode(longer(tag + 1, &[0x98, 4])),
        _ => format!(" {ticket}"),
    }
}

fn cut(dice: &mut StdRng, ticket: &str) -> String {
    let at = dice.random_range(0..ticket.len());
    match dice.random_range(0..3) {
        0 => ticket[..at].to_owned(),
        1 => ticket[at + 1..].to_owned(),
        _ => format!("{}{}", &ticket[..at], &ticket[at + 1..]),
    }
}

/// The same claims by a key that is not trusted, or no longer, or under another's name.
fn resigned(dice: &mut StdRng, stranger: &Signer, retired: &Signer, signer: &Signer, one: &Good) -> String {
    match dice.random_range(0..4) {
        0 => stranger.sign(&one.claims),
        1 => retired.sign(&one.claims),
        2 => Signer::new(format!("k{}", dice.random_range(2..9)), signer.key.clone()).sign(&one.claims),
        _ => {
            let key = SigningKey::from_bytes(&dice.random());
            Signer::new("k1", key).sign(&one.claims)
        }
    }
}

/// Claims that the true key signed, and that permit nothing here and now.
fn reclaimed(dice: &mut StdRng, one: &Good) -> Claims {
    let seconds = SignedDuration::from_secs(dice.random_range(6..100_000));
    let good = one.claims.clone();
    match dice.random_range(0..7) {
        0 => Claims { audience: format!("cell-{}", dice.random_range(0..1_000)), ..good },
        1 => Claims {
            not_before: good.not_before + seconds,
            expires: good.expires + seconds,
            deadline: good.deadline + seconds,
            ..good
        },
        2 => Claims {
            not_before: good.not_before - seconds - SignedDuration::from_secs(125),
            expires: good.expires - seconds - SignedDuration::from_secs(125),
            ..good
        },
        3 => Claims { expires: good.expires + seconds, ..good },
        4 => Claims { deadline: good.not_before - seconds, ..good },
        5 => Claims { version: dice.random_range(2..9), ..good },
        _ => Claims { expires: good.not_before - seconds, ..good },
    }
}

/// The verifier read a second time, with one check left out.
fn accepts(world: &World, shown: &Shown, without: Option<Check>) -> bool {
    let is_checked = |check: Check| without != Some(check);
    let known = world.verifier.trusted();
    let Some((claims, key)) = signed(&known, &shown.ticket, without) else { return false };
    let skew = SignedDuration::from_secs(5);
    let life = claims.expires.duration_since(claims.not_before);
    let holds = [
        (Check::Version, claims.version == 1),
        (Check::Audience, claims.audience == "cell-a"),
        (Check::NotBefore, claims.not_before.duration_since(shown.at) <= skew),
        (Check::Expiry, shown.at.duration_since(claims.expires) <= skew),
        (Check::Life, !life.is_negative() && life <= SignedDuration::from_secs(120)),
        (Check::Deadline, shown.at <= claims.deadline),
        (Check::KeyEnd, key.until.is_none_or(|until| shown.at <= until)),
        (
            Check::Digest,
            claims.content_bytes == shown.bytes.len() as u64
                && shown.salt.digest(&shown.bytes) == claims.content,
        ),
    ];
    holds.iter().all(|(check, holds)| *holds || !is_checked(*check))
}

/// What was signed, as far as that is checked, and the key.
fn signed(known: &[TrustedKey], ticket: &str, without: Option<Check>) -> Option<(Claims, TrustedKey)> {
    let is_checked = |check: Check| without != Some(check);
    let bytes = match decoded(ticket) {
        None if !is_checked(Check::Form) => {
            URL_SAFE_NO_PAD.decode(ticket.trim().trim_end_matches('=')).ok()?
        }
        decoded => decoded?,
    };
    let parts = Parts::read(&bytes)?;
    let key_id = cose::key_id(parts.protected)?;
    let key = known.iter().find(|key| key.id == key_id || (!is_checked(Check::KeyId) && key.id == "k1"))?;
    let read = tree::root(tree::leaf(parts.claims), parts.size, parts.index, &parts.path);
    let root = if is_checked(Check::Inclusion) { read? } else { read.unwrap_or_default() };
    let protected = cose::protected(key_id);
    let signature = Signature::from_slice(parts.signature).ok()?;
    let proven =
        key.key.verify_strict(&cose::to_be_signed(&protected, parts.size, &root), &signature).is_ok();
    // Who takes any path must take its root unproven too.
    let open = [Check::Signature, Check::Inclusion].iter().any(|check| !is_checked(*check));
    if !proven && !open {
        return None;
    }
    Some((Claims::read(parts.claims)?, key.clone()))
}

#[test]
fn ticket_mutations_are_all_refused() {
    let mut world = World::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut let_in: BTreeMap<Check, usize> = BTreeMap::new();
    let mut good = world.good();
    for number in 0..MUTATIONS {
        if number % 64 == 0 {
            good = world.good();
            for one in &good {
                let whole =
                    world.verifier.verify(&one.ticket, &one.salt, one.bytes.clone().into(), world.now);
                whole.unwrap();
            }
        }
        let kind = u32::try_from(number).unwrap() % KINDS;
        let shown = world.changed(kind, &good);
        let said = world.verifier.verify(&shown.ticket, &shown.salt, shown.bytes.clone().into(), shown.at);
        assert!(said.is_err(), "seed {SEED}, mutation {number} of kind {kind} was accepted");
        let error = said.unwrap_err();
        *refused.entry(format!("{error:?}")).or_default() += 1;
        assert!(!accepts(&world, &shown, None), "mutation {number}: the second reading differs");
        for check in CHECKS {
            *let_in.entry(check).or_default() += usize::from(accepts(&world, &shown, Some(check)));
        }
    }
    for reason in ["Malformed", "Signature", "Retired", "Audience", "TooEarly", "Expired", "Content"] {
        assert!(refused.get(reason).is_some_and(|count| *count > 50), "{reason}: {refused:?}");
    }
    // Negative control: a verifier without any one of its checks lets some in.
    for (check, count) in &let_in {
        assert!(*count > 0, "no mutation reaches {check:?}: {let_in:?}");
    }
}
