#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use jiff::SignedDuration;
use tidegate_schemas::control::Act;
use tidegate_schemas::ids::Position;

use super::{Block, Due, Retention};
use crate::bundle;
use crate::error::SegmentError;
use crate::export::{Form, PRUNED};
use crate::fixture::{act, at, items, keys, road, seeded, store, task, task_id};
use crate::read::{Filter, Opened, Reader};
use crate::segment::{Part, Sealing};
use crate::store::{Store, builder, file, write};
use crate::table;
use crate::verify::{Fault, Level, Report, Trust};

/// Records of the one segment.
const SEALED: u64 = 512;

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Seals what there is.
pub(crate) fn seal(store: &mut Store) {
    store.checkpoint().unwrap();
    while store.index().unwrap() {}
    let now = Sealing { bytes: u64::MAX, age: SignedDuration::ZERO };
    let sealed = store.reader().seal(&now, at(10_000)).unwrap().unwrap();
    store.name(&sealed).unwrap();
    while store.tidy().unwrap() {}
}

/// Says on record that a part is pruned. Returns the act's index.
pub(crate) fn say(store: &mut Store, part: Part, first: u64, records: u64) -> u64 {
    let said = match part {
        Part::Bodies => Act::PruneBodies { first, records },
        Part::Records => Act::PruneRecords { first, records },
    };
    let sequence = store.next_sequence("EVENTS");
    let index = store.append(&items([act("recorder", sequence, &said)])).unwrap().first;
    store.checkpoint().unwrap();
    index
}

fn prune(store: &mut Store, part: Part) {
    let act = say(store, part, 0, SEALED);
    store.prune(part, 0, act, at(0)).unwrap();
    while store.tidy().unwrap() {}
}

fn report(reader: &Reader) -> Report {
    let trust = Trust { key: Some(keys().signer.public()), pinned: Vec::new() };
    reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap()
}

#[test]
fn retain_bodies_go_then_records_and_every_proof_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = seeded(dir.path());
    store.append(&road(100)).unwrap();
    let early = store.checkpoint().unwrap();
    store.append(&road(200)).unwrap();
    seal(&mut store);
    let key = keys().signer.public();
    let lines: Vec<String> = store.reader().tail(0, 600).unwrap().into_iter().map(|one| one.line).collect();

    prune(&mut store, Part::Bodies);
    assert!(!dir.path().join("segments/body-0.redb").exists());
    let found = report(&store.reader());
    assert_eq!((found.problems, found.records, found.pruned, found.pruned_bodies), (vec![], 601, 0, SEALED));
    let record = store.reader().get(5).unwrap().unwrap();
    assert_eq!(store.reader().body(&record).unwrap(), Opened::Pruned);
    let record = store.reader().get(550).unwrap().unwrap();
    assert!(matches!(store.reader().body(&record).unwrap(), Opened::Body(_)), "negative control");

    prune(&mut store, Part::Records);
    assert_eq!(std::fs::read_dir(dir.path().join("segments")).unwrap().count(), 0);
    drop(store);
    let mut store = seeded(dir.path());
    store.append(&road(210)).unwrap();
    store.checkpoint().unwrap();
    let reader = store.reader();
    let found = report(&reader);
    assert_eq!(
        (found.problems, found.records, found.pruned, found.pruned_bodies),
        (vec![], 120, SEALED, SEALED)
    );
    let gone = reader.status().unwrap().pruned;
    assert_eq!((gone.records, gone.bodies, gone.records_until), (SEALED, SEALED, Some(at(171))));
    assert_eq!(reader.get(5).unwrap(), None);
    assert_eq!(reader.at(&Position::new("TASKS_acme", 1)).unwrap(), None);
    assert_eq!(reader.task(None, task_id(1)).unwrap(), [], "nothing is left of it");
    let page = reader.query(&Filter { limit: Some(1_000), ..Filter::default() }).unwrap();
    assert_eq!((page.records.len(), page.records[0].leaf.index), (120, SEALED));
    let state = Some(tidegate_schemas::result::State::Completed);
    let page = reader.query(&Filter { state, limit: Some(1_000), ..Filter::default() }).unwrap();
    assert!(page.records.len() == 40 && page.records[0].leaf.index >= SEALED, "{}", page.records.len());

    let november = |now| crate::report::Question {
        tenant: None,
        month: "2026-11".parse().unwrap(),
        within: Default::default(),
        checkpoint: Some(reader.head(&key).unwrap().checkpoint),
        kept: vec![key.open(&early).unwrap()],
        now,
    };
    let month = reader.monthly(&november(at(0)), &mut |_, _| {}).unwrap().record;
    assert_eq!(
        (month.records, month.pruned, month.pruned_unread, month.damaged.count),
        (632, SEALED, SEALED, 0)
    );
    // The hashes of what was pruned are kept: what was signed is still given.
    assert!(month.signed.as_ref().unwrap().proven && month.kept.as_ref().unwrap().proven, "{month:?}");
    let mut forged = november(at(0));
    forged.kept[0].root[0] ^= 1;
    let forged = reader.monthly(&forged, &mut |_, _| {}).unwrap().record;
    assert!(forged.is_forged() && forged.signed.unwrap().proven, "negative control");

    for index in [0, 5, 255, 256, 511, 512, 599] {
        let proof = reader.prove_inclusion(&key, index).unwrap();
        let line = lines[usize::try_from(index).unwrap()].as_bytes();
        assert!(proof.check(&key, line).is_ok(), "{index}: who kept the line still proves it");
        assert!(proof.check(&key, b"{}").is_err(), "negative control");
    }
    let old = key.open(&early).unwrap();
    reader.prove_consistency(&key, &old).unwrap().check(&key, &old).unwrap();
    let (_, accounts) = reader.prove_completeness(&key, &mut |_, _| {}).unwrap();
    assert!(accounts.iter().all(|account| account.is_complete() && account.is_explained()));
    assert_eq!(accounts.iter().map(|account| account.pruned).sum::<u64>(), SEALED);
}

