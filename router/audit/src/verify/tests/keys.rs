//! Keys that were taken away: found by who has the master key, and told from those that an act on record destroyed.

use std::fs;
use std::path::{Path, PathBuf};

use redb::ReadableTable as _;

use super::super::{Fault, Level, Report};
use super::tamper;
use crate::copy::tests::segments::{erase_person, prune, seal};
use crate::error::ReadError;
use crate::fixture::{items, master, result, road, store, task_of};
use crate::keys::MasterKey;
use crate::read::Reader;
use crate::segment::Part;
use crate::table;

/// Its name, what is done to the record's directory, and what is found: index and fault.
type Case = (&'static str, fn(&Path), Option<(Option<u64>, Fault)>);

/// Length of the file's head, and of a row.
const HEAD: usize = 16;
const ROW: usize = 72;

/// A road of nine records of one person, who has row 2 of the key file; a task of another, who has row 3; and its result, which is
/// sealed for the first one.
fn record(dir: &Path) {
    let mut store = store(dir);
    store.append(&road(3)).unwrap();
    let cause = "TASKS_acme:4";
    store.append(&items([task_of(1_000, 4, &["customer-2"]), result(1_000, 4, cause, "failed")])).unwrap();
}

fn verified(dir: &Path, master: &MasterKey) -> Result<Report, ReadError> {
    let reader = Reader::open(dir, None).unwrap();
    let mut report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.keys.is_none(), "without keys nothing is seen: {:?}", report.problems);
    reader.verify_keys(master, &mut report, &mut |_, _| {}).map(|()| report)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("keys.bin")
}

fn edit(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file(dir)).unwrap();
    change(&mut bytes);
    fs::write(file(dir), bytes).unwrap();
}

#[test]
fn tamper_a_key_that_no_act_destroyed_is_lost_and_found() {
    let cases: [Case; 9] = [
        ("negative control: nothing", |_| {}, None),
        (
            "a row destroyed",
            |dir| edit(dir, |bytes| bytes[HEAD + 3 * ROW..][..ROW].fill(0)),
            Some((Some(9), Fault::KeyLost)),
        ),
        (
            "a row changed",
            |dir| edit(dir, |bytes| bytes[HEAD + 2 * ROW + 40] ^= 1),
            Some((Some(0), Fault::KeyLost)),
        ),
        (
            "the cell's own row destroyed",
            |dir| edit(dir, |bytes| bytes[HEAD..][..ROW].fill(0)),
            Some((None, Fault::KeyLost)),
        ),
        (
            "all rows destroyed",
            |dir| edit(dir, |bytes| bytes[HEAD..].fill(0)),
            Some((Some(0), Fault::KeyLost)),
        ),
        (
            "the last row cut off",
            |dir| edit(dir, |bytes| bytes.truncate(bytes.len() - ROW)),
            Some((None, Fault::KeyFile)),
        ),
        ("no file", |dir| fs::remove_file(file(dir)).unwrap(), Some((None, Fault::KeyFile))),
        (
            "a task's wrapped key changed",
            |dir| {
                tamper(dir, |txn| {
                    let mut keys = txn.open_table(table::KEYS).unwrap();
                    let (key, mut row) = {
                        let (key, row) = keys.last().unwrap().unwrap();
                        (key.value(), row.value().to_vec())
                    };
                    *row.last_mut().unwrap() ^= 1;
                    keys.insert(key, row.as_slice()).unwrap();
                });
            },
            Some((Some(10), Fault::KeyLost)),
        ),
        (
            "a task's wrapped key gone",
            |dir| tamper(dir, |txn| drop(txn.open_table(table::KEYS).unwrap().pop_last().unwrap())),
            Some((Some(10), Fault::KeyLost)),
        ),
    ];
    for (name, change, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        change(dir.path());
        let report = verified(dir.path(), &master()).unwrap();
        let found: Vec<_> = report.problems.iter().map(|problem| (problem.index, problem.fault)).collect();
        match expected {
            None => assert!(found.is_empty() && report.keys >= Some(4), "{name}: {report:?}"),
            Some(expected) => assert!(found.contains(&expected), "{name}: {found:?}"),
        }
    }
}

#[test]
fn tamper_every_byte_of_the_key_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let sound = fs::read(file(dir.path())).unwrap();
    assert_eq!(sound.len(), HEAD + 4 * ROW);
    let reader = Reader::open(dir.path(), None).unwrap();
    let found = |bytes: &[u8]| {
        fs::write(file(dir.path()), bytes).unwrap();
        let mut report = Report::new(Level::Full, 0, 0);
        reader.verify_keys(&master(), &mut report, &mut |_, _| {}).unwrap();
        !report.is_ok()
    };
    let mut bad = sound.clone();
    for at in 0..sound.len() {
        bad[at] ^= 1 << (at % 8);
        assert!(found(&bad), "byte {at}");
        bad[at] = sound[at];
    }
    assert!(!found(&sound), "negative control");
}

#[test]
fn erase_a_key_that_an_act_on_record_destroyed_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let mut store = store(dir.path());
    erase_person(&mut store);
    drop(store);
    let report = verified(dir.path(), &master()).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    // Negative control: the act of one person explains nothing of another.
    edit(dir.path(), |bytes| bytes[HEAD + 2 * ROW..][..ROW].fill(0));
    let report = verified(dir.path(), &master()).unwrap();
    let found: Vec<_> = report.problems.iter().map(|problem| (problem.index, problem.fault)).collect();
    assert_eq!(found[0], (Some(0), Fault::KeyLost));
    assert!(found.iter().all(|(index, _)| *index != Some(9)), "whose erasure is on record: {found:?}");
    // Nor do rows that name the erasure of somebody else as what destroyed them.
    tamper(dir.path(), |txn| {
        let mut erased = txn.open_table(table::ERASED).unwrap();
        let event = erased.first().unwrap().unwrap().1.value();
        erased.insert(2, event).unwrap();
    });
    assert!(!verified(dir.path(), &master()).unwrap().is_ok());
}

#[test]
fn retain_what_was_pruned_needs_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(90)).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Bodies, 0).unwrap();
    drop(store);
    let report = verified(dir.path(), &master()).unwrap();
    // The keys of the bodies that are left: of the last tasks, and of the cell.
    assert!(report.is_ok() && (1..30).contains(&report.keys.unwrap()), "{report:?}");
}

#[test]
fn tamper_another_master_key_is_an_error_and_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let other = verified(dir.path(), &MasterKey::from_bytes([8; 32]));
    assert!(matches!(other, Err(ReadError::WrongKey)), "{other:?}");
    assert!(verified(dir.path(), &master()).unwrap().is_ok(), "negative control");
    // Also where somebody was erased before.
    let erased = tempfile::tempdir().unwrap();
    record(erased.path());
    edit(erased.path(), |bytes| bytes[HEAD + 3 * ROW..][..ROW].fill(0));
    let other = verified(erased.path(), &MasterKey::from_bytes([8; 32]));
    assert!(matches!(other, Err(ReadError::WrongKey)), "{other:?}");
}
