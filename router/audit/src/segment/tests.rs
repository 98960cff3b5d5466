#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use redb::ReadableDatabase as _;
use tidegate_schemas::ids::Position;

use super::{Part, Sealing, verify};
use crate::checkpoint::Signer;
use crate::error::{OpenError, SegmentError};
use crate::export::Form;
use crate::fixture::{
    at, items, keys, master, result, review, road, seeded, store, task, task_id, verdict, work,
};
use crate::leaf::RecordKind;
use crate::read::{Filter, Reader};
use crate::store::{Store, builder, file, write};
use crate::table;
use crate::verify::{Fault, Level, Trust};

/// Due at once, and as little as can be at a time.
const NOW: Sealing = Sealing { bytes: 1, age: SignedDuration::ZERO };

/// Seals one segment, to its end.
fn seal(store: &mut Store) {
    while store.index().unwrap() {}
    let sealed = store.reader().seal(&NOW, at(0)).unwrap().unwrap();
    store.name(&sealed).unwrap();
    while store.tidy().unwrap() {}
}

/// 1,200 records, of which 1,024 are in two segments, all of them signed.
fn two_segments(dir: &Path) -> Store {
    let mut store = seeded(dir);
    for tasks in [200, 400] {
        store.append(&road(tasks)).unwrap();
        store.checkpoint().unwrap();
        seal(&mut store);
    }
    store
}

/// What a record answers, however it is kept.
#[derive(Debug, PartialEq)]
struct Answers {
    records: Vec<(String, crate::read::Opened)>,
    pages: Vec<Vec<u64>>,
    timeline: Vec<String>,
    proofs: Vec<String>,
    accounts: Vec<crate::complete::Account>,
    exports: BTreeMap<PathBuf, Vec<u8>>,
    tasks: crate::report::Monthly,
}

fn answers(reader: &Reader) -> Answers {
    let key = keys().signer.public();
    let records = reader.status().unwrap().records;
    let read = |index| {
        let record = reader.get(index).unwrap().unwrap();
        let position = record.leaf.position();
        assert_eq!(reader.at(&position).unwrap().as_ref(), Some(&record));
        (record.line.clone(), reader.body(&record).unwrap())
    };
    let filters = [
        Filter::default(),
        Filter { kind: Some(RecordKind::Work), ..Filter::default() },
        Filter { state: Some(tidegate_schemas::result::State::Completed), ..Filter::default() },
        Filter { from: Some(at(100)), to: Some(at(300)), ..Filter::default() },
    ];
    let exported = tempfile::tempdir().unwrap();
    for (name, form) in [("lines", Form::Lines), ("tiles", Form::Tiles)] {
        reader.export(&exported.path().join(name), form, &key, &mut |_, _| {}).unwrap();
    }
    let question = crate::report::Question {
        tenant: None,
        month: "2026-11".parse().unwrap(),
        within: Default::default(),
        checkpoint: None,
        kept: Vec::new(),
        now: at(10_000),
    };
    Answers {
        records: (0..records).map(read).collect(),
        pages: filters.iter().map(|filter| indices(reader, filter)).collect(),
        timeline: reader.task(None, task_id(7)).unwrap()[0]
            .records
            .iter()
            .map(|one| one.line.clone())
            .collect(),
        proofs: [0, 255, 256, 511, 900, records - 1]
            .map(|index| reader.prove_inclusion(&key, index).unwrap().to_string())
            .to_vec(),
        accounts: reader.prove_completeness(&key, &mut |_, _| {}).unwrap().1,
        exports: files(exported.path()),
        tasks: reader.monthly(&question, &mut |_, _| {}).unwrap(),
    }
}

/// Indices of all records of a filter, page by page.
fn indices(reader: &Reader, filter: &Filter) -> Vec<u64> {
    let (mut found, mut filter) = (Vec::new(), Filter { limit: Some(77), ..filter.clone() });
    loop {
        let page = reader.query(&filter).unwrap();
        found.extend(page.records.iter().map(|record| record.leaf.index));
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return found,
        }
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for file in fs::read_dir(next).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn whole(reader: &Reader) {
    let trust = Trust { key: Some(keys().signer.public()), pinned: Vec::new() };
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.records, reader.status().unwrap().records);
    assert_eq!((report.bodies, report.pruned), (report.records, 0));
}

