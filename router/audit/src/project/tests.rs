#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tidegate_schemas::code::Code;
use tidegate_schemas::release::Guard;
use tidegate_schemas::result::State;

use super::{Effect, project};
use crate::entry::Entry;
use crate::fixture::{CANARY, at, result, task, task_id};
use crate::leaf::{ActWord, Detail, RecordKind};

fn event(subject: &str, payload: &serde_json::Value) -> Entry {
    Entry {
        stream: "EVENTS".to_owned(),
        sequence: 1,
        subject: subject.to_owned(),
        time: at(0),
        headers: Vec::new(),
        payload: payload.to_string().into(),
    }
}

/// Its name, a change of a good task, and the code that its producer is told.
type Case = (&'static str, fn(&mut Entry), Code);

#[test]
fn a_task_that_cannot_be_read_is_still_a_task() {
    let cases: [Case; 5] = [
        ("no JSON", |entry| entry.payload = "nope".into(), Code::InvalidJson),
        ("an unknown kind", |entry| entry.subject = "task.acme.bot.anna".to_owned(), Code::UnknownKind),
        (
            "a kind that is no name",
            |entry| entry.subject = "task.acme.bot.Anna".to_owned(),
            Code::UnknownKind,
        ),
        (
            "a header twice",
            |entry| entry.headers = vec![("a".into(), "1".into()), ("A".into(), "2".into())],
            Code::InvalidHeaders,
        ),
        ("too long", |entry| entry.payload = vec![b' '; 600_000].into(), Code::TooLarge),
    ];
    for (name, change, code) in cases {
        let mut entry = task(1, 1);
        change(&mut entry);
        let told = project(&entry);
        assert_eq!((told.kind, told.code), (RecordKind::Task, Some(code)), "{name}");
        assert!(told.task.is_some() && !told.malformed, "{name}");
        assert_eq!(told.effect, Effect::Submitted(at(301)), "{name}");
        assert!(told.subject.is_none_or(|subject| !subject.to_lowercase().contains("anna")), "{name}");
        // Whose data it holds is known wherever that can be read.
        let whose: Vec<_> = told.subjects.iter().map(|subject| subject.as_str()).collect();
        let readable = !["no JSON", "too long"].contains(&name);
        assert_eq!(whose, if readable { vec!["customer-1"] } else { vec![] }, "{name}");
    }
}

#[test]
fn a_producer_s_cause_is_not_believed() {
    let mut entry = task(1, 1);
    entry.headers.push(("tidegate-cause".to_owned(), "EVENTS:9".to_owned()));
    assert_eq!(project(&entry).cause, None);
    let hop = project(&result(1, 1, "EVENTS:9", "completed"));
    assert_eq!(hop.cause.unwrap().to_string(), "EVENTS:9", "a role's is");
}

#[test]
fn a_result_ends_its_task_whatever_it_says() {
    let good = project(&result(1, 1, "EVENTS:9", "canceled"));
    assert_eq!((good.effect, good.state), (Effect::Ended(State::Canceled), Some(State::Canceled)));
    let mut bad = result(1, 1, "EVENTS:9", "completed");
    bad.payload = "nope".into();
    let bad = project(&bad);
    assert_eq!((bad.effect, bad.malformed, bad.task), (Effect::Ended(State::Failed), true, Some(task_id(1))));
    assert!(project(&result(1, 1, "EVENTS:9", "working")).malformed, "no state to end in");
}

#[test]
fn operators_acts_are_told_without_their_words() {
    let acts = [
        (json!({"act": "lane_off", "switch": {"lane": "cloud"}}), ActWord::LaneOff),
        (
            json!({"act": "bundle_activate", "hash": "11".repeat(32), "archive": CANARY}),
            ActWord::BundleActivate,
        ),
        (
            json!({"act": "flag_set", "flag": "stay-local", "tenants": ["acme"], "portion": {"share_bp": 500, "by": "workflow"}}),
            ActWord::FlagSet,
        ),
        (json!({"act": "bundle_push", "hash": "11".repeat(32), "archive": CANARY}), ActWord::BundlePush),
        (json!({"act": "bundle_shadow"}), ActWord::BundleShadow),
        (
            json!({"act": "bundle_canary", "hash": "11".repeat(32), "share_bp": 500, "by": "tenant"}),
            ActWord::BundleCanary,
        ),
        (
            json!({"act": "bundle_promote", "hash": "11".repeat(32), "not_wider": "22".repeat(32)}),
            ActWord::BundlePromote,
        ),
        (
            json!({"act": "bundle_rollback", "from": "11".repeat(32), "guard": "cloud_share", "since": 5}),
            ActWord::BundleRollback,
        ),
        (
            json!({"act": "bundle_approve", "hash": "11".repeat(32), "against": "22".repeat(32)}),
            ActWord::BundleApprove,
        ),
        (
            json!({"act": "ticket_key_rotate", "key": "ticket-2", "public": "33".repeat(32), "hash": "11".repeat(32)}),
            ActWord::TicketKeyRotate,
        ),
        (json!({"act": "budget_reset", "of": {"scope": "tenant", "tenant": "acme"}}), ActWord::BudgetReset),
        (json!({"act": "dead_discard", "letter": "EVENTS:4"}), ActWord::DeadDiscard),
        (
            json!({"act": "replay_start", "replay": "r", "plan": "22".repeat(32), "records": 3}),
            ActWord::ReplayStart,
        ),
        (json!({"act": "refused", "event": 4, "code": "outdated"}), ActWord::Refused),
        (json!({"act": "something_new"}), ActWord::Other),
    ];
    for (act, word) in acts {
        let body = json!({"schema_version": 1, "act": act, "reason": CANARY});
        let told = project(&event("control.lane.olga", &body));
        assert!(!told.malformed, "{word:?}");
        assert_eq!(told.code, (word == ActWord::Refused).then_some(Code::Outdated), "{word:?}");
        let detail = told.detail.unwrap();
        assert!(matches!(&detail, Detail::Control { act, .. } if *act == word), "{detail:?}");
        let named =
            matches!(word, ActWord::BundleCanary | ActWord::BundleRollback | ActWord::TicketKeyRotate);
        assert!(!named || matches!(&detail, Detail::Control { hash: Some(_), .. }), "{detail:?}");
        let guarded =
            matches!(&detail, Detail::Control { guard: Some(Guard::CloudShare), since: Some(5), .. });
        let flagged = matches!(&detail, Detail::Control { flag: Some(_), .. });
        assert_eq!(flagged, word == ActWord::FlagSet, "{detail:?}");
        let against = matches!(&detail, Detail::Control { against: Some(_), .. });
        assert_eq!(against, matches!(word, ActWord::BundlePromote | ActWord::BundleApprove), "{detail:?}");
        assert_eq!(guarded, word == ActWord::BundleRollback, "{detail:?}");
        assert!(!serde_json::to_string(&detail).unwrap().contains("canary-7f3a"), "{word:?}");
    }
}

#[test]
fn what_is_on_no_subject_of_ours_is_unparsable() {
    for subject in ["nope", "work.nowhere.small.interactive.acme", "task.acme", "cancel.acme.bot.a.b", ""] {
        let ours = event(subject, &json!({}));
        // What a producer writes has an answer or a dead letter, and is no oddity of ours.
        let theirs = Entry { stream: "TASKS_acme".to_owned(), ..ours.clone() };
        for (entry, malformed) in [(ours, true), (theirs, false)] {
            let told = project(&entry);
            assert_eq!(
                (told.kind, told.malformed, told.subject),
                (RecordKind::Unparsable, malformed, None),
                "{subject}"
            );
        }
    }
}

/// The leaf of work whose task declared a name as every label that there is; `known` stands in its decision too.
fn labelled(known: &str) -> crate::project::Projection {
    let mut entry = crate::fixture::work(1, 1, "TASKS_acme:1");
    let named = r#"["anna-schmidt"]"#;
    let declared = format!(
        r#"{known}"labels":{{"categories":{named},"regulations":{named},"residency":{named},"consent":{named},"purpose":"anna-schmidt","#
    );
    for (_, value) in entry.headers.iter_mut().filter(|(name, _)| name == "tidegate-decision") {
        *value = value.replace("\"labels\":{", &declared);
        assert!(value.contains("anna-schmidt"), "negative control: the decision names it");
    }
    project(&entry)
}

#[test]
fn no_label_that_a_producer_made_up_stands_in_a_leaf() {
    // As a router wrote it that knew no such field.
    let before = labelled("").decision.unwrap();
    assert!(before.labels.is_empty());
    let text = serde_json::to_string(&before).unwrap();
    assert!(!text.contains("labels") && !text.contains("anna"), "{text}");

    let known = r#""known":{"categories":["health","unknown"],"residency":["eu"],"purpose":"unknown"},"#;
    let told = labelled(known).decision.unwrap();
    let text = serde_json::to_string(&told).unwrap();
    let labels = r#""labels":{"categories":["health","unknown"],"residency":["eu"],"purpose":"unknown"}"#;
    assert!(text.contains(labels) && !text.contains("anna"), "{text}");
    assert_eq!(serde_json::from_str::<crate::leaf::DecisionLeaf>(&text).unwrap(), told);
}

#[test]
fn labels_of_a_leaf_are_names_and_few() {
    let many: Vec<String> = (0..1_000).map(|number| format!("kind-{number}")).collect();
    let told = labelled(&format!(r#""known":{},"#, json!({ "categories": many })));
    assert_eq!((told.malformed, told.decision.unwrap().labels.categories.len()), (false, 64));
    let sentence = labelled(r#""known":{"categories":["Anna lives in Bern"]},"#);
    assert!(sentence.malformed && sentence.decision.is_none(), "a sentence is no name");
}
