//! Who is drawn, and what might be wider.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::bundle::tests::Variant;
use tidegate_schemas::ids::Identifier;
use tidegate_schemas::release::Guards;

const IDS: u32 = 100_000;
/// Why a policy about what runs inside is told.
const INSIDE: &str = "so what ran inside may leave";

fn canary(content: &str, share_bp: u16, by: ShareBy) -> Canary {
    Canary { hash: Digest::plain(content.as_bytes()), share_bp, by, since: 0, unguarded: Guards::default() }
}

fn drawn(canary: &Canary) -> Vec<u32> {
    let acme = Name::new("acme").unwrap();
    let lot = canary.hash.to_string();
    let canary = &Draw { lot: &lot, by: canary.by, share_bp: canary.share_bp };
    let is_in = |n: &u32| match canary.by {
        ShareBy::Tenant => within(canary, &Name::new(format!("t{n}")).unwrap(), None),
        ShareBy::Workflow | ShareBy::Session => within(canary, &acme, Some(&n.to_string())),
    };
    (0..IDS).filter(is_in).collect()
}

#[test]
fn as_many_are_drawn_as_the_share_says_whatever_is_drawn() {
    for by in [ShareBy::Tenant, ShareBy::Workflow, ShareBy::Session] {
        for share_bp in [1, 500, 5_000, 9_999, SHARE_BP_MAX] {
            let found = f64::from(u32::try_from(drawn(&canary("b", share_bp, by)).len()).unwrap());
            let share = f64::from(share_bp) / f64::from(SHARE_BP_MAX);
            // Five standard deviations of so many draws.
            let off = 5.0 * (f64::from(IDS) * share * (1.0 - share)).sqrt();
            assert!((found - f64::from(IDS) * share).abs() <= off, "{by:?} {share_bp}: {found}");
        }
    }
}

#[test]
fn who_is_drawn_once_is_drawn_each_time_and_at_every_larger_share() {
    let few = drawn(&canary("b", 500, ShareBy::Workflow));
    assert_eq!(few, drawn(&canary("b", 500, ShareBy::Workflow)));
    let many: std::collections::BTreeSet<u32> =
        drawn(&canary("b", 5_000, ShareBy::Workflow)).into_iter().collect();
    assert!(few.iter().all(|n| many.contains(n)));
    // Negative control: another bundle draws others.
    let other = drawn(&canary("c", 500, ShareBy::Workflow));
    let both = other.iter().filter(|n| few.contains(n)).count();
    assert!(both * 10 < few.len(), "{both} of {}", few.len());
}

/// A task of this id that names them, or none.
fn task(id: u128, session: Option<u32>, workflow: u32) -> Task {
    let case = serde_json::json!({ "name": "n", "agent": "a", "tenant": "acme", "labels": { "sensitivity": "public" },
                                   "expect": { "outcome": "local" } });
    let case: crate::cases::Case = serde_json::from_value(case).unwrap();
    let (mut task, _) = case.request(&tidegate_schemas::directory::Directory::empty()).unwrap();
    task.id = format!("01900000-0000-7000-8000-{id:012x}").parse().unwrap();
    task.session = session.map(|session| Identifier::new(format!("s-{session}")).unwrap());
    task.workflow = Some(Identifier::new(format!("flow-{workflow}")).unwrap());
    task
}

#[test]
fn tasks_of_a_session_are_drawn_alike_whatever_their_workflow() {
    let canary = canary("b", 5_000, ShareBy::Session);
    let first: Vec<bool> = (0..200).map(|session| is_drawn(&canary, &task(1, Some(session), 1))).collect();
    let later: Vec<bool> =
        (0..200).map(|session| is_drawn(&canary, &task(2, Some(session), session))).collect();
    assert_eq!(first, later);
    assert!(first.contains(&true) && first.contains(&false));
    // Negative control: a task that names no session is one of its own, also in one workflow.
    let alone: Vec<bool> = (0..200).map(|id| is_drawn(&canary, &task(id, None, 1))).collect();
    assert!(alone.contains(&true) && alone.contains(&false));
    let by_workflow = Canary { by: ShareBy::Workflow, ..canary };
    let other: Vec<bool> = (0..200).map(|flow| is_drawn(&by_workflow, &task(1, Some(1), flow))).collect();
    assert!(other.contains(&true) && other.contains(&false));
}