#[test]
fn segment_a_crash_at_any_step_leaves_nothing_missing_or_double() {
    let (plain, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut expected = seeded(plain.path());
    let mut store = seeded(dir.path());
    for store in [&mut expected, &mut store] {
        store.append(&road(400)).unwrap();
        store.checkpoint().unwrap();
    }
    let expected = answers(&expected.reader());
    // Each step ends with a crash: the store is gone, and another one opens what is there.
    let check = |step: &str, store: Store| -> Store {
        drop(store);
        let store = crate::fixture::seeded(dir.path());
        whole(&store.reader());
        assert_eq!(answers(&store.reader()), expected, "{step}");
        assert_eq!(
            answers(&Reader::open(dir.path(), Some(master())).unwrap()),
            expected,
            "{step}: beside it"
        );
        let partial = fs::read_dir(dir.path().join("segments")).map(|files| {
            files.filter(|file| file.as_ref().unwrap().path().extension().unwrap() == "partial").count()
        });
        assert_eq!(partial.unwrap_or_default(), 0, "{step}: half-made files are removed");
        store
    };
    store = check("nothing", store);
    fs::create_dir(dir.path().join("segments")).unwrap();
    fs::write(dir.path().join("segments/seg-0.partial"), b"half").unwrap();
    store = check("half a file", store);
    let sealed = store.reader().seal(&NOW, at(0)).unwrap().unwrap();
    assert_eq!(sealed.range(), 0..1_024);
    store = check("files that no one names", store);
    let again = store.reader().seal(&NOW, at(0)).unwrap().unwrap();
    assert_eq!(again, sealed, "they are made again");
    store.name(&again).unwrap();
    assert!(matches!(store.name(&again), Err(SegmentError::Stale)), "once");
    store = check("named", store);
    let mut steps = 0;
    while store.tidy().unwrap() {
        steps += 1;
        store = check("rows go", store);
    }
    assert_eq!(steps, 1);
    assert_eq!(store.reader().seal(&NOW, at(0)).unwrap(), None, "the rest is no whole tile");
    let live = |dir: &Path| builder(1 << 20).open_read_only(file(dir)).unwrap().begin_read().unwrap();
    let rec = live(dir.path()).open_table(table::REC).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&rec).unwrap(), 176, "of 1,200");
}

#[test]
fn segment_rows_that_go_in_steps_are_read_in_one_place_each() {
    let (plain, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut expected = seeded(plain.path());
    let mut store = seeded(dir.path());
    for store in [&mut expected, &mut store] {
        store.append(&road(1_000)).unwrap();
        store.checkpoint().unwrap();
    }
    let sealing = Sealing { bytes: u64::MAX, age: SignedDuration::ZERO };
    let sealed = store.reader().seal(&sealing, at(10_000)).unwrap().unwrap();
    assert_eq!(sealed.range(), 0..2_816);
    store.name(&sealed).unwrap();
    assert!(store.tidy().unwrap());
    let reader = Reader::open(dir.path(), Some(master())).unwrap();
    assert_eq!(reader.begin().unwrap().live_first(), 2_048, "half way");
    whole(&reader);
    assert_eq!(indices(&reader, &Filter::default()), (0..3_000).collect::<Vec<_>>());
    let lines = |reader: &Reader| reader.tail(2_000, 200).unwrap();
    assert_eq!(lines(&reader), lines(&expected.reader()));
    while store.tidy().unwrap() {}
    whole(&reader);
    assert_eq!(lines(&reader), lines(&expected.reader()));
}

#[test]
fn segment_is_due_by_size_or_by_age_and_only_what_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(300)).unwrap();
    while store.index().unwrap() {}
    let reader = store.reader();
    assert_eq!(reader.seal(&NOW, at(0)).unwrap(), None, "nothing is signed");
    store.checkpoint().unwrap();
    let by = |bytes, seconds| Sealing { bytes, age: SignedDuration::from_secs(seconds) };
    assert_eq!(reader.seal(&by(1 << 30, 100), at(50)).unwrap(), None, "small and young");
    assert!(reader.seal(&by(1 << 30, 100), at(101)).unwrap().is_some(), "a day has passed");
    assert!(reader.seal(&by(100_000, 100), at(50)).unwrap().is_some(), "many bytes");
}

