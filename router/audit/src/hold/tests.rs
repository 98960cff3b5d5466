#![expect(clippy::unwrap_used, reason = "tests")]

use tidegate_schemas::control::{Act, HoldTarget};
use tidegate_schemas::ids::Name;
use uuid::Uuid;

use crate::copy::tests::segments::erase_person;
use crate::erase::{Erasure, KeptAct};
use crate::error::SegmentError;
use crate::fixture::{act, at, items, master, result, road, store, task, task_id, task_of, work};
use crate::read::{Opened, Reader};
use crate::retain::Block;
use crate::retain::tests::{say, seal};
use crate::segment::Part;
use crate::store::Store;
use crate::verify::{Fault, Level};

const ID: Uuid = Uuid::from_u128(7);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A person by name; what the record calls them stands there once the hold is added.
fn subject(tenant: &str, subject: &str) -> HoldTarget {
    HoldTarget::Subject { tenant: name(tenant), reference: subject.to_owned() }
}

fn does(store: &mut Store, said: &Act) {
    let sequence = store.next_sequence("EVENTS");
    let appended = store.append(&items([act("olga", sequence, said)])).unwrap();
    assert_eq!(appended.anomalies, []);
    store.checkpoint().unwrap();
}

fn add(store: &mut Store, target: HoldTarget, until: Option<jiff::Timestamp>) {
    let target = match target {
        HoldTarget::Subject { tenant, reference } => {
            let reference = store.reader().hold_reference(&tenant, &reference).unwrap();
            HoldTarget::Subject { tenant, reference }
        }
        other => other,
    };
    does(store, &Act::HoldAdd { hold: ID, target, until });
}

#[test]
fn hold_keeps_a_segment_until_it_is_removed() {
    let held = [
        ("a tenant", HoldTarget::Tenant { tenant: name("acme") }),
        ("a task", HoldTarget::Task { task: task_id(3) }),
        ("a person", subject("acme", "customer-1")),
    ];
    for (what, target) in held {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(200)).unwrap();
        seal(&mut store);
        add(&mut store, target, None);
        let holds = store.reader().legal_holds().unwrap();
        assert_eq!(
            (holds.len(), holds[0].id, holds[0].operator.as_str(), holds[0].record),
            (1, ID, "olga", 600)
        );
        for part in [Part::Bodies, Part::Records] {
            let act = say(&mut store, part, 0, 512);
            let refused = store.prune(part, 0, act, at(0));
            assert!(
                matches!(refused, Err(SegmentError::Blocked(Block::Hold { hold })) if hold == ID),
                "{what}: {refused:?}"
            );
        }
        does(&mut store, &Act::HoldRemove { hold: ID });
        assert_eq!(store.reader().legal_holds().unwrap(), []);
        let act = say(&mut store, Part::Records, 0, 512);
        store.prune(Part::Records, 0, act, at(0)).unwrap();
        while store.tidy().unwrap() {}
        assert_eq!(store.reader().verify(Level::Full, &mut |_, _| {}).unwrap().problems, [], "{what}");
    }
}

#[test]
fn hold_on_something_else_keeps_nothing() {
    let elsewhere = [
        ("another tenant", HoldTarget::Tenant { tenant: name("globex") }, None),
        ("a task that came later", HoldTarget::Task { task: task_id(199) }, None),
        ("somebody else", subject("acme", "customer-2"), None),
        ("somebody of another tenant", subject("globex", "customer-1"), None),
        ("one that has ended", HoldTarget::Tenant { tenant: name("acme") }, Some(at(-1))),
    ];
    for (what, target, until) in elsewhere {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(200)).unwrap();
        seal(&mut store);
        add(&mut store, target, until);
        let act = say(&mut store, Part::Bodies, 0, 512);
        assert!(store.prune(Part::Bodies, 0, act, at(0)).is_ok(), "{what}");
    }
}

