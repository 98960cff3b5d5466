//! The month's report: the tally over leaves as tables, and the pass over a store.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use redb::ReadableTable as _;
use serde_json::{Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::State;

use super::counts::{Capped, KEYS_MAX};
use super::tally::Tally;
use super::{Monthly, MonthlyError, Question, Verdict};
use crate::entry::{Gap, GapReason, Item};
use crate::fixture::{at, review, road, store, task, task_id, verdict};
use crate::leaf::Leaf;
use crate::read::Reader;
use crate::store::{Options, builder, file, write};
use crate::table;

fn question(tenant: Option<&str>, within: &[(Sensitivity, &str)]) -> Question {
    let mut claims: BTreeMap<Sensitivity, _> = BTreeMap::new();
    for (class, region) in within {
        claims
            .entry(*class)
            .or_insert_with(std::collections::BTreeSet::new)
            .insert(Name::new(*region).unwrap());
    }
    Question {
        tenant: tenant.map(|tenant| Name::new(tenant).unwrap()),
        month: "2026-11".parse().unwrap(),
        now: "2026-12-01T09:00:00Z".parse().unwrap(),
        within: claims,
        checkpoint: None,
        kept: Vec::new(),
    }
}

/// The same, with the checkpoint that the store signs now.
fn vouched(store: &mut crate::Store, question: Question) -> Question {
    let note = store.checkpoint().unwrap();
    Question { checkpoint: Some(crate::fixture::keys().signer.public().open(&note).unwrap()), ..question }
}

/// A leaf of acme's bot and its first task, at an index; `more` says the rest.
fn leaf(index: u64, kind: &str, more: Value) -> Leaf {
    let mut leaf = json!({
        "v": 1, "id": task_id(index).0, "index": index, "time": at(i64::try_from(index).unwrap()), "kind": kind,
        "tenant": "acme", "agent": "bot", "task": task_id(1).0, "source": {"stream": "EVENTS", "sequence": index + 1}
    });
    let fields = leaf.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    serde_json::from_value(leaf).unwrap()
}

fn decision(outcome: &str, class: &str, region: &str) -> Value {
    json!({
        "id": task_id(900).0, "outcome": outcome, "destination": "there", "model": "m-1", "region": region,
        "sensitivity": class, "stakes": "low", "policies": ["p-1"], "scan": "recognisers", "hop": 0,
        "bundle": "11".repeat(32), "directory": "22".repeat(32), "content": "33".repeat(32)
    })
}

fn work(index: u64, lane: &str, class: &str, region: &str) -> Leaf {
    let mut detail = json!({"lane": lane, "target": "there"});
    if lane == "cloud" {
        detail["ticket"] = json!(task_id(800).0);
    }
    leaf(index, "work", json!({"decision": decision(lane, class, region), "detail": {"work": detail}}))
}

fn attempt(index: u64, lane: &str, phase: &str, bytes: u64) -> Leaf {
    let mut detail = json!({"attempt": 1, "phase": phase, "lane": lane, "target": "there"});
    if lane == "cloud" {
        detail["ticket"] = json!(task_id(800).0);
        detail["content"] = json!("33".repeat(32));
        detail["content_bytes"] = json!(bytes);
    }
    leaf(index, "attempt", json!({"detail": {"attempt": detail}}))
}

fn ended(index: u64, state: &str, more: Value) -> Leaf {
    let mut fields = json!({
        "state": state,
        "detail": {"result": {"usage": {"input_tokens": 5, "output_tokens": 7}, "cost_usd_micros": 19,
            "timings": {"total_ms": 1, "queued_ms": 0, "run_ms": 1}, "attempts": 1}}
    });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    leaf(index, "result", fields)
}

/// The report of leaves, each with its cause; a checkpoint vouches for them.
fn told(question: &Question, leaves: &[(Leaf, Option<&Leaf>)]) -> Monthly {
    const RECORDS: u64 = 100;
    let mut tree = crate::merkle::Frontier::default();
    (0..RECORDS).for_each(|_| tree.push([7; 32], |_, _| {}));
    let checkpoint =
        crate::Checkpoint { origin: "tidegate/test".to_owned(), size: RECORDS, root: tree.root() };
    let question = &Question { checkpoint: Some(checkpoint), ..question.clone() };
    let mut tally = Tally::new(question);
    (0..RECORDS).for_each(|index| tally.read(index, at(0), [7; 32]));
    for (leaf, cause) in leaves {
        tally.take(leaf, *cause);
    }
    tally.told(question)
}

#[test]
fn report_counts_what_left_by_class_region_provider_and_model() {
    let (cloud, local) = (work(1, "cloud", "public", "us"), work(5, "local", "restricted", "eu"));
    let late = leaf(
        7,
        "attempt",
        json!({"detail": {"attempt": {"attempt": 2, "phase": "late", "lane": "cloud", "target": "there",
            "ticket": task_id(800).0, "content": "33".repeat(32), "content_bytes": 100,
            "usage": {"input_tokens": 1, "output_tokens": 2}, "cost_usd_micros": 3}}}),
    );
    let leaves = [
        (cloud.clone(), None),
        (attempt(2, "cloud", "started", 100), Some(&cloud)),
        (attempt(3, "cloud", "retried", 100), Some(&cloud)),
        (attempt(4, "cloud", "started", 100), Some(&cloud)),
        (local.clone(), None),
        (attempt(6, "local", "started", 0), Some(&local)),
        (late, Some(&cloud)),
        (ended(8, "completed", json!({})), Some(&cloud)),
        (ended(9, "failed", json!({"code": "model_failed"})), Some(&local)),
    ];
    let report = told(&question(None, &[]), &leaves);
    let rows: Vec<Value> = report.places.iter().map(|place| serde_json::to_value(place).unwrap()).collect();
    let expected = [
        json!({"class": "public", "lane": "cloud", "region": "us", "provider": "there", "model": "m-1",
            "dispatched": 1, "attempts": 2, "failed_attempts": 1, "bytes": 200, "completed": 1, "failed": 0,
            "tokens": {"input": 6, "output": 9}, "cost_usd_micros": 22, "unpriced": 0}),
        json!({"class": "restricted", "lane": "local", "region": "eu", "provider": "there", "model": "m-1",
            "dispatched": 1, "attempts": 1, "failed_attempts": 0, "bytes": 0, "completed": 0, "failed": 1,
            "tokens": {"input": 5, "output": 7}, "cost_usd_micros": 19, "unpriced": 0}),
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        (report.left.attempts, report.left.bytes, report.left.cost_usd_micros),
        (2, 200, 22),
        "only the cloud"
    );
    assert_eq!(
        (report.tenants[0].calls, report.tenants[0].bytes, report.tenants[0].cost_usd_micros),
        (2, 200, 41)
    );
    let only = told(&question(Some("acme"), &[]), &leaves);
    assert_eq!((only.tenants.len(), only.places.len()), (0, 2), "one tenant's has no table of tenants");
    assert_eq!(report.unattributed.count, 0);
}

#[test]
fn report_a_residency_claim_breaks_by_one_record_and_names_it() {
    let restricted = Sensitivity::Restricted;
    let (home, away) = (work(1, "local", "restricted", "eu"), work(3, "cloud", "restricted", "us"));
    let begun = |index, lane| attempt(index, lane, "started", 10);
    let mut nameless = work(7, "cloud", "restricted", "us");
    nameless.decision.as_mut().unwrap().region = None;
    let mut orphan = begun(6, "cloud");
    orphan.flags.push(crate::leaf::Flag::CauseMissing);
    let mut other_bytes = begun(6, "cloud");
    let mut other_task = begun(6, "cloud");
    other_task.task = Some(task_id(2));
    if let Some(crate::leaf::Detail::Attempt { content, .. }) = &mut other_bytes.detail {
        *content = None;
    }
    let claim = [(restricted, "eu")];
    type Case<'a> = (&'a str, Vec<(Leaf, Option<&'a Leaf>)>, Verdict, Vec<u64>, u64);
    let cases: Vec<Case<'_>> = vec![
        ("nothing happened", vec![], Verdict::Holds, vec![], 0),
        (
            "all stayed",
            vec![(home.clone(), None), (begun(2, "local"), Some(&home))],
            Verdict::Holds,
            vec![],
            0,
        ),
        (
            "one was dispatched elsewhere",
            vec![(home.clone(), None), (away.clone(), None)],
            Verdict::Broken,
            vec![3],
            0,
        ),
        (
            "and attempted",
            vec![(away.clone(), None), (begun(4, "cloud"), Some(&away))],
            Verdict::Broken,
            vec![3, 4],
            0,
        ),
        ("a region without a name", vec![(nameless, None)], Verdict::Broken, vec![7], 0),
        ("another class did", vec![(work(3, "cloud", "public", "us"), None)], Verdict::Holds, vec![], 0),
        (
            "an attempt without a work",
            vec![(home.clone(), None), (orphan, None)],
            Verdict::Unproven,
            vec![],
            1,
        ),
        ("an attempt on another task's work", vec![(other_task, Some(&away))], Verdict::Unproven, vec![], 1),
        ("other bytes than were judged", vec![(other_bytes, Some(&away))], Verdict::Unproven, vec![], 1),
        (
            "a local attempt on cloud work",
            vec![(begun(6, "local"), Some(&away))],
            Verdict::Unproven,
            vec![],
            1,
        ),
        (
            "a gap where attempts stand",
            vec![(
                leaf(
                    5,
                    "gap",
                    json!({"tenant": null, "detail": {"gap": {"to": 9, "reason": "unexplained"}}}),
                ),
                None,
            )],
            Verdict::Unproven,
            vec![],
            0,
        ),
        (
            "a message that cannot be read where attempts stand",
            vec![(leaf(5, "unparsable", json!({"tenant": null})), None)],
            Verdict::Unproven,
            vec![],
            1,
        ),
    ];
    for (name, leaves, verdict, offences, unattributed) in cases {
        let report = told(&question(Some("acme"), &claim), &leaves);
        let class = report.residency.iter().find(|one| one.class == restricted).unwrap();
        let named: Vec<u64> = class.offences.iter().map(|one| one.index).collect();
        assert_eq!((class.verdict, &named), (verdict, &offences), "{name}");
        assert_eq!(
            (class.outside, report.unattributed.count),
            (offences.len() as u64, unattributed),
            "{name}"
        );
        // Negative control: where nothing is claimed nothing breaks.
        let quiet = told(&question(Some("acme"), &[]), &leaves);
        assert!(quiet.residency.iter().all(|one| one.verdict == Verdict::Told), "{name}");
    }
}

#[test]
fn report_tells_how_tasks_ended_and_what_people_decided() {
    let asked = |index, class: &str| {
        leaf(
            index,
            "task",
            json!({"detail": {"task": {"class": "batch", "sensitivity": class, "stakes": "low", "deadline": at(99)}}}),
        )
    };
    let held = |index| {
        leaf(
            index,
            "review",
            json!({"decision": decision("hold", "confidential", "eu"),
                "detail": {"review": {"queue": "finance", "review_by": at(99), "content": "33".repeat(32)}}}),
        )
    };
    let verdict = |index, reviewer: &str, action: &str| {
        leaf(
            index,
            "verdict",
            json!({"detail": {"verdict": {"queue": "finance", "reviewer": reviewer, "action": action,
                "review": "EVENTS:1", "content": "33".repeat(32)}}}),
        )
    };
    let (first, review) = (asked(1, "internal"), held(10));
    let mut again = asked(2, "internal");
    again.flags.push(crate::leaf::Flag::Repeat);
    let mut twice = ended(30, "completed", json!({}));
    twice.flags.push(crate::leaf::Flag::SecondTerminal);
    let denied = json!({"code": "policy_denied", "decision": decision("reject", "restricted", "eu")});
    let letter = json!({"code": "poison", "detail": {"dead": {"role": "router", "message": "STEPS:1", "delivered": 5}}});
    let leaves = [
        (first.clone(), None),
        (again, None),
        (ended(3, "failed", json!({"code": "deadline_exceeded"})), Some(&first)),
        (ended(4, "rejected", denied), Some(&first)),
        (ended(5, "rejected", json!({"code": "invalid_json"})), None),
        (review.clone(), None),
        (verdict(12, "rita", "approve"), Some(&review)),
        (verdict(14, "rita", "edit"), Some(&review)),
        (verdict(17, "ruth", "reject"), Some(&review)),
        (ended(18, "rejected", json!({"code": "review_expired"})), Some(&review)),
        (twice, None),
        (leaf(31, "dead", letter), None),
    ];
    let report = told(&question(Some("acme"), &[]), &leaves);
    assert_eq!((report.tasks.submitted, report.tasks.repeated, report.tasks.ended), (1, 1, 4));
    let outcomes: Vec<_> = report.outcomes.iter().map(|one| (one.class, one.state, one.tasks)).collect();
    let expected = [
        (None, State::Rejected, 1),
        (Some(Sensitivity::Internal), State::Failed, 1),
        (Some(Sensitivity::Confidential), State::Rejected, 1),
        (Some(Sensitivity::Restricted), State::Rejected, 1),
    ];
    assert_eq!(outcomes, expected);
    let why: Vec<_> =
        report.rejections.iter().map(|one| (one.code, one.policies.join(","), one.tasks)).collect();
    let expected = [(Code::InvalidJson, "", 1), (Code::PolicyDenied, "p-1", 1), (Code::ReviewExpired, "", 1)];
    assert_eq!(why, expected.map(|(code, policies, tasks)| (Some(code), policies.to_owned(), tasks)));
    let people = serde_json::to_value(&report.people).unwrap();
    let expected = json!({
        "queues": [{"queue": "finance", "class": "confidential", "held": 1, "approved": 1, "edited": 1, "rejected": 1, "expired": 1}],
        "held": 1, "verdicts": 3, "upheld": 0, "overturned": 0, "expired": 1, "reviewers": 2,
        "waits": {"mean_ms": 4333, "longest_ms": 7000}
    });
    assert_eq!(people, expected);
    assert_eq!((report.dead[0].role.as_str(), report.dead[0].letters), ("router", 1));
    assert_eq!(
        (report.anomalies.len(), report.anomalies[0].records.first.clone()),
        (1, vec![30]),
        "a repeat is none"
    );
}

#[test]
fn report_is_one_pass_over_the_months_records_of_the_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(20)).unwrap();
    let mut december = task(21, 21);
    december.time = "2026-12-01T00:00:00Z".parse().unwrap();
    store.append(&[Item::Message(december)]).unwrap();
    let mut other = task(30, 1);
    (other.stream, other.subject) = ("TASKS_globex".to_owned(), "task.globex.bot.chat".to_owned());
    store.append(&[Item::Message(other)]).unwrap();
    drop(store);

    let reader = Reader::open(dir.path(), None).unwrap();
    let mut steps = Vec::new();
    let report =
        reader.monthly(&question(Some("acme"), &[]), &mut |done, of| steps.push((done, of))).unwrap();
    assert_eq!(steps, [(62, 62)]);
    assert_eq!((report.record.records, report.covered.records, report.tasks.ended), (62, 60, 20));
    assert_eq!(report.places[0].ran.completed, 20, "results are counted at the work that caused them");
    assert_eq!(report.record.head.unwrap().as_bytes(), &reader.get(61).unwrap().unwrap().hash);
    assert_eq!((report.record.damaged.count, report.ended), (0, true));
    let all = reader.monthly(&question(None, &[]), &mut |_, _| {}).unwrap();
    assert_eq!((all.covered.records, all.tenants.len()), (61, 2));

    let october = Question { month: "2026-10".parse().unwrap(), ..question(Some("acme"), &[]) };
    let empty = reader.monthly(&october, &mut |_, _| {}).unwrap();
    assert_eq!((empty.covered.records, empty.tasks.submitted, empty.record.records), (0, 0, 62));
    assert!(empty.residency.iter().all(|one| one.reached.is_empty()));

    let nobody = reader.monthly(&question(Some("initech"), &[]), &mut |_, _| {}).unwrap_err();
    assert!(nobody.to_string().contains("`acme`, `globex`"), "{nobody}");
    let future = Question { month: "2027-01".parse().unwrap(), ..question(Some("acme"), &[]) };
    assert!(matches!(reader.monthly(&future, &mut |_, _| {}), Err(MonthlyError::Future { .. })));
}