/// Its name, what somebody does to the files, and the faults with their index.
type Case = (&'static str, fn(&Path), Vec<(Option<u64>, Fault)>);

fn change(dir: &Path, part: Part, first: u64, with: impl FnOnce(&redb::WriteTransaction)) {
    let db = builder(1 << 20).open(dir.join("segments").join(part.file(first))).unwrap();
    let txn = write(&db).unwrap();
    with(&txn);
    txn.commit().unwrap();
}

fn flip(txn: &redb::WriteTransaction, definition: redb::TableDefinition<'_, u64, &'static [u8]>, index: u64) {
    let mut table = txn.open_table(definition).unwrap();
    let mut row = redb::ReadableTable::get(&table, index).unwrap().unwrap().value().to_vec();
    // The version's digit of a leaf's id, so that it stays a leaf.
    row[59] ^= 1;
    table.insert(index, row.as_slice()).unwrap();
}

#[test]
fn segment_files_that_are_not_what_was_sealed_are_named() {
    let cases: [Case; 8] = [
        ("negative control: nothing", |_| {}, vec![]),
        (
            "a leaf",
            |dir| change(dir, Part::Records, 0, |txn| flip(txn, table::REC, 41)),
            vec![(Some(41), Fault::LeafHash)],
        ),
        (
            "a body",
            |dir| change(dir, Part::Bodies, 512, |txn| flip(txn, table::BODY, 700)),
            vec![(Some(700), Fault::BodyChanged)],
        ),
        (
            "a record gone",
            |dir| {
                change(dir, Part::Records, 512, |txn| {
                    drop(txn.open_table(table::REC).unwrap().remove(600).unwrap())
                })
            },
            vec![(Some(600), Fault::Missing)],
        ),
        (
            "a file gone",
            |dir| fs::remove_file(dir.join("segments/seg-512.redb")).unwrap(),
            vec![(Some(512), Fault::SegmentMissing)],
        ),
        (
            "a file of bodies gone",
            |dir| fs::remove_file(dir.join("segments/body-0.redb")).unwrap(),
            vec![(Some(0), Fault::SegmentMissing)],
        ),
        (
            "a file cut short",
            |dir| {
                let file = fs::OpenOptions::new().write(true).open(dir.join("segments/seg-0.redb")).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            },
            vec![(Some(0), Fault::SegmentUnreadable)],
        ),
        (
            "a file of other bytes",
            |dir| fs::write(dir.join("segments/seg-0.redb"), vec![7; 100_000]).unwrap(),
            vec![(Some(0), Fault::SegmentUnreadable)],
        ),
    ];
    for (name, tamper, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        drop(two_segments(dir.path()));
        tamper(dir.path());
        let reader = Reader::open(dir.path(), None).unwrap();
        let trust = Trust { key: Some(keys().signer.public()), pinned: Vec::new() };
        let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
        let mut found: Vec<_> = report.problems.iter().map(|one| (one.index, one.fault)).collect();
        // What follows from a leaf that is another: nothing that is signed can fit.
        found.retain(|(_, fault)| !matches!(fault, Fault::Signed | Fault::Tile));
        assert_eq!(found, expected, "{name}: {:?}", report.problems);
    }
}

#[test]
fn segment_files_that_change_places_are_found() {
    let dir = tempfile::tempdir().unwrap();
    drop(two_segments(dir.path()));
    let path = |name: &str| dir.path().join("segments").join(name);
    fs::rename(path("seg-0.redb"), path("kept")).unwrap();
    fs::rename(path("seg-512.redb"), path("seg-0.redb")).unwrap();
    fs::rename(path("kept"), path("seg-512.redb")).unwrap();
    let report = Reader::open(dir.path(), None).unwrap().verify(Level::Full, &mut |_, _| {}).unwrap();
    let first = report.first().unwrap();
    assert_eq!((first.index, first.fault), (Some(0), Fault::SegmentHead));
    let missing =
        report.problems.iter().filter(|one| one.fault == Fault::Missing).count() as u64 + report.more;
    assert!(missing >= 1_000, "no record stands where it belongs: {missing}");
}

#[test]
fn segment_verifies_alone_with_the_public_key() {
    let dir = tempfile::tempdir().unwrap();
    drop(two_segments(dir.path()));
    let path = dir.path().join("segments/seg-512.redb");
    let key = keys().signer.public();
    let alone = |key| verify(&path, key, &mut |_, _| {}).unwrap();
    let found = alone(&key);
    assert_eq!((found.range, found.report.problems), (512..1_024, vec![]));
    assert_eq!((found.report.records, found.report.bodies), (512, 512));
    assert_eq!(found.checkpoint.unwrap().size, 1_200);
    let other = Signer::from_bytes(&[9; 32], "tidegate/test").public();
    assert_eq!(alone(&other).report.problems[0].fault, Fault::Signed, "a key of somebody else");
    change(dir.path(), Part::Records, 512, |txn| flip(txn, table::REC, 700));
    let faults: Vec<_> = alone(&key).report.problems.iter().map(|one| (one.index, one.fault)).collect();
    assert_eq!(faults, [(Some(700), Fault::LeafHash), (Some(700), Fault::Tile)]);
    assert!(verify(&dir.path().join("seg-0.redb"), &key, &mut |_, _| {}).is_err(), "no segment");
}

#[test]
fn segment_whose_end_was_raised_is_told_and_not_searched_for_years() {
    let dir = tempfile::tempdir().unwrap();
    drop(two_segments(dir.path()));
    let path = dir.path().join("segments/seg-512.redb");
    let key = keys().signer.public();
    let faults = || -> Vec<_> {
        let found = verify(&path, &key, &mut |_, _| {}).unwrap().report;
        found.problems.into_iter().map(|one| (one.index, one.position, one.fault)).collect()
    };
    assert_eq!(faults(), [], "negative control");
    let raise = |end: u64| {
        change(dir.path(), Part::Records, 512, |txn| {
            let mut head = txn.open_table(super::HEAD).unwrap();
            head.insert(super::END, end.to_be_bytes().as_slice()).unwrap();
        });
    };
    let end = 1_024 | 1 << 61;
    raise(end);
    let missing = (Some(1_024), Some(format!("records 1024 to {}", end - 1)), Fault::Missing);
    let signed = (None, Some(format!("records 512 to {}", end - 1)), Fault::Signed);
    assert_eq!(faults(), [missing, signed]);
    raise(1_024);
    assert_eq!(faults(), []);
}

#[test]
fn segment_that_cannot_be_made_leaves_no_half_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(400)).unwrap();
    store.checkpoint().unwrap();
    while store.index().unwrap() {}
    drop(store);
    let spoil = || {
        let db = builder(1 << 20).open(file(dir.path())).unwrap();
        let txn = write(&db).unwrap();
        flip(&txn, table::REC, 700);
        txn.commit().unwrap();
    };
    spoil();
    let refused = Reader::open(dir.path(), None).unwrap().seal(&NOW, at(0));
    assert!(matches!(refused, Err(SegmentError::Damaged { index: 700 })), "{refused:?}");
    assert_eq!(files(&dir.path().join("segments")).len(), 0, "a disk that is full would stay full by it");
    spoil();
    let store = crate::fixture::store(dir.path());
    assert!(store.reader().seal(&NOW, at(0)).unwrap().is_some(), "negative control");
}

