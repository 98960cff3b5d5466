//! Acts on topic `bundle`, applied. What an act leaves is written as one value first ([`Candidates`]); the pointer to the active
//! bundle follows it, so an act that was cut short between the two is completed when it comes again.

use std::sync::Arc;

use tidegate_bus::Bus;
use tidegate_bus::topology::RECORDER;
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::{ACTIVE_KEY, Act, Active, BUNDLES_BUCKET, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{
    Approved, CANDIDATES_KEY, Canary, Candidates, Guard, SHARE_BP_MAX, TakenBack,
};

use super::{ControlError, moved, refused};
use crate::knowledge::{self, KnowledgeError};

mod approval;

/// What an act does to what is released.
#[derive(Debug, Clone, Copy)]
enum Move {
    Shadow(Option<Digest>),
    Canary(Canary),
    Activate(Digest),
    Promote(Digest),
    Rollback(Digest),
    EndCanary(Digest, Guard, Option<u64>),
}

/// Applies an act; those on other topics are none of it.
pub(super) async fn apply(bus: &Bus, event: u64, operator: &Name, act: Act) -> Result<(), ControlError> {
    guards_alone(operator, &act)?;
    let step = match act {
        Act::BundlePush { hash, archive } => return keep(bus, hash, archive).await.map(drop),
        Act::BundleApprove { hash, against } => {
            kept(bus, hash).await?;
            let by = operator.clone();
            return approval::approve(bus, Approved { hash, against, by, event }).await;
        }
        Act::BundleActivate { hash, archive, not_wider } => {
            let bundle = keep(bus, hash, archive).await?;
            approval::agreed(bus, event, &bundle, operator, not_wider).await?;
            Move::Activate(hash)
        }
        Act::BundlePromote { hash, not_wider } => {
            approval::agreed(bus, event, &kept(bus, hash).await?, operator, not_wider).await?;
            Move::Promote(hash)
        }
        Act::BundleCanary { hash, share_bp, by, unguarded, not_wider } => {
            approval::agreed(bus, event, &kept(bus, hash).await?, operator, not_wider).await?;
            Move::Canary(Canary { hash, share_bp, by, since: event, unguarded })
        }
        Act::BundleShadow { hash } => {
            if let Some(hash) = hash {
                kept(bus, hash).await?;
            }
            Move::Shadow(hash)
        }
        Act::BundleRollback { from, guard: None, .. } => {
            leads_somewhere(bus).await?;
            Move::Rollback(from)
        }
        Act::BundleRollback { from, guard: Some(guard), since } => Move::EndCanary(from, guard, since),
        _ => return Ok(()),
    };
    let active = knowledge::active(bus).await?;
    moved(bus, RELEASE_BUCKET, CANDIDATES_KEY, |left| {
        let now = Candidates::in_force(active.clone(), left);
        Ok(next(now, event, step)?)
    })
    .await?;
    let Some(now) = knowledge::candidates(bus).await? else { return Ok(()) };
    moved(bus, RELEASE_BUCKET, ACTIVE_KEY, |active: Option<Active>| {
        let stands = active.is_some_and(|active| active.event >= now.event || active.hash == now.active);
        Ok((!stands).then_some(Active { event: now.event, hash: now.active }))
    })
    .await
}

/// The recorder's guards take canaries back and do nothing else; nobody else acts in their name.
fn guards_alone(operator: &Name, act: &Act) -> Result<(), ControlError> {
    let is_guards = matches!(act, Act::BundleRollback { guard: Some(_), .. });
    if is_guards == (operator.as_str() == RECORDER) {
        return Ok(());
    }
    Err(refused(
        Code::IdentityMismatch,
        "only the recorder's guards act as guards, and they only take a canary back",
    ))
}

/// A bundle that a rollback may lead to must load, in the form that it has: where it does not, the one that decides stays.
async fn leads_somewhere(bus: &Bus) -> Result<(), ControlError> {
    let Some(now) = knowledge::in_force(bus).await?.filter(|now| now.canary.is_none()) else { return Ok(()) };
    let Some(before) = now.before else { return Ok(()) };
    let judged = match knowledge::bundle(bus, before).await {
        Err(error @ KnowledgeError::Bucket { .. }) => return Err(error.into()),
        loaded => loaded.ok().and_then(|bundle| Judge::new(Arc::new(bundle)).ok()),
    };
    let sentence = "the bundle before does not load any more, so the active one stays; apply another one";
    judged.map(drop).ok_or_else(|| refused(Code::InvalidField, sentence))
}

/// What a move leaves; none where the act came late or twice.
fn next(now: Option<Candidates>, event: u64, step: Move) -> Result<Option<Candidates>, Refused> {
    let invalid = |sentence: &str| Refused::new(Code::InvalidField, sentence);
    let now = match (now, step) {
        (Some(now), _) => now,
        (None, Move::Activate(hash) | Move::Promote(hash)) => return Ok(Some(Candidates::only(event, hash))),
        (None, _) => return Err(invalid("no bundle is active; apply one first")),
    };
    if now.event >= event {
        return Ok(None);
    }
    let is_active = |hash| hash == now.active;
    let next = match step {
        Move::Shadow(Some(hash)) if is_active(hash) => {
            return Err(invalid("that bundle is the active one: it cannot be judged beside itself"));
        }
        Move::Shadow(shadow) => Candidates { shadow, ..now },
        Move::Canary(canary) if !(1..=SHARE_BP_MAX).contains(&canary.share_bp) => {
            return Err(invalid("a canary's share is 1 to 10,000 basis points"));
        }
        Move::Canary(canary) if is_active(canary.hash) => {
            return Err(invalid("that bundle is the active one: it decides for all tasks already"));
        }
        Move::Canary(canary) => {
            // Another share of the same draw is the same trial: what its guards saw still counts.
            let same = now.canary.filter(|old| (old.hash, old.by) == (canary.hash, canary.by));
            let since = same.map_or(canary.since, |old| old.since);
            Candidates { canary: Some(Canary { since, ..canary }), taken_back: None, ..now }
        }
        // Who promotes a canary may not know yet that a guard has taken it back.
        Move::Promote(hash) if now.taken_back.is_some_and(|back| back.hash == hash) => {
            let sentence =
                "a guard took that bundle back; begin it as a canary again, or apply it by its directory";
            return Err(Refused::new(Code::Outdated, sentence));
        }
        Move::Activate(hash) | Move::Promote(hash) => {
            let before = if is_active(hash) { now.before } else { Some(now.active) };
            let active_since = if is_active(hash) { now.active_since } else { event };
            Candidates { active: hash, active_since, before, canary: None, taken_back: None, ..now }
        }
        Move::EndCanary(hash, guard, since)
            if now.canary.is_some_and(|canary| canary.hash == hash && Some(canary.since) == since) =>
        {
            Candidates { canary: None, taken_back: Some(TakenBack { hash, guard, event }), ..now }
        }
        Move::EndCanary(..) => {
            return Err(Refused::new(Code::Outdated, "that bundle is not the canary any more"));
        }
        Move::Rollback(from) => match (now.canary, now.before) {
            (Some(canary), _) if canary.hash == from => Candidates { canary: None, ..now },
            (None, Some(before)) if is_active(from) => {
                Candidates { active: before, active_since: event, before: None, ..now }
            }
            (None, None) if is_active(from) => {
                return Err(invalid("no bundle before the active one is remembered; apply or promote one"));
            }
            _ => {
                let sentence = "another bundle is the canary or the active one meanwhile; look at `tidegate bundle status`";
                return Err(Refused::new(Code::Outdated, sentence));
            }
        },
    };
    let shadow = next.shadow.filter(|shadow| *shadow != next.active);
    Ok(Some(Candidates { event, shadow, ..next }))
}

/// Keeps a bundle, which must load and be what the act names.
async fn keep(bus: &Bus, hash: Digest, archive: String) -> Result<Bundle, ControlError> {
    let bundle = loaded(hash, &archive)?;
    bus.kv_put(BUNDLES_BUCKET, &hash.to_string(), archive).await?;
    Ok(bundle)
}

/// A bundle that the cell keeps, as it would be made active.
async fn kept(bus: &Bus, hash: Digest) -> Result<Bundle, ControlError> {
    let entry = bus.kv_get(BUNDLES_BUCKET, &hash.to_string()).await?;
    let unknown =
        || refused(Code::InvalidField, "the cell keeps no such bundle; `tidegate bundle push` it first");
    let entry = entry.ok_or_else(unknown)?;
    loaded(hash, &String::from_utf8_lossy(&entry.value))
}

/// A bundle that does not load never decides.
fn loaded(hash: Digest, archive: &str) -> Result<Bundle, ControlError> {
    let unusable =
        |_| refused(Code::InvalidField, "the bundle does not load; check it with `tidegate policy check`");
    let bundle = Arc::new(Bundle::from_archive(archive).map_err(unusable)?);
    if bundle.hash() != hash {
        return Err(refused(Code::InvalidField, "the bundle's content has another hash than the act names"));
    }
    drop(Judge::new(Arc::clone(&bundle)).map_err(unusable)?);
    Arc::into_inner(bundle).ok_or_else(|| refused(Code::Internal, "the bundle is held"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::release::{Guards, ShareBy};

    use super::*;

    #[test]
    fn each_act_moves_what_it_names_and_nothing_moves_back() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Digest::plain(content));
        let began = |hash, share_bp, since| {
            let (by, unguarded) = (ShareBy::Tenant, Guards::default());
            Canary { hash, share_bp, by, since, unguarded }
        };
        let canary = |hash, share_bp| began(hash, share_bp, 6);
        let only = |active| Candidates::only(5, active);
        let on = Some(began(b, 500, 3));
        let full = Candidates { before: Some(c), shadow: Some(b), canary: on, ..only(a) };
        let back = |hash| Move::EndCanary(hash, Guard::Errors, Some(3));
        let taken = TakenBack { hash: b, guard: Guard::Errors, event: 6 };
        // What stands since event 5, what event 6 does, and what it leaves.
        let rows = [
            (full, Move::Shadow(None), Ok(Candidates { shadow: None, ..full })),
            (full, Move::Shadow(Some(c)), Ok(Candidates { shadow: Some(c), ..full })),
            (full, Move::Shadow(Some(a)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(c, 1)), Ok(Candidates { canary: Some(canary(c, 1)), ..full })),
            (full, Move::Canary(canary(b, 900)), Ok(Candidates { canary: Some(began(b, 900, 3)), ..full })),
            (full, Move::Canary(canary(b, 0)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(b, 10_001)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(a, 1)), Err(Code::InvalidField)),
            // The shadow that becomes active is none any more, and the canary's place is free.
            (full, Move::Activate(b), Ok(Candidates { before: Some(a), active_since: 6, ..only(b) })),
            (full, Move::Activate(a), Ok(Candidates { canary: None, ..full })),
            // A canary is taken back before the active one is.
            (full, Move::Rollback(b), Ok(Candidates { canary: None, ..full })),
            (full, Move::Rollback(a), Err(Code::Outdated)),
            (full, back(b), Ok(Candidates { canary: None, taken_back: Some(taken), ..full })),
            // The same bundle began again meanwhile: that trial is another.
            (full, Move::EndCanary(b, Guard::Errors, Some(2)), Err(Code::Outdated)),
            (full, Move::EndCanary(b, Guard::Errors, None), Err(Code::Outdated)),
            (
                Candidates { canary: None, taken_back: Some(taken), ..full },
                Move::Promote(b),
                Err(Code::Outdated),
            ),
            (full, Move::Promote(b), Ok(Candidates { before: Some(a), active_since: 6, ..only(b) })),
            (
                Candidates { taken_back: Some(taken), ..full },
                Move::Canary(canary(c, 1)),
                Ok(Candidates { canary: Some(canary(c, 1)), ..full }),
            ),
            // It was promoted, or ended, before its guard came: nothing else is taken back.
            (Candidates { canary: None, ..full }, back(a), Err(Code::Outdated)),
            (full, back(a), Err(Code::Outdated)),
            (
                Candidates { canary: None, ..full },
                Move::Rollback(a),
                Ok(Candidates { shadow: Some(b), active_since: 6, ..only(c) }),
            ),
            (Candidates { canary: None, ..full }, Move::Rollback(b), Err(Code::Outdated)),
            (only(a), Move::Rollback(a), Err(Code::InvalidField)),
        ];
        for (at, (now, step, expected)) in rows.into_iter().enumerate() {
            let left = next(Some(now), 6, step).map_err(|refused| refused.code);
            assert_eq!(left, expected.map(|left| Some(Candidates { event: 6, ..left })), "{at}");
            // It came twice, or late.
            assert_eq!(next(Some(now), 5, step).unwrap(), None, "{at}");
        }
        assert_eq!(next(None, 6, Move::Activate(a)).unwrap(), Some(Candidates::only(6, a)));
        assert!(next(None, 6, Move::Shadow(None)).is_err());
    }

    #[test]
    fn a_bundle_that_an_older_router_made_active_ends_the_canary() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Digest::plain(content));
        let left = Candidates {
            canary: Some(Canary {
                hash: b,
                share_bp: 1,
                by: ShareBy::Tenant,
                since: 4,
                unguarded: Guards::default(),
            }),
            ..Candidates::only(5, a)
        };
        let by = |event, hash| Candidates::in_force(Some(Active { event, hash }), Some(left)).unwrap();
        assert_eq!(by(4, c), left, "negative control: the pointer is not there yet");
        assert_eq!(by(6, c), Candidates { before: Some(a), ..Candidates::only(6, c) });
        assert_eq!(Candidates::in_force(None, None), None);
    }

    #[test]
    fn guards_do_nothing_but_take_a_canary_back_and_nobody_acts_as_one() {
        let [recorder, olga] = ["recorder", "olga"].map(|name| Name::new(name).unwrap());
        let hash = Digest::plain(b"a");
        let back = |guard| Act::BundleRollback { from: hash, guard, since: None };
        let rows = [
            (&recorder, back(Some(Guard::Errors)), true),
            (&olga, back(None), true),
            (&olga, Act::BundlePromote { hash, not_wider: None }, true),
            (&olga, back(Some(Guard::Errors)), false),
            (&recorder, back(None), false),
            (&recorder, Act::BundlePromote { hash, not_wider: None }, false),
            (&recorder, Act::BundleApprove { hash, against: hash }, false),
        ];
        for (operator, act, is_right) in rows {
            assert_eq!(guards_alone(operator, &act).is_ok(), is_right, "{operator} {act:?}");
        }
    }
}
