//! Acts on topic `bundle`, applied. What an act leaves is written as one value first ([`Candidates`]); the pointer to the active
//! bundle follows it, so an act that was cut short between the two is completed when it comes again.

use std::sync::Arc;

use tidegate_bus::Bus;
use tidegate_policies::{Bundle, Judge, release};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::{ACTIVE_KEY, Act, Active, BUNDLES_BUCKET, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{CANDIDATES_KEY, Canary, Candidates, SHARE_BP_MAX};

use super::{ControlError, moved, refused};
use crate::knowledge::{self, KnowledgeError};

/// Reasons of a refusal that are told; the rest is counted.
const TOLD_MAX: usize = 3;

/// What an act does to what is released.
#[derive(Debug, Clone, Copy)]
enum Move {
    Shadow(Option<Digest>),
    Canary(Canary),
    Activate(Digest),
    Rollback(Digest),
}

/// Applies an act; those on other topics are none of it.
pub(super) async fn apply(bus: &Bus, event: u64, operator: &Name, act: Act) -> Result<(), ControlError> {
    let step = match act {
        Act::BundlePush { hash, archive } => return keep(bus, hash, archive).await.map(drop),
        Act::BundleActivate { hash, archive, approval } => {
            let bundle = keep(bus, hash, archive).await?;
            agreed(bus, event, &bundle, operator, approval.as_ref()).await?;
            Move::Activate(hash)
        }
        Act::BundlePromote { hash, approval } => {
            agreed(bus, event, &kept(bus, hash).await?, operator, approval.as_ref()).await?;
            Move::Activate(hash)
        }
        Act::BundleCanary { hash, share_bp, by, approval } => {
            agreed(bus, event, &kept(bus, hash).await?, operator, approval.as_ref()).await?;
            Move::Canary(Canary { hash, share_bp, by })
        }
        Act::BundleShadow { hash } => {
            if let Some(hash) = hash {
                kept(bus, hash).await?;
            }
            Move::Shadow(hash)
        }
        Act::BundleRollback { from } => Move::Rollback(from),
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

/// What a move leaves; none where the act came late or twice.
fn next(now: Option<Candidates>, event: u64, step: Move) -> Result<Option<Candidates>, Refused> {
    let invalid = |sentence: &str| Refused::new(Code::InvalidField, sentence);
    let now = match (now, step) {
        (Some(now), _) => now,
        (None, Move::Activate(hash)) => return Ok(Some(Candidates::only(event, hash))),
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
        Move::Canary(canary) => Candidates { canary: Some(canary), ..now },
        Move::Activate(hash) => {
            let before = if is_active(hash) { now.before } else { Some(now.active) };
            Candidates { active: hash, before, canary: None, ..now }
        }
        Move::Rollback(from) => match (now.canary, now.before) {
            (Some(canary), _) if canary.hash == from => Candidates { canary: None, ..now },
            (None, Some(before)) if is_active(from) => Candidates { active: before, before: None, ..now },
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

/// Where more might leave than by the active bundle, another operator has to agree.
async fn agreed(
    bus: &Bus,
    event: u64,
    bundle: &Bundle,
    operator: &Name,
    approval: Option<&Name>,
) -> Result<(), ControlError> {
    let Some(active) = knowledge::in_force(bus).await?.filter(|now| now.event < event) else { return Ok(()) };
    let why = match knowledge::bundle(bus, active.active).await {
        Ok(active) => release::may_be_wider(&active, bundle),
        Err(error @ KnowledgeError::Bucket { .. }) => return Err(error.into()),
        // A way on from a bundle that is damaged.
        Err(_) => vec!["the active bundle cannot be read, so nothing can be compared".to_owned()],
    };
    if why.is_empty() {
        return Ok(());
    }
    let (directory, _) = knowledge::directory(bus).await?;
    match approval {
        Some(name) if name != operator && directory.operators.contains(name) => Ok(()),
        Some(_) => Err(refused(
            Code::PolicyDenied,
            "the approval must name another operator of the directory than the one who acts",
        )),
        None => {
            let more = why.len().saturating_sub(TOLD_MAX);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            let told = why.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let sentence =
                format!("more might leave: {told}{more}; name another operator who agrees with --approval");
            Err(ControlError::Refused(Refused::new(Code::PolicyDenied, sentence)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::release::ShareBy;

    use super::*;

    #[test]
    fn each_act_moves_what_it_names_and_nothing_moves_back() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Digest::plain(content));
        let canary = |hash, share_bp| Canary { hash, share_bp, by: ShareBy::Tenant };
        let only = |active| Candidates::only(5, active);
        let on = Some(canary(b, 500));
        let full = Candidates { before: Some(c), shadow: Some(b), canary: on, ..only(a) };
        // What stands since event 5, what event 6 does, and what it leaves.
        let rows = [
            (full, Move::Shadow(None), Ok(Candidates { shadow: None, ..full })),
            (full, Move::Shadow(Some(c)), Ok(Candidates { shadow: Some(c), ..full })),
            (full, Move::Shadow(Some(a)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(c, 1)), Ok(Candidates { canary: Some(canary(c, 1)), ..full })),
            (full, Move::Canary(canary(b, 0)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(b, 10_001)), Err(Code::InvalidField)),
            (full, Move::Canary(canary(a, 1)), Err(Code::InvalidField)),
            // The shadow that becomes active is none any more, and the canary's place is free.
            (full, Move::Activate(b), Ok(Candidates { before: Some(a), ..only(b) })),
            (full, Move::Activate(a), Ok(Candidates { canary: None, ..full })),
            // A canary is taken back before the active one is.
            (full, Move::Rollback(b), Ok(Candidates { canary: None, ..full })),
            (full, Move::Rollback(a), Err(Code::Outdated)),
            (
                Candidates { canary: None, ..full },
                Move::Rollback(a),
                Ok(Candidates { shadow: Some(b), ..only(c) }),
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
            canary: Some(Canary { hash: b, share_bp: 1, by: ShareBy::Tenant }),
            ..Candidates::only(5, a)
        };
        let by = |event, hash| Candidates::in_force(Some(Active { event, hash }), Some(left)).unwrap();
        assert_eq!(by(4, c), left, "negative control: the pointer is not there yet");
        assert_eq!(by(6, c), Candidates { before: Some(a), ..Candidates::only(6, c) });
        assert_eq!(Candidates::in_force(None, None), None);
    }
}