#[test]
fn report_a_gap_noticed_after_the_month_leaves_claims_unproven() {
    for (time, verdict) in
        [("2026-12-02T00:00:00Z", Verdict::Unproven), ("2026-10-31T00:00:00Z", Verdict::Holds)]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(3)).unwrap();
        let time = time.parse().unwrap();
        let gap = Gap { stream: "EVENTS".to_owned(), from: 1, to: 4, reason: GapReason::Unexplained, time };
        store.append(&[Item::Gap(gap)]).unwrap();
        let asked = vouched(&mut store, question(Some("acme"), &[(Sensitivity::Internal, "eu")]));
        drop(store);
        let reader = Reader::open(dir.path(), None).unwrap();
        let report = reader.monthly(&asked, &mut |_, _| {}).unwrap();
        let class = report.residency.iter().find(|one| one.class == Sensitivity::Internal).unwrap();
        assert_eq!((class.verdict, report.gaps.len()), (verdict, 0), "{time}");
    }
}

#[test]
fn report_tamper_leaves_no_claim_proven() {
    type Change = fn(&redb::WriteTransaction);
    let changes: [(&str, Change, Vec<u64>); 4] = [
        ("negative control: nothing", |_| {}, vec![]),
        (
            "a region in a leaf",
            |txn| {
                let mut rec = txn.open_table(table::REC).unwrap();
                let mut row = rec.get(4).unwrap().unwrap().value().to_vec();
                let at = row.windows(4).position(|window| window == b"\"eu\"").unwrap();
                row[at + 1] = b'u';
                rec.insert(4, row.as_slice()).unwrap();
            },
            vec![4],
        ),
        (
            "a record that is gone",
            |txn| {
                txn.open_table(table::REC).unwrap().remove(4).unwrap();
            },
            vec![4],
        ),
        (
            "a record at another's place",
            |txn| {
                let mut rec = txn.open_table(table::REC).unwrap();
                let row = rec.get(1).unwrap().unwrap().value().to_vec();
                rec.insert(4, row.as_slice()).unwrap();
            },
            vec![4],
        ),
    ];
    for (name, change, damaged) in changes {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(3)).unwrap();
        let asked = vouched(&mut store, question(Some("acme"), &[(Sensitivity::Internal, "eu")]));
        drop(store);
        let db: redb::Database = builder(Options::default().cache_bytes).open(file(dir.path())).unwrap();
        let txn = write(&db).unwrap();
        change(&txn);
        txn.commit().unwrap();
        drop(db);
        let reader = Reader::open(dir.path(), None).unwrap();
        let report = reader.monthly(&asked, &mut |_, _| {}).unwrap();
        assert_eq!(report.record.damaged.first, damaged, "{name}");
        let holds = report.residency.iter().filter(|one| one.verdict == Verdict::Holds).count();
        assert_eq!(holds, usize::from(damaged.is_empty()), "{name}");
    }
}