#[test]
fn retain_an_export_without_what_was_pruned_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = seeded(dir.path());
    store.append(&road(200)).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Records);
    let key = keys().signer.public();
    let out = tempfile::tempdir().unwrap();
    for (name, form) in [("lines", Form::Lines), ("tiles", Form::Tiles)] {
        let path = out.path().join(name);
        store.reader().export(&path, form, &key, &mut |_, _| {}).unwrap();
        let verified = || bundle::verify(&path, &key, &Trust::default(), &mut |_, _| {}).unwrap();
        let found = verified();
        assert_eq!(
            (found.report.problems, found.report.records, found.report.pruned),
            (vec![], 89, SEALED),
            "{name}"
        );
        assert!(found.accounts.iter().all(crate::complete::Account::is_complete));
        let list = std::fs::read_to_string(path.join(PRUNED)).unwrap();
        std::fs::write(path.join(PRUNED), list.replace("prune_records", "prune_bodies")).unwrap();
        assert_eq!(
            verified().report.first().unwrap().fault,
            Fault::NotPruned,
            "{name}: what says so was changed"
        );
        std::fs::write(path.join(PRUNED), "[]").unwrap();
        let unexplained = bundle::verify(&path, &key, &Trust::default(), &mut |_, _| {});
        assert!(unexplained.map_or(true, |found| !found.report.is_ok()), "{name}: nothing says so");
    }
}

#[test]
fn retain_nothing_goes_that_is_not_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(200)).unwrap();
    seal(&mut store);
    let other = say(&mut store, Part::Records, 0, 256);
    let bodies = say(&mut store, Part::Bodies, 0, SEALED);
    let sequence = store.next_sequence("EVENTS");
    let olga = act("olga", sequence, &Act::PruneRecords { first: 0, records: SEALED });
    let olga = store.append(&items([olga])).unwrap().first;
    store.checkpoint().unwrap();
    let sequence = store.next_sequence("EVENTS");
    let unsigned = act("recorder", sequence, &Act::PruneRecords { first: 0, records: SEALED });
    let unsigned = store.append(&items([unsigned])).unwrap().first;
    for (name, act) in
        [("another range", other), ("bodies", bodies), ("an operator", olga), ("unsigned", unsigned)]
    {
        let refused = store.prune(Part::Records, 0, act, at(0));
        assert!(matches!(refused, Err(SegmentError::NoAct)), "{name}");
    }
    assert!(matches!(store.prune(Part::Records, 7, unsigned, at(0)), Err(SegmentError::Stale)), "no segment");
    store.checkpoint().unwrap();
    store.prune(Part::Records, 0, unsigned, at(0)).unwrap();
}

