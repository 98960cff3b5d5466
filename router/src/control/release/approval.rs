//! Who agreed that more may leave. Routers hold texts against each other, which takes no time and is told of harmless changes too;
//! what is told needs a proof that no more may leave, where proofs reach, or the agreement of another operator.

use tidegate_bus::Bus;
use tidegate_policies::Bundle;
use tidegate_policies::release::{self, Wider};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::RELEASE_BUCKET;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{APPROVALS_KEY, APPROVALS_MAX, Approvals, Approved, Candidates};

use super::super::{ControlError, moved, refused};
use crate::knowledge::{self, KnowledgeError};

/// Reasons of a refusal that are told; the rest is counted.
const TOLD_MAX: usize = 3;

/// Keeps an agreement, which must be about the bundle that is active.
pub(super) async fn approve(bus: &Bus, approved: Approved) -> Result<(), ControlError> {
    if approved.hash == approved.against {
        return Err(refused(
            Code::InvalidField,
            "it is the active bundle, so there is nothing to agree to; name the one that is to follow it",
        ));
    }
    // One that comes again is on record already, whatever became active meanwhile.
    if knowledge::approvals(bus).await?.contains(&approved) {
        return Ok(());
    }
    let active = knowledge::in_force(bus).await?.map(|now| now.active);
    if active != Some(approved.against) {
        return Err(refused(
            Code::Outdated,
            "another bundle is active meanwhile; look at it again and approve anew",
        ));
    }
    moved(bus, RELEASE_BUCKET, APPROVALS_KEY, |now: Option<Approvals>| {
        Ok(with(now.unwrap_or_default(), &approved))
    })
    .await
}

/// The agreements with one more; none where it came late or twice. Those about another active bundle count for nothing.
fn with(now: Approvals, approved: &Approved) -> Option<Approvals> {
    let event = approved.event;
    if now.event >= event {
        return None;
    }
    let mut all = now.all;
    let same = |one: &Approved| (one.hash, &one.by) == (approved.hash, &approved.by);
    all.retain(|one| one.against == approved.against && !same(one));
    all.push(approved.clone());
    let over = all.len().saturating_sub(APPROVALS_MAX);
    all.drain(..over);
    Some(Approvals { event, all })
}

/// Whether a bundle may be released by this operator. `not_wider` is the bundle against which the operator proved it.
pub(super) async fn agreed(
    bus: &Bus,
    event: u64,
    bundle: &Bundle,
    operator: &Name,
    not_wider: Option<Digest>,
) -> Result<(), ControlError> {
    let Some(now) = knowledge::in_force(bus).await?.filter(|now| now.event < event) else { return Ok(()) };
    let why = match knowledge::bundle(bus, now.active).await {
        Ok(active) => release::may_be_wider(&active, bundle),
        Err(error @ KnowledgeError::Bucket { .. }) => return Err(error.into()),
        // A way on from a bundle that is damaged.
        Err(_) => {
            let why = "the active bundle cannot be read, so nothing can be compared".to_owned();
            vec![Wider { why, is_provable: false }]
        }
    };
    let left = unanswered(why, not_wider == Some(now.active));
    if left.is_empty() {
        return Ok(());
    }
    let (approvals, (directory, _)) = (knowledge::approvals(bus).await?, knowledge::directory(bus).await?);
    let counts =
        |one: &Approved| directory.operators.contains(&one.by) && is_for(one, bundle.hash(), &now, operator);
    if approvals.iter().any(counts) {
        return Ok(());
    }
    Err(ControlError::Refused(Refused::new(Code::PolicyDenied, sentence(&left, bundle.hash()))))
}

/// What a proof does not answer.
fn unanswered(mut why: Vec<Wider>, is_proven: bool) -> Vec<Wider> {
    why.retain(|wider| !(is_proven && wider.is_provable));
    why
}

/// Whether somebody else agreed to it after the active bundle became so, and after it was last taken back.
fn is_for(one: &Approved, hash: Digest, now: &Candidates, operator: &Name) -> bool {
    one.hash == hash && one.by != *operator && one.stands(now)
}

fn sentence(left: &[Wider], hash: Digest) -> String {
    let more = left.len().saturating_sub(TOLD_MAX);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let told: Vec<&str> = left.iter().take(TOLD_MAX).map(|wider| wider.why.as_str()).collect();
    format!(
        "more might leave: {}{more}; another operator must agree with `tidegate bundle approve {hash}`",
        told.join(", ")
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::release::{Guard, TakenBack};

    use super::*;

    fn approved(hash: &str, against: &str, by: &str) -> Approved {
        let digest = |text: &str| Digest::plain(text.as_bytes());
        Approved { hash: digest(hash), against: digest(against), by: Name::new(by).unwrap(), event: 9 }
    }

    fn at(event: u64, approved: Approved) -> Approved {
        Approved { event, ..approved }
    }

    #[test]
    fn an_agreement_counts_for_one_bundle_against_one_and_for_another_operator() {
        let [new, active] = ["new", "active"].map(|text| Digest::plain(text.as_bytes()));
        let admin = Name::new("admin").unwrap();
        let rows = [
            (approved("new", "active", "olga"), true),
            (approved("new", "active", "admin"), false),
            (approved("another", "active", "olga"), false),
            (approved("new", "before", "olga"), false),
        ];
        let now = Candidates::only(8, active);
        for (one, counts) in rows {
            assert_eq!(is_for(&one, new, &now, &admin), counts, "{one:?}");
        }
        // The active bundle left and came again, or the other one was taken back, after it was agreed to.
        let again = Candidates { active_since: 9, ..now };
        let back = |hash| TakenBack { hash, guard: Guard::Errors, event: 10 };
        let one = approved("new", "active", "olga");
        for (now, counts) in [
            (now, true),
            (again, false),
            (Candidates { taken_back: Some(back(new)), ..now }, false),
            (Candidates { taken_back: Some(back(active)), ..now }, true),
        ] {
            assert_eq!(is_for(&one, new, &now, &admin), counts, "{now:?}");
        }
    }

    #[test]
    fn agreements_are_kept_up_to_a_limit_and_not_beyond_the_active_bundle() {
        let first = with(Approvals::default(), &at(1, approved("a", "x", "olga"))).unwrap();
        let twice = with(first, &at(2, approved("a", "x", "olga"))).unwrap();
        assert_eq!((twice.event, twice.all.len(), twice.all[0].event), (2, 1, 2), "anew");
        assert_eq!(with(twice.clone(), &at(2, approved("b", "x", "olga"))), None, "it came twice");
        let next = with(twice, &at(3, approved("b", "y", "olga"))).unwrap();
        assert_eq!(next.all, [at(3, approved("b", "y", "olga"))]);
        let all = (4..200).fold(next, |now, event| {
            with(now, &at(event, approved(&format!("b{event}"), "y", "olga"))).unwrap()
        });
        assert_eq!(all.all.len(), APPROVALS_MAX);
        assert_eq!(all.all.last(), Some(&at(199, approved("b199", "y", "olga"))));
    }

    #[test]
    fn a_proof_answers_what_it_is_about_and_nothing_else() {
        let wider = |is_provable| Wider { why: "more".to_owned(), is_provable };
        let both = || vec![wider(true), wider(false)];
        assert_eq!(unanswered(both(), true), [wider(false)]);
        assert_eq!(unanswered(vec![wider(true)], true), []);
        assert_eq!(
            unanswered(both(), false),
            both(),
            "negative control: without a proof nothing is answered"
        );
    }
}