#[test]
fn what_could_let_more_leave_is_told() {
    let plain = Variant::new().read().unwrap();
    let more = |text: &str| Variant::new().write("policies/99-more.cedar", text);
    let forbid = "@id(\"x\") @owner(\"o\") @title(\"t\") forbid (principal, action in [Action::\"Route\"], resource) when { context.hop > 99 };";
    let permit = "@id(\"x\") @owner(\"o\") @title(\"t\") permit (principal is Agent, action == Action::\"RouteCloud\", resource is Destination) when { context.hop > 99 };";
    let inside = permit.replace("RouteCloud", "RouteLocal");
    let bare = forbid
        .replace("action in [Action::\"Route\"]", "action")
        .replace("context.hop > 99", "principal in Role::\"suspended\"");
    let skip = forbid.replace("in [Action::\"Route\"]", "== Action::\"SkipReview\"");
    let change = |file: &str, from: &str, to: &str| Variant::new().replace(file, from, to);
    let clinic = "principal = 'Tenant::\"clinic\"'";
    let rows = [
        (more(permit), Some("permit `x`")),
        (
            change("policies/10-route.cedar", "context.findings == 0", "context.findings <= 1"),
            Some("permit `cloud-public`"),
        ),
        (
            change("policies/40-limits.cedar", "context.hop > 8", "context.hop > 9"),
            Some("forbid `hops-limit`"),
        ),
        (
            change(
                "policies/60-tenants.cedar",
                "action == Action::\"RouteCloud\"",
                "action == Action::\"RouteLocal\"",
            ),
            Some("forbid `clinic-local-only`"),
        ),
        (
            change("links.toml", clinic, "principal = 'Tenant::\"clinics\"'"),
            Some("forbid `clinic-local-only`"),
        ),
        (
            change("destinations.toml", "name = \"openai\"", "name = \"openai-2\""),
            Some("cloud destination `openai-2`"),
        ),
        (change("taxonomy.toml", "\"symptoms\", ", ""), Some("the taxonomy")),
        (change("bundle.toml", "500_000", "600_000"), Some("a task may cost more")),
        (change("bundle.toml", "review_queue = \"", "review_queue = \"more-"), Some("the queue of reviews")),
        (
            change("properties.toml", "restricted-never-leaves", "restricted-leaves-never"),
            Some("property `restricted-never-leaves` is gone"),
        ),
        (
            change("destinations.toml", "rank = 20", "rank = 5"),
            Some("local destination `local-chat` is gone or another"),
        ),
        (
            change("destinations.toml", "name = \"local-chat\"", "name = \"local-chats\""),
            Some("local destination `local-chat` is gone or another"),
        ),
        (more(&forbid.replace("in [Action::\"Route\"]", "== Action::\"RouteLocal\"")), Some(INSIDE)),
        // Each way to say that work is not to run inside, or not without a person.
        (
            more(&forbid.replace("[Action::\"Route\"]", "[Action::\"RouteLocal\", Action::\"SkipReview\"]")),
            Some(INSIDE),
        ),
        (more(&forbid.replace("context.hop > 99", "resource.lane == Lane::\"local\"")), Some(INSIDE)),
        (
            more(&forbid.replace("context.hop > 99", "context.hop > 99 && action == Action::\"RouteLocal\"")),
            Some(INSIDE),
        ),
        (more(&bare.replace("principal in Role::\"suspended\"", "resource in Region::\"eu\"")), Some(INSIDE)),
        (more(&bare.replace("resource)", "resource in Pool::\"default\")")), Some(INSIDE)),
        (more(&skip.replace("context.hop > 99", "resource.lane == Lane::\"local\"")), Some(INSIDE)),
        (
            more(&skip.replace("context.hop > 99", "resource.lane == Lane::\"cloud\" || context.hop > 99")),
            Some(INSIDE),
        ),
        (
            change(
                "policies/50-people.cedar",
                "resource is Destination\n)",
                "resource is Destination\n)\nwhen { resource.lane == Lane::\"cloud\" }",
            ),
            Some("permit `review-default` is gone or another, so what ran inside may leave"),
        ),
        (more(&skip.replace("@title", "@queue(\"stakes\") @title")), Some("names a queue")),
        (
            change("policies/50-people.cedar", "Stakes::\"medium\"", "Stakes::\"low\""),
            Some("forbid `review-medium-egress` is new or another and names a queue"),
        ),
        // Negative controls: what lets no more leave.
        (Variant::new(), None),
        (more(&bare), None),
        (more(&skip), None),
        (
            more(&skip.replace("context.hop > 99", "context.hop > 99 && resource.lane == Lane::\"cloud\"")),
            None,
        ),
        (
            more(
                &forbid
                    .replace("in [Action::\"Route\"]", "== Action::\"RouteCloud\"")
                    .replace("context.hop > 99", "resource in Region::\"eu\""),
            ),
            None,
        ),
        (more(&forbid.replace("@title", "@queue(\"stakes\") @title")), None),
        (
            more(
                &permit
                    .replace("permit", "forbid")
                    .replace("is Agent", "")
                    .replace("RouteCloud", "ApproveReview")
                    .replace("resource is Destination", "resource")
                    .replace("context.hop > 99", "context.edited"),
            ),
            None,
        ),
        (more(forbid), None),
        (more(&inside), None),
        (change("bundle.toml", "500_000", "400_000"), None),
        (
            change("policies/60-tenants.cedar", "@title(\"the agent is blocked\")", "@title(\"blocked\")"),
            None,
        ),
        (change("cases/10-sensitivity.toml", "public question leaves", "public questions leave"), None),
    ];
    for (at, (variant, wanted)) in rows.into_iter().enumerate() {
        let found = may_be_wider(&plain, &variant.read().unwrap());
        match wanted {
            Some(wanted) => {
                let told = found.iter().rfind(|wider| wider.why.contains(wanted));
                // A proof is about policies: it answers nothing else.
                let answered = ![INSIDE, "names a queue"].iter().any(|other| wanted.contains(other));
                let of_policies = answered && (wanted.starts_with("permit") || wanted.starts_with("forbid"));
                assert_eq!(told.map(|wider| wider.is_provable), Some(of_policies), "{at}: {found:?}");
            }
            None => assert!(found.is_empty(), "{at}: {found:?}"),
        }
    }
}