#[test]
fn hold_forbids_to_erase_the_person_it_is_about() {
    let acme = name("acme");
    let cases = [
        ("the tenant", HoldTarget::Tenant { tenant: acme.clone() }, true),
        ("the person", subject("acme", "customer-1"), true),
        ("a task with their data", HoldTarget::Task { task: task_id(3) }, true),
        ("negative control: another task", HoldTarget::Task { task: task_id(300) }, false),
        ("negative control: somebody else", subject("acme", "customer-2"), false),
        ("negative control: another tenant", HoldTarget::Tenant { tenant: name("globex") }, false),
    ];
    for (what, target, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(5)).unwrap();
        add(&mut store, target, Some(at(10)));
        let held = |now| !store.reader().held(&acme, "customer-1", now).unwrap().is_empty();
        assert_eq!(held(at(9)), expected, "{what}");
        assert!(!held(at(10)), "{what}: it has ended");
    }
}

#[test]
fn hold_names_no_person_in_the_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(1)).unwrap();
    add(&mut store, subject("acme", "anna.schmidt@example.com"), None);
    drop(store);
    let bytes = std::fs::read(crate::store::file(dir.path())).unwrap();
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!found("anna.schmidt") && found("olga"), "the operator's name stands there: negative control");
}

#[test]
fn hold_keeps_what_was_erased_longer_than_the_act_and_it_is_erased_still() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let of = |n: u64| {
        let (work_at, result_at) = (format!("TASKS_acme:{n}"), format!("WORK_LOCAL:{}", n - 1));
        [task(n, n), work(n, n - 1, &work_at), result(n, n, &result_at, "completed")]
    };
    let person = [task_of(1_000, 1, &["customer-2"]), result(1_000, 1, "TASKS_acme:1", "failed")];
    store.append(&items(person)).unwrap();
    store.append(&items((2..=200).flat_map(of))).unwrap();
    seal(&mut store);
    add(&mut store, HoldTarget::Task { task: task_id(5) }, None);
    erase_person(&mut store);
    store.append(&items((201..=400).flat_map(of))).unwrap();
    seal(&mut store);
    let opened = |store: &Store| {
        let reader = store.reader();
        let record = reader.get(0).unwrap().unwrap();
        reader.body(&record).unwrap()
    };
    assert_eq!(opened(&store), Opened::Erased { event: 2 }, "negative control: the act is on record");
    let first = say(&mut store, Part::Records, 0, 512);
    assert!(matches!(store.prune(Part::Records, 0, first, at(0)), Err(SegmentError::Blocked(_))), "held");
    let second = say(&mut store, Part::Records, 512, 512);
    store.prune(Part::Records, 512, second, at(0)).unwrap();
    assert_eq!(opened(&store), Opened::Erased { event: 2 }, "before it leaves the indices");
    while store.tidy().unwrap() {}
    drop(store);

    let mut store = crate::fixture::store(dir.path());
    assert_eq!(opened(&store), Opened::Erased { event: 2 });
    let reader = store.reader();
    let record = reader.get(0).unwrap().unwrap();
    assert_eq!(reader.erased_by(&record).unwrap(), Some(2));
    let whole = |reader: &Reader| {
        let mut report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
        reader.verify_keys(&master(), &mut report, &mut |_, _| {}).unwrap();
        report.problems.iter().map(|problem| problem.fault).collect::<Vec<_>>()
    };
    assert_eq!(whole(&reader), []);
    let erasure = reader.erasures().unwrap().remove(0);
    assert!(erasure.act.is_some() && erasure.state.has_ended());
    store.keep_erasure(&Erasure { act: None, ..erasure.clone() }).unwrap();
    assert_eq!(store.reader().erasures().unwrap(), std::slice::from_ref(&erasure), "it is not forgotten");
    // What was kept says so only as long as the tree holds it.
    let act = erasure.act.clone().unwrap();
    let forged = KeptAct { leaf: act.leaf.replace("\"olga\"", "\"oleg\""), ..act };
    store.keep_erasure(&Erasure { act: Some(forged), ..erasure }).unwrap();
    assert_eq!(opened(&store), Opened::Lost, "negative control");
    assert_eq!(whole(&store.reader()), [Fault::KeyLost]);
}
