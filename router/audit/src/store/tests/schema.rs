//! The schema over releases: a record that was written by one opens in the next; what is no record of ours is refused with
//! what to do.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::Signer;
use crate::entry::{Gap, GapReason, Item};
use crate::error::OpenError;
use crate::fixture::{
    at, items, keys, master, result, review, road, seeded, small, store, task, task_id, work,
};
use crate::keys::MasterKey;
use crate::read::{Filter, Opened, Reader};
use crate::store::{Store, builder, file, write};
use crate::table;
use crate::verify::{Level, Trust};
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::result::State;

/// Set, this form's fixture is written anew: `TIDEGATE_WRITE_FIXTURE=1` with the test `schema_a_record_of_each_release_opens`.
const WRITE: &str = "TIDEGATE_WRITE_FIXTURE";
/// A checkpoint of the fixture that is kept outside it.
const PINNED: &str = "checkpoint.pinned";
/// Records of the fixture.
const RECORDS: u64 = 33;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Writes the fixture: what each kind of message and each table has.
fn write_fixture(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    let mut store = seeded(dir);
    store.append(&road(8)).unwrap();
    fs::write(dir.join(PINNED), store.checkpoint().unwrap()).unwrap();
    let gap = Gap { stream: "EVENTS".to_owned(), from: 1, to: 3, reason: GapReason::Trimmed, time: at(9) };
    store.append(&[Item::Gap(gap)]).unwrap();
    let open = [task(9, 9), work(9, 9, "TASKS_acme:9"), task(10, 10), review(10, 4, "TASKS_acme:10")];
    store.append(&items(open)).unwrap();
    let odd = [result(3, 9, "WORK_LOCAL:3", "failed"), work(11, 10, "TASKS_acme:99"), task(8, 11)];
    store.append(&items(odd)).unwrap();
    store.append(&items([task(12, 12)])).unwrap();
    store.checkpoint().unwrap();
    drop(store);
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
        let bytes: u64 =
            fs::read_dir(&from).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 1_500_000, "{bytes} bytes: a fixture is small");
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        super::signed::copy(&from, &record);
        opens(&record, &fs::read_to_string(from.join(PINNED)).unwrap());
        forms += 1;
    }
    assert!(forms > 0, "there is a fixture: see `{WRITE}`");
}

/// The record verifies against what was pinned, answers, and goes on.
fn opens(record: &Path, pinned: &str) {
    let key = keys().signer.public();
    let trust = Trust { key: Some(key.clone()), pinned: vec![key.open(pinned).unwrap()] };
    let reader = Reader::open(record, Some(master())).unwrap();
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.records, report.anomalies, report.signed), (RECORDS, 2, Some(RECORDS)));
    let status = reader.status().unwrap();
    assert_eq!((status.accepted, status.ended, status.open), (11, 8, 3));
    let found = |filter: Filter| reader.query(&filter).unwrap().records.len();
    assert_eq!(found(Filter { anomalies: true, ..Filter::default() }), 2);
    assert_eq!(found(Filter { state: Some(State::Completed), ..Filter::default() }), 8);
    assert_eq!(
        found(Filter { tenant: Some(Name::new("acme").unwrap()), limit: Some(100), ..Filter::default() }),
        32
    );
    let flow = Identifier::new("flow-1").unwrap();
    assert!(reader.workflow(None, &flow).unwrap().tasks.len() >= 8);
    assert_eq!(reader.task(None, task_id(2)).unwrap()[0].records.len(), 3);
    for record in reader.tail(0, 100).unwrap() {
        assert!(!matches!(reader.body(&record).unwrap(), Opened::Lost | Opened::Sealed));
    }
    let (_, accounts) = reader.prove_completeness(&key, &mut |_, _| {}).unwrap();
    assert!(accounts.iter().all(|account| account.is_complete() && account.is_explained()));
    drop(reader);
    let mut store = store(record);
    assert_eq!(store.append(&items([task(13, 13)])).unwrap().first, RECORDS);
    store.checkpoint().unwrap();
    drop(store);
    let reader = Reader::open(record, None).unwrap();
    assert!(reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap().is_ok(), "it goes on");
}

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
    matches!(error, OpenError::Corrupt { .. } | OpenError::Io { .. })
}

#[test]
fn schema_what_is_no_record_of_ours_is_refused_with_what_to_do() {
    let cases: [Case; 9] = [
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
            "",
        ),
        ("a damaged head", |record| flip(&file(record), 3), is_corrupt, Some(is_corrupt), ""),
        (
            "cut short",
            |record| {
                let bytes = fs::read(file(record)).unwrap();
                fs::write(file(record), &bytes[..bytes.len() / 3]).unwrap();
            },
            |_| true,
            Some(|_| true),
            "",
        ),
        (
            "a key file that does not open",
            |record| flip(&record.join("keys.bin"), 20),
            |error| matches!(error, OpenError::WrongKey),
            None,
            "name the key file",
        ),
        (
            "no key file",
            |record| fs::remove_file(record.join("keys.bin")).unwrap(),
            |error| matches!(error, OpenError::KeyFile { .. }),
            None,
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
            Some(expected) => assert!(error.as_ref().is_some_and(expected), "{name}, to read: {error:?}"),
            None => assert!(error.is_none(), "{name}: it can be read, {error:?}"),
        }
        let error = Store::open(&record, keys(), &small()).err().unwrap();
        assert!(writes(&error), "{name}: {error:?}");
        assert!(error.to_string().contains(hint), "{name}: {error}");
        if name != "cut short" {
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
    assert!(wrong.to_string().contains("name the key file it was made with"), "{wrong}");
}