#[test]
fn a_proof_is_no_answer_to_what_the_prover_is_not_asked_about() {
    let plain = Variant::new().read().unwrap();
    let permit = |notes: &str, action: &str| {
        format!(
            "@id(\"x\") @owner(\"o\") @title(\"t\") {notes} permit (principal, {action}, resource) when {{ context has now }};"
        )
    };
    let rows = [
        ("", "action == Action::\"RouteCloud\"", true),
        ("", "action in [Action::\"RouteCloud\", Action::\"SkipReview\"]", true),
        ("@cost_cap_usd_micros(\"7\")", "action == Action::\"RouteCloud\"", true),
        ("@queue(\"stakes\") @quorum(\"2\")", "action == Action::\"RouteCloud\"", false),
        ("", "action == Action::\"ApproveReview\"", false),
        ("", "action in [Action::\"RouteCloud\", Action::\"ApproveReview\"]", false),
        ("", "action", false),
    ];
    for (notes, action, is_provable) in rows {
        let policy = cedar_policy::Policy::parse(None, permit(notes, action)).unwrap().to_json().unwrap();
        let mut parts = plain.parts().clone();
        parts.policies.insert("x".to_owned(), policy);
        assert_eq!(is_asked_about(&parts, "x"), is_provable, "{notes} {action}");
    }
}

#[test]
fn a_permit_that_is_gone_may_have_failed_and_denied() {
    let permit = "@id(\"x\") @owner(\"o\") @title(\"t\") permit (principal is Agent, action == Action::\"RouteCloud\", resource is Destination) when { context.hop > 99 };";
    let more = Variant::new().write("policies/99-more.cedar", permit).read().unwrap();
    let found = may_be_wider(&more, &Variant::new().read().unwrap());
    assert!(
        matches!(&found[..], [Wider { why, is_provable: true }] if why.contains("permit `x` is gone")),
        "{found:?}"
    );
}