#[test]
fn report_counts_a_verdict_as_upheld_or_overturned_only_with_what_followed_it() {
    let verdict = |action: &str| {
        leaf(
            1,
            "verdict",
            json!({"detail": {"verdict": {"queue": "finance", "reviewer": "rita", "action": action,
                "review": "EVENTS:1", "content": "33".repeat(32)}}}),
        )
    };
    let rows = [
        ("approve", None, (0, 0)),
        ("edit", None, (0, 0)),
        ("reject", None, (0, 0)),
        ("approve", Some("work"), (1, 0)),
        ("edit", Some("work"), (0, 1)),
        ("reject", Some("result"), (0, 1)),
        ("approve", Some("result"), (0, 0)),
        ("approve", Some("review"), (0, 0)),
    ];
    for (action, follows, counts) in rows {
        let cause = verdict(action);
        let review = json!({"decision": decision("hold", "confidential", "eu"),
            "detail": {"review": {"queue": "finance", "review_by": at(99), "content": "33".repeat(32)}}});
        let followed = follows.map(|kind| match kind {
            "work" => work(2, "local", "confidential", "eu"),
            "result" => ended(2, "rejected", json!({"code": "review_rejected"})),
            _ => leaf(2, "review", review),
        });
        let mut leaves = vec![(cause.clone(), None)];
        leaves.extend(followed.map(|leaf| (leaf, Some(&cause))));
        let people = told(&question(Some("acme"), &[]), &leaves).people;
        assert_eq!(
            (people.verdicts, (people.upheld, people.overturned)),
            (1, counts),
            "{action} {follows:?}"
        );
    }
}