#[test]
fn segment_is_not_begun_where_there_is_no_room_for_it() {
    use super::make::{has_room, room};
    let sealing = Sealing { bytes: 256, age: SignedDuration::ZERO };
    // Twice what moves: all that there is, or about as much as makes a segment.
    for (live_bytes, needed) in [(0, 0), (100, 200), (256, 512), (u64::MAX, 512)] {
        assert_eq!(room(&sealing, live_bytes), needed);
        assert!(has_room(needed, needed).is_ok(), "negative control");
        if needed > 0 {
            let refused = has_room(needed - 1, needed).unwrap_err();
            let SegmentError::NoRoom { free, needed: said } = refused else { panic!("{refused}") };
            assert_eq!((free, said), (needed - 1, needed));
        }
    }
    let all = Sealing { bytes: u64::MAX, age: SignedDuration::ZERO };
    assert_eq!(room(&all, u64::MAX), u64::MAX);
}

#[test]
fn segment_takes_old_checkpoints_along_and_every_proof_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    store.append(&road(2_000)).unwrap();
    let key = keys().signer.public();
    sign_each(&store, 5_999);
    store.checkpoint().unwrap();
    let notes = |store: &Store| {
        let db = store.open_file().begin_read().unwrap();
        redb::ReadableTableMetadata::len(&db.open_table(table::CHECKPOINTS).unwrap()).unwrap()
    };
    assert_eq!(notes(&store), 6_000, "negative control");
    let early = key.open(&keys().signer.sign(1, 3_000, root(&store, 3_000))).unwrap();
    let check = |store: &Store, name: &str| {
        let reader = store.reader();
        let trust = Trust { key: Some(key.clone()), pinned: vec![early.clone()] };
        let found = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
        assert_eq!(found.problems, [], "{name}");
        reader.prove_consistency(&key, &early).unwrap().check(&key, &early).unwrap();
        let export = dir.path().join(name);
        reader.export(&export, Form::Lines, &key, &mut |_, _| {}).unwrap();
        let bundle = crate::bundle::verify(&export, &key, &trust, &mut |_, _| {}).unwrap();
        assert_eq!(bundle.report.problems, [], "{name}");
        // The newest 1,024, one of the 4,096 before them, the first, and the newest, which stands alone as well.
        assert_eq!(bundle.report.checkpoints, 1_024 + 2, "{name}");
        found.checkpoints
    };
    assert_eq!(check(&store, "before"), 6_000);
    seal(&mut store);
    assert_eq!(notes(&store), 1_024 + 2);
    assert_eq!(check(&store, "after"), 1_024 + 2);
    let backup = dir.path().join("backup");
    store.reader().backup(&backup, Some(&key), at(0), &mut |_, _| {}).unwrap();
    crate::copy::restore(&backup, Some(&dir.path().join("restored")), Some(&key), &mut |_, _| {}).unwrap();
    assert_eq!(check(&crate::fixture::store(&dir.path().join("restored")), "again"), 1_024 + 2);
}

