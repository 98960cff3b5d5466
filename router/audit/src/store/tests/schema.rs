//! The schema over releases: a record that was written by one opens in the next; what is no record of ours is refused with
//! what to do.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::Signer;
use crate::copy::tests::segments::{HELD, erase_person, hold, prune, seal};
use crate::entry::{Gap, GapReason, Item};
use crate::error::OpenError;
use crate::fixture::{
    at, items, keys, labelled, master, result, review, road, seeded, small, store, task, task_id, task_of,
    work,
};
use crate::keys::MasterKey;
use crate::read::{Filter, Opened, Reader};
use crate::segment::Part;
use crate::store::{Store, builder, file, write};
use crate::table;
use crate::verify::{Level, Trust};
use tidegate_schemas::control::HoldTarget;
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::State;

/// Set, this form's fixture is written anew: `TIDEGATE_WRITE_FIXTURE=1` with the test `schema_a_record_of_each_release_opens`.
const WRITE: &str = "TIDEGATE_WRITE_FIXTURE";
/// A checkpoint of the fixture that is kept outside it.
const PINNED: &str = "checkpoint.pinned";
/// What a fixture holds, by its form: tasks of the road, and records after those of the oldest form's sort.
const HOLDS: [(u64, u64, u64); 2] = [(2, 8, 0), (3, 90, 5)];

/// A record of form 3 whose decisions name labels in their bundle's words, and what they name.
const LABELLED: &str = "form-3-labels";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Writes the fixture: what each kind of message and each table has.
fn write_fixture(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    let mut store = seeded(dir);
    let (_, tasks, _) = HOLDS[HOLDS.len() - 1];
    store.append(&road(tasks)).unwrap();
    fs::write(dir.join(PINNED), store.checkpoint().unwrap()).unwrap();
    let gap = Gap { stream: "EVENTS".to_owned(), from: 1, to: 3, reason: GapReason::Trimmed, time: at(9) };
    store.append(&[Item::Gap(gap)]).unwrap();
    let (one, two, n) = (format!("TASKS_acme:{}", tasks + 1), format!("TASKS_acme:{}", tasks + 2), tasks);
    let open = [task(n + 1, n + 1), work(n + 1, n + 1, &one), task(n + 2, n + 2), review(n + 2, 4, &two)];
    store.append(&items(open)).unwrap();
    let odd =
        [result(3, n + 1, "WORK_LOCAL:3", "failed"), work(n + 3, n + 2, "TASKS_acme:999"), task(8, n + 3)];
    store.append(&items(odd)).unwrap();
    store.append(&items([task(n + 4, n + 4)])).unwrap();
    // Two records of somebody who is erased, the act, a hold, and the act that prunes bodies.
    let ended = result(1_000, n + 2, &format!("TASKS_acme:{}", n + 5), "failed");
    store.append(&items([task_of(1_000, n + 5, &["customer-2"]), ended])).unwrap();
    hold(&mut store, HELD, HoldTarget::Tenant { tenant: Name::new("globex").unwrap() });
    erase_person(&mut store);
    seal(&mut store);
    prune(&mut store, Part::Bodies, 0).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    // What moved into the segment left its room.
    builder(1024 * 1024).open(file(dir)).unwrap().compact().unwrap();
}

#[test]
fn schema_a_record_of_each_release_opens() {
    if std::env::var_os(WRITE).is_some() {
        write_fixture(&fixtures().join(format!("form-{}", table::FORM)));
    }
    let mut forms = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let from = entry.unwrap().path();
        if !from.is_dir() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        let bytes = copy(&from, &record);
        assert!(bytes < 1_500_000, "{bytes} bytes: a fixture is small");
        let form = from.file_name().unwrap().to_string_lossy().into_owned();
        if form == LABELLED {
            continue;
        }
        let (of, tasks, more) = HOLDS.into_iter().find(|(of, ..)| form == format!("form-{of}")).unwrap();
        opens(&record, &fs::read_to_string(from.join(PINNED)).unwrap(), tasks, more);
        if of > 2 {
            keeps(&record);
        }
        forms += 1;
    }
    let known = usize::try_from(table::FORM - table::FORM_OLDEST + 1).unwrap();
    assert_eq!(forms, known, "each form that opens has a fixture: see `{WRITE}`");
}