#[test]
fn retain_a_segment_that_somebody_removes_is_not_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(200)).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Records);
    drop(store);
    let reader = || Reader::open(dir.path(), None).unwrap();
    assert_eq!(report(&reader()).problems, [], "negative control");
    let db = builder(1 << 20).open(file(dir.path())).unwrap();
    let txn = write(&db).unwrap();
    {
        let mut segments = txn.open_table(table::SEGMENTS).unwrap();
        let row = redb::ReadableTable::get(&segments, 0).unwrap().unwrap().value().to_vec();
        let forged = String::from_utf8(row).unwrap().replace("2026-11-23", "2026-11-24");
        segments.insert(0, forged.as_bytes()).unwrap();
    }
    txn.commit().unwrap();
    drop(db);
    let found = report(&reader());
    assert_eq!(found.first().map(|one| (one.index, one.fault)), Some((Some(0), Fault::NotPruned)));
}

#[test]
fn retain_what_is_due_by_its_newest_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(200)).unwrap();
    seal(&mut store);
    let retention = Retention::default();
    let newest = at(171);
    let due = |store: &Store, days: i64| store.reader().due(&retention, newest + self::days(days)).unwrap();
    let one = |part| vec![Due { part, first: 0, records: SEALED, newest, block: None }];
    assert_eq!(due(&store, 29), []);
    assert_eq!(due(&store, 30), one(Part::Bodies));
    assert_eq!(due(&store, 396), one(Part::Records));
    prune(&mut store, Part::Bodies);
    assert_eq!(due(&store, 395), []);
    assert_eq!(due(&store, 396), one(Part::Records));
    prune(&mut store, Part::Records);
    assert_eq!(due(&store, 3_960), []);
}

/// A record whose first task is open.
fn with_open_task(dir: &Path) -> Store {
    let mut store = store(dir);
    store.append(&items([task(1_000, 1)])).unwrap();
    let rest = (2..=200).flat_map(|n| {
        let (work, result) = (format!("TASKS_acme:{n}"), format!("WORK_LOCAL:{}", n - 1));
        [
            task(n, n),
            crate::fixture::work(n, n - 1, &work),
            crate::fixture::result(n, n - 1, &result, "completed"),
        ]
    });
    store.append(&items(rest)).unwrap();
    seal(&mut store);
    store
}

#[test]
fn retain_an_open_task_keeps_what_is_recorded_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with_open_task(dir.path());
    let act = say(&mut store, Part::Bodies, 0, SEALED);
    let refused = store.prune(Part::Bodies, 0, act, at(0));
    let open = Block::Task { task: task_id(1_000) };
    assert!(matches!(refused, Err(SegmentError::Blocked(block)) if block == open));
    assert_eq!(store.reader().due(&Retention::default(), at(0) + days(90)).unwrap()[0].block, Some(open));
    let ended = crate::fixture::result(1_000, 200, "TASKS_acme:1", "failed");
    store.append(&items([ended])).unwrap();
    store.prune(Part::Bodies, 0, act, at(0)).unwrap();
}

#[test]
fn retain_a_crash_while_it_goes_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(1_000)).unwrap();
    seal(&mut store);
    let records = 2_816;
    let act = say(&mut store, Part::Records, 0, records);
    let bodies = dir.path().join("segments/body-0.redb");
    let kept = std::fs::read(&bodies).unwrap();
    store.prune(Part::Records, 0, act, at(0)).unwrap();
    drop(store);
    // As if the crash had come before the file went.
    std::fs::write(&bodies, kept).unwrap();
    let mut store = crate::fixture::store(dir.path());
    assert!(!bodies.exists());
    assert_eq!(report(&store.reader()).pruned, records);
    assert!(store.tidy().unwrap());
    drop(store);
    let mut store = crate::fixture::store(dir.path());
    assert_eq!(report(&store.reader()).problems, [], "half of it is in no index");
    while store.tidy().unwrap() {}
    assert_eq!(report(&store.reader()).problems, []);
    assert!(!dir.path().join("segments/seg-0.redb").exists());
    assert_eq!(store.reader().status().unwrap().accepted, 1_000, "counts stay");
}