/// Signs each of the first heads of a record, as one that grew slowly would.
fn sign_each(store: &Store, upto: u64) {
    let txn = write(store.open_file()).unwrap();
    {
        let mut notes = txn.open_table(table::CHECKPOINTS).unwrap();
        for size in 1..=upto {
            let note = keys().signer.sign(1, size, root(store, size));
            notes.insert((1, size), note.as_bytes()).unwrap();
        }
    }
    txn.commit().unwrap();
}

fn root(store: &Store, size: u64) -> crate::merkle::Hash {
    let txn = store.open_file().begin_read().unwrap();
    let stored = crate::store::tree::Stored::open(&txn).unwrap();
    crate::merkle::proof::root(&stored, size).unwrap()
}

#[test]
fn segment_a_reader_says_which_file_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    drop(two_segments(dir.path()));
    fs::remove_file(dir.path().join("segments/seg-512.redb")).unwrap();
    let reader = Reader::open(dir.path(), None).unwrap();
    assert!(reader.get(3).unwrap().is_some() && reader.get(1_100).unwrap().is_some(), "negative control");
    let error = reader.get(600).unwrap_err().to_string();
    assert!(error.contains("`seg-512.redb` is missing"), "{error}");
}

#[test]
fn segment_what_is_recorded_later_finds_what_it_names_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&items([task(1, 1), review(1, 1, "TASKS_acme:1")])).unwrap();
    let fill = (2..=200).flat_map(|n| {
        [
            task(n, n),
            work(n, n - 1, &format!("TASKS_acme:{n}")),
            result(n, n - 1, &format!("WORK_LOCAL:{}", n - 1), "completed"),
        ]
    });
    store.append(&items(fill)).unwrap();
    store.checkpoint().unwrap();
    seal(&mut store);
    store.append(&items([verdict(2, "EVENTS:1")])).unwrap();
    let leaf = store.reader().at(&Position::new("EVENTS", 2)).unwrap().unwrap().leaf;
    assert_eq!(leaf.task, Some(task_id(1)), "its review is in a segment, and says whose it is");
    assert_eq!(leaf.flags, []);
    assert_eq!(store.reader().verify(Level::Full, &mut |_, _| {}).unwrap().problems, []);
}