/// Copies a fixture. Returns its bytes.
fn copy(from: &Path, to: &Path) -> u64 {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, to).unwrap() }
        })
        .sum()
}

/// Segments, holds and erasures are there.
fn keeps(record: &Path) {
    let reader = Reader::open(record, Some(master())).unwrap();
    assert_eq!(reader.begin().unwrap().segments().unwrap().len(), 1);
    assert_eq!(reader.legal_holds().unwrap()[0].id, HELD);
    assert!(reader.erasures().unwrap()[0].state.has_ended());
    let opened = |index| reader.body(&reader.get(index).unwrap().unwrap()).unwrap();
    assert_eq!(opened(5), Opened::Pruned);
    let erased = reader.tail(256, 1_000).unwrap();
    let mut erased = erased.iter().filter(|one| one.leaf.task == Some(task_id(1_000)));
    assert!(erased.any(|one| matches!(opened(one.leaf.index), Opened::Erased { .. })));
    assert_eq!(reader.status().unwrap().pruned.bodies, 256);
    let all = reader.tail(0, 1_000).unwrap();
    let erased = reader.erased_among(&all).unwrap();
    assert_eq!((reader.pruned_among(&all).unwrap(), reader.pruned_among(&all[256..]).unwrap()), (256, 0));
    assert!(!erased.is_empty() && erased.keys().all(|index| matches!(opened(*index), Opened::Erased { .. })));
}

/// The record verifies against what was pinned, answers, and goes on. It holds a road of `tasks`, and `more` records.
fn opens(record: &Path, pinned: &str, tasks: u64, more: u64) {
    let records = 3 * tasks + 9 + more;
    let ended = tasks + u64::from(more > 0);
    let key = keys().signer.public();
    let trust = Trust { key: Some(key.clone()), pinned: vec![key.open(pinned).unwrap()] };
    let reader = Reader::open(record, Some(master())).unwrap();
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.records, report.anomalies, report.signed), (records, 2, Some(records)));
    let status = reader.status().unwrap();
    assert_eq!((status.accepted, status.ended, status.open), (ended + 3, ended, 3));
    let found =
        |filter: Filter| reader.query(&Filter { limit: Some(1_000), ..filter }).unwrap().records.len() as u64;
    assert_eq!(found(Filter { anomalies: true, ..Filter::default() }), 2);
    assert_eq!(found(Filter { state: Some(State::Completed), ..Filter::default() }), tasks);
    let acme = Some(Name::new("acme").unwrap());
    assert_eq!(found(Filter { tenant: acme, ..Filter::default() }), 3 * tasks + 8 + more.min(2));
    let flow = Identifier::new("flow-1").unwrap();
    assert!(reader.workflow(None, &flow).unwrap().tasks.len() >= 8);
    assert_eq!(reader.task(None, task_id(2)).unwrap()[0].records.len(), 3);
    for record in reader.tail(0, 1_000).unwrap() {
        assert!(!matches!(reader.body(&record).unwrap(), Opened::Lost | Opened::Sealed));
    }
    let (_, accounts) = reader.prove_completeness(&key, &mut |_, _| {}).unwrap();
    assert!(accounts.iter().all(|account| account.is_complete()));
    // What these releases called trimmed has no explanation on record.
    let unexplained: Vec<_> =
        accounts.iter().filter(|one| !one.is_explained()).map(|one| one.gaps[0].reason).collect();
    assert_eq!(unexplained, [GapReason::Trimmed]);
    drop(reader);
    let mut store = store(record);
    let next = store.next_sequence("TASKS_acme");
    assert_eq!(store.append(&items([task(2_000, next)])).unwrap().first, records);
    store.checkpoint().unwrap();
    drop(store);
    let reader = Reader::open(record, None).unwrap();
    assert!(reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap().is_ok(), "it goes on");
}