#[test]
fn report_reviews_are_read_with_their_verdicts_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let entries = [
        task(1, 1),
        review(1, 1, "TASKS_acme:1"),
        verdict(2, "EVENTS:1"),
        crate::fixture::work(1, 1, "EVENTS:2"),
    ];
    store.append(&crate::fixture::items(entries)).unwrap();
    drop(store);
    let reader = Reader::open(dir.path(), None).unwrap();
    let report = reader.monthly(&question(Some("acme"), &[]), &mut |_, _| {}).unwrap();
    let people = &report.people;
    assert_eq!((people.held, people.upheld, people.overturned, people.reviewers), (1, 1, 0, 1));
    assert_eq!(people.queues[0].class, Some(Sensitivity::Internal), "of the review that the verdict names");
}

#[test]
fn months_are_utc_and_nothing_else_is_a_month() {
    let month: super::Month = "2026-12".parse().unwrap();
    assert_eq!(
        (month.start().to_string(), month.end().to_string()),
        ("2026-12-01T00:00:00Z".into(), "2027-01-01T00:00:00Z".into())
    );
    let february: super::Month = "2028-02".parse().unwrap();
    assert_eq!(february.end().to_string(), "2028-03-01T00:00:00Z");
    for bad in
        ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-011", "2026-11-01", "+026-11", "november"]
    {
        assert!(bad.parse::<super::Month>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_counted_apart_is_bounded() {
    let mut counts = Capped::<u64, u64>::default();
    for n in 0..2 * KEYS_MAX as u64 {
        counts.count(n);
    }
    counts.count(0);
    assert_eq!(counts.left_out(), KEYS_MAX as u64);
    let rows = counts.into_rows(|(key, count)| (key, count));
    assert_eq!((rows.len(), rows[0]), (KEYS_MAX, (0, 2)));
}

#[test]
fn report_a_claim_holds_only_over_the_records_that_were_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(4)).unwrap();
    let note = store.checkpoint().unwrap();
    let signed = crate::fixture::keys().signer.public().open(&note).unwrap();
    store.append(&crate::fixture::items([task(9, 5)])).unwrap();
    let told = |checkpoint: Option<crate::Checkpoint>| {
        let question =
            Question { checkpoint, ..self::question(Some("acme"), &[(Sensitivity::Internal, "eu")]) };
        store.reader().monthly(&question, &mut |_, _| {}).unwrap()
    };
    let internal = |monthly: &Monthly| monthly.residency[1].verdict;
    let fits = told(Some(signed.clone()));
    let found = fits.record.signed.clone().unwrap();
    assert_eq!((found.size, found.root.as_bytes(), found.proven), (12, &signed.root, true));
    assert_eq!((fits.record.unsigned(), internal(&fits)), (1, Verdict::Holds));
    // Without one nothing is signed: the same records show nothing.
    let unsigned = told(None);
    assert_eq!((unsigned.record.unsigned(), internal(&unsigned)), (13, Verdict::NotShown));
    assert_eq!(unsigned.residency[1].outside, 0);
    // Nor does one that was signed before the month's first record.
    let empty =
        crate::Checkpoint { size: 0, root: crate::merkle::Frontier::default().root(), ..signed.clone() };
    assert_ne!(internal(&told(Some(empty))), Verdict::Holds);
    // What is broken is so whoever vouches for it.
    let question = question(Some("acme"), &[(Sensitivity::Internal, "ch")]);
    let broken = store.reader().monthly(&question, &mut |_, _| {}).unwrap();
    assert_eq!(internal(&broken), Verdict::Broken);
    let others = [
        ("another root", crate::Checkpoint { root: [1; 32], ..signed.clone() }),
        ("fewer records", crate::Checkpoint { size: 11, ..signed.clone() }),
        ("more records than there are", crate::Checkpoint { size: 14, ..signed }),
    ];
    for (name, other) in others {
        let told = told(Some(other));
        assert!(told.record.is_forged() && internal(&told) == Verdict::Unproven, "{name}");
    }
}