#[test]
fn segment_the_live_file_stops_growing() {
    let (plain, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut grows, mut stops) = (store(plain.path()), store(dir.path()));
    let rounds = 12;
    for round in 1..=rounds {
        for store in [&mut grows, &mut stops] {
            store.append(&road(round * 200)).unwrap();
            store.checkpoint().unwrap();
        }
        seal(&mut stops);
    }
    let bytes = |dir: &Path| fs::metadata(file(dir)).unwrap().len();
    let (grown, stopped) = (bytes(plain.path()), bytes(dir.path()));
    assert!(stopped * 2 < grown, "{stopped} of {grown} bytes");
    whole(&stops.reader());
}

/// Makes of a record one of the form before.
fn older(dir: &Path, form: u64) {
    let db = builder(1 << 20).open(file(dir)).unwrap();
    let txn = write(&db).unwrap();
    txn.delete_table(table::SEGMENTS).unwrap();
    txn.delete_table(table::PRUNED).unwrap();
    txn.delete_table(table::HOLDS).unwrap();
    {
        let mut meta = txn.open_table(table::META).unwrap();
        meta.insert(table::META_FORM, form).unwrap();
        meta.remove(table::META_LIVE_BYTES).unwrap();
    }
    txn.commit().unwrap();
}

#[test]
fn segment_an_older_record_is_carried_over_and_a_newer_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let mut store = store(dir.path());
        store.append(&road(400)).unwrap();
        store.checkpoint().unwrap();
        answers(&store.reader())
    };
    older(dir.path(), 2);
    let reader = Reader::open(dir.path(), Some(master())).unwrap();
    assert_eq!(answers(&reader), expected, "read as it is");
    assert_eq!(reader.begin().unwrap().open_table(table::SEGMENTS).map(drop).ok(), None, "negative control");
    drop(reader);
    let mut store = store(dir.path());
    assert!(
        store.reader().seal(&Sealing { bytes: 100_000, age: SignedDuration::MAX }, at(0)).unwrap().is_some()
    );
    seal(&mut store);
    assert_eq!(answers(&store.reader()), expected);
    drop(store);
    for form in [1, 4] {
        older(dir.path(), form);
        let refused = |error: Option<OpenError>| matches!(error, Some(OpenError::Version { found, known: 3 }) if found == form);
        assert!(refused(Reader::open(dir.path(), None).err()), "form {form}");
        assert!(refused(Store::open(dir.path(), keys(), &crate::fixture::small()).err()), "form {form}");
    }
}

#[test]
fn segment_bytes_of_a_file_never_pass_for_what_was_sealed() {
    /// Places in each file that are tried.
    const STRATA: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    drop(two_segments(dir.path()));
    let trust = Trust { key: Some(keys().signer.public()), pinned: Vec::new() };
    let reader = || Reader::open(dir.path(), Some(master())).unwrap();
    let read = || -> Vec<_> {
        let reader = reader();
        let records = reader.tail(512, 512).unwrap();
        records.into_iter().map(|record| (reader.body(&record).unwrap(), record.line)).collect()
    };
    let before = read();
    let mut found = 0;
    for part in [Part::Records, Part::Bodies] {
        let path = dir.path().join("segments").join(part.file(512));
        let sound = fs::read(&path).unwrap();
        for stratum in 0..STRATA {
            let width = sound.len() / STRATA;
            let at = stratum * width + stratum * 7_919 % width;
            let mut bad = sound.clone();
            bad[at] ^= 1 << (stratum % 8);
            fs::write(&path, &bad).unwrap();
            let report = reader().verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
            match report.first() {
                None => assert_eq!(read(), before, "{part:?}, byte {at}: whole, and another record"),
                Some(first) => {
                    let index = first.index.unwrap();
                    assert!(
                        (512..1_024).contains(&index),
                        "{part:?}, byte {at}: {index} is not of this file"
                    );
                    let unreadable = report.problems.iter().find(|one| one.fault == Fault::SegmentUnreadable);
                    let named = unreadable.and_then(|one| one.position.clone());
                    assert!(
                        named.is_none_or(|file| file == part.file(512)),
                        "{part:?}, byte {at}: another file"
                    );
                    found += 1;
                }
            }
        }
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(
        reader().verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap().problems,
        [],
        "negative control"
    );
    assert!(found > STRATA / 10, "{found} places are of what is used");
}