/// What is to be done with a file that is none of a record, or not whole.
const RESTORE: &str = "keep it as it is and restore a copy";

/// How a record is changed, what is said of it to who writes and to who reads, and what to do stands in it.
type Case = (&'static str, fn(&Path), fn(&OpenError) -> bool, Option<fn(&OpenError) -> bool>, &'static str);

fn form(record: &Path, form: u64) {
    let db = builder(1024 * 1024).open(file(record)).unwrap();
    let txn = write(&db).unwrap();
    txn.open_table(table::META).unwrap().insert(table::META_FORM, form).unwrap();
    txn.commit().unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0xFF;
    fs::write(path, bytes).unwrap();
}

fn is_corrupt(error: &OpenError) -> bool {
    matches!(error, OpenError::Corrupt { .. })
}

#[test]
fn schema_what_is_no_record_of_ours_is_refused_with_what_to_do() {
    let cases: [Case; 10] = [
        (
            "a newer form",
            |record| form(record, table::FORM + 1),
            |error| matches!(error, OpenError::Version { .. }),
            Some(|error| matches!(error, OpenError::Version { .. })),
            "use the program that wrote it",
        ),
        (
            "a foreign file",
            |record| fs::write(file(record), "a letter".repeat(1_000)).unwrap(),
            is_corrupt,
            Some(is_corrupt),
            RESTORE,
        ),
        ("a damaged head", |record| flip(&file(record), 3), is_corrupt, Some(is_corrupt), RESTORE),
        (
            "an empty file",
            |record| fs::write(file(record), "").unwrap(),
            // Who writes finds that it lacks what was signed.
            |error| matches!(error, OpenError::Fork { records: 0, .. }),
            Some(is_corrupt),
            "restore",
        ),
        (
            "cut short",
            |record| {
                let bytes = fs::read(file(record)).unwrap();
                fs::write(file(record), &bytes[..bytes.len() / 3]).unwrap();
            },
            is_corrupt,
            Some(is_corrupt),
            RESTORE,
        ),
        (
            "a key file that does not open",
            |record| flip(&record.join("keys.bin"), 20),
            |error| matches!(error, OpenError::WrongKey),
            Some(|error| matches!(error, OpenError::WrongKey)),
            "name the key file",
        ),
        (
            "no key file",
            |record| fs::remove_file(record.join("keys.bin")).unwrap(),
            |error| matches!(error, OpenError::KeyFile { .. }),
            Some(|error| matches!(error, OpenError::KeyFile { .. })),
            "does not fit the record",
        ),
        (
            "a forged checkpoint",
            |record| {
                let forger = Signer::from_bytes(&[6; 32], "tidegate/test");
                fs::write(record.join("checkpoints"), forger.sign(1, 6, [0; 32]) + "\n").unwrap();
            },
            |error| matches!(error, OpenError::Checkpoint { .. }),
            None,
            "restore the file or the key",
        ),
        (
            "a checkpoint file of something else",
            |record| fs::write(record.join("checkpoints"), "a letter\n\n").unwrap(),
            |error| matches!(error, OpenError::CheckpointFile { .. }),
            None,
            "move it away",
        ),
        (
            "an older copy",
            |record| {
                let signer = keys().signer;
                fs::write(record.join("checkpoints"), signer.sign(1, 700, [0; 32]) + "\n").unwrap();
            },
            |error| matches!(error, OpenError::Fork { .. }),
            None,
            "accept-break",
        ),
    ];
    for (name, change, writes, reads, hint) in cases {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        let mut first = store(&record);
        first.append(&road(2)).unwrap();
        first.checkpoint().unwrap();
        drop(first);
        drop(store(&record));
        change(&record);
        let before = fs::read(file(&record)).unwrap();
        let error = Reader::open(&record, Some(master())).err();
        match reads {
            Some(expected) => {
                let error = error.unwrap();
                assert!(expected(&error) && error.to_string().contains(hint), "{name}, to read: {error}");
            }
            None => assert!(error.is_none(), "{name}: it can be read, {error:?}"),
        }
        let error = Store::open(&record, keys(), &small()).err().unwrap();
        assert!(writes(&error), "{name}: {error:?}");
        assert!(error.to_string().contains(hint), "{name}: {error}");
        if !["cut short", "an empty file"].contains(&name) {
            assert!(fs::read(file(&record)).unwrap().len() == before.len(), "{name}: it is left as it is");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let held = store(dir.path());
    let second = Store::open(dir.path(), keys(), &small()).err().unwrap();
    assert!(second.to_string().contains("stop it first"), "{second}");
    drop(held);
    let other = crate::store::Keys { master: MasterKey::from_bytes([8; 32]), ..keys() };
    let wrong = Store::open(dir.path(), other, &small()).err().unwrap();
    assert!(wrong.to_string().contains("name the key file that it was made with"), "{wrong}");
}

/// A file that lost its end is told as that, wherever it ends, by whoever opens it or by whoever reads on.
#[test]
fn schema_a_file_that_was_cut_is_told_as_cut_wherever_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = store(dir.path());
    record.append(&road(150)).unwrap();
    drop(record);
    let whole = fs::read(file(dir.path())).unwrap();
    for eighths in [1, 3, 5, 7] {
        fs::write(file(dir.path()), &whole[..whole.len() * eighths / 8]).unwrap();
        let reader = match Reader::open(dir.path(), Some(master())) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(error.to_string().contains(RESTORE), "{eighths}: {error}");
                continue;
            }
        };
        let error = reader.verify(Level::Full, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("cut short, restore a copy"), "{eighths}: {error}");
    }
    fs::write(file(dir.path()), &whole).unwrap();
    let reader = Reader::open(dir.path(), Some(master())).unwrap();
    assert!(reader.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok(), "negative control");
}

/// A key file that is older than the record, though it is long enough, since keys are made ahead: what would be sealed with it
/// could be opened by neither file later.
#[test]
fn schema_an_older_key_file_is_refused_though_it_is_long_enough() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.bin");
    let person = |n: u64| items([task_of(n, n, &[&format!("customer-{n}")])]);
    let mut record = store(dir.path());
    record.append(&(1..=9).flat_map(person).collect::<Vec<_>>()).unwrap();
    drop(record);
    let older = fs::read(&path).unwrap();
    // Keys that were ahead are made anew by the next recorder.
    let mut record = store(dir.path());
    record.append(&(10..=12).flat_map(person).collect::<Vec<_>>()).unwrap();
    drop(record);
    let newer = fs::read(&path).unwrap();
    assert!(older.len() >= 16 + 72 * 14 && older != newer, "control: its length says nothing");
    fs::write(&path, &older).unwrap();
    let error = Store::open(dir.path(), keys(), &small()).err().unwrap();
    assert!(matches!(error, OpenError::KeyFile { .. }), "{error:?}");
    assert!(error.to_string().contains("an older copy; put back the file"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), older, "it is left as it is");

    fs::write(&path, &newer).unwrap();
    let mut record = store(dir.path());
    record.append(&person(13)).unwrap();
    let reader = record.reader();
    for index in 0..13 {
        let one = reader.get(index).unwrap().unwrap();
        assert!(matches!(reader.body(&one).unwrap(), Opened::Body(_)), "negative control: {index}");
    }
}

/// What a later release adds to a leaf leaves those of an earlier one as they are, to the byte, and finds nothing in them.
#[test]
fn schema_leaves_of_each_release_keep_their_bytes() {
    for (form, ..) in HOLDS {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        copy(&fixtures().join(format!("form-{form}")), &record);
        let reader = Reader::open(&record, Some(master())).unwrap();
        let all = reader.tail(0, 1_000).unwrap();
        let decided: Vec<_> = all.iter().filter_map(|one| one.leaf.decision.as_ref()).collect();
        assert!(decided.len() > 7 && decided.iter().all(|decision| decision.labels.is_empty()));
        for one in &all {
            assert_eq!(serde_json::to_string(&one.leaf).unwrap(), one.line, "form {form}");
        }
        let unknown = Filter { category: Some(Name::new("unknown").unwrap()), ..Filter::default() };
        assert_eq!(reader.query(&unknown).unwrap().records, []);
        let internal = Filter { sensitivity: Some(Sensitivity::Internal), ..Filter::default() };
        assert!(reader.query(&internal).unwrap().records.len() > 7, "negative control");
    }
}

/// Writes the fixture whose decisions name labels: all kinds of them, `unknown` among them, and one decision without any.
fn write_labelled(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    let mut store = seeded(dir);
    let all = json!({ "categories": ["health", "personal", "unknown"], "regulations": ["gdpr"], "residency": ["eu"],
        "consent": ["support"], "purpose": "support" });
    let some = json!({ "categories": ["personal"] });
    for (n, known) in (1..).zip([Some(all), Some(some), None]) {
        let cause = format!("TASKS_acme:{n}");
        let work = known.map_or_else(|| work(n, n, &cause), |known| labelled(n, n, &cause, known));
        let ended = result(n, n, &format!("WORK_LOCAL:{n}"), "completed");
        store.append(&items([task(n, n), work, ended])).unwrap();
    }
    fs::write(dir.join(PINNED), store.checkpoint().unwrap()).unwrap();
    while store.index().unwrap() {}
    drop(store);
    builder(1024 * 1024).open(file(dir)).unwrap().compact().unwrap();
}

#[test]
fn schema_labels_of_this_release_keep_their_bytes_and_are_found() {
    let from = fixtures().join(LABELLED);
    if std::env::var_os(WRITE).is_some() {
        write_labelled(&from);
    }
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    assert!(copy(&from, &record) < 500_000, "a fixture is small");
    let reader = Reader::open(&record, Some(master())).unwrap();
    let key = keys().signer.public();
    let pinned = key.open(&fs::read_to_string(from.join(PINNED)).unwrap()).unwrap();
    let trust = Trust { key: Some(key), pinned: vec![pinned] };
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.records == 9, "{report:?}");
    let all = reader.tail(0, 100).unwrap();
    for one in &all {
        assert_eq!(serde_json::to_string(&one.leaf).unwrap(), one.line, "to the byte");
    }
    let first = concat!(
        r#""labels":{"categories":["health","personal","unknown"],"regulations":["gdpr"],"residency":["eu"],"#,
        r#""consent":["support"],"purpose":"support"}"#
    );
    assert!(all[1].line.contains(first), "{}", all[1].line);
    let name = |text: &str| Some(Name::new(text).unwrap());
    let found = |filter: Filter| {
        let records = reader.query(&filter).unwrap().records;
        records.into_iter().map(|record| record.leaf.index).collect::<Vec<_>>()
    };
    let plain = Filter::default;
    for (filter, indices) in [
        (Filter { category: name("personal"), ..plain() }, vec![1, 4]),
        (Filter { category: name("health"), ..plain() }, vec![1]),
        (Filter { category: name("unknown"), ..plain() }, vec![1]),
        (Filter { regulation: name("gdpr"), ..plain() }, vec![1]),
        (Filter { residency: name("eu"), ..plain() }, vec![1]),
        (Filter { consent: name("support"), ..plain() }, vec![1]),
        (Filter { purpose: name("support"), ..plain() }, vec![1]),
        // Negative controls.
        (Filter { category: name("card"), ..plain() }, vec![]),
        (Filter { sensitivity: Some(Sensitivity::Internal), ..plain() }, vec![0, 1, 3, 4, 6, 7]),
    ] {
        assert_eq!(found(filter.clone()), indices, "{filter:?}");
    }
}
