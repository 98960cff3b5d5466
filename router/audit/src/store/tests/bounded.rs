//! A checkpoint file that was kept short still is what it is for.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use super::signed::{copy, options};
use crate::checkpoint::notes::notes;
use crate::checkpoint::sink::entry;
use crate::error::OpenError;
use crate::fixture::{keys, road};
use crate::merkle::proof;
use crate::store::tree::Stored;
use crate::store::{Store, file};
use crate::verify::{Level, Trust};

/// Records of the record.
const RECORDS: u64 = 1_500;

/// A record that was signed after each of its records, the copy of a file that was written so, and an older copy of the record.
fn signed_often(dir: &Path) -> Store {
    let record = dir.join("record");
    let mut store = Store::open(&record, keys(), &options(dir)).unwrap();
    store.append(&road(RECORDS / 6)).unwrap();
    drop(store);
    copy(&record, &dir.join("older"));
    let mut store = Store::open(&record, keys(), &options(dir)).unwrap();
    store.append(&road(RECORDS / 3)).unwrap();
    let txn = store.reader().begin().unwrap();
    let stored = Stored::open(&txn).unwrap();
    let note = |size| entry(&store.signer.sign(1, size, proof::root(&stored, size).unwrap()));
    let text: String = (1..RECORDS).map(note).collect();
    drop(store);
    fs::write(dir.join("checkpoints"), &text).unwrap();
    fs::write(dir.join("kept"), &text).unwrap();
    let mut store = Store::open(&record, keys(), &options(dir)).unwrap();
    store.checkpoint().unwrap();
    store
}

fn of(dir: &Path, name: &str) -> Vec<String> {
    notes(&fs::read_to_string(dir.join(name)).unwrap())
}

#[test]
fn bound_of_the_checkpoint_file_still_shows_an_older_record_and_takes_what_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut store = signed_often(dir);
    assert_eq!((store.thin().unwrap(), of(dir, "checkpoints").len()), (0, 1_500), "it is not long");
    // One that the record does not give stays where it is.
    let forged = store.signer.sign(1, 100, [1; 32]);
    let mut all = of(dir, "checkpoints");
    all[99] = forged.clone();
    fs::write(dir.join("checkpoints"), all.iter().map(|note| entry(note)).collect::<String>()).unwrap();
    store.sink.shorten();
    assert_eq!(store.thin().unwrap(), 1_500 - 1_024 - 2);
    let found = of(dir, "checkpoints");
    assert_eq!((&found[0], &found[1], found.last()), (&all[0], &forged, all.last()));

    // Whoever kept a note that went, or the file as it was, is told the same.
    let key = keys().signer.public();
    let reader = store.reader();
    for note in of(dir, "kept") {
        let head = key.open(&note).unwrap();
        if head.size.is_multiple_of(97) || head.size > 1_490 {
            let trust = Trust { key: Some(key.clone()), pinned: vec![head] };
            let report = reader.verify_against(Level::Quick, &trust, &mut |_, _| {}).unwrap();
            assert!(report.is_ok(), "{:?}", report.problems);
        }
    }
    let trust = Trust { key: Some(key.clone()), pinned: vec![key.open(&forged).unwrap()] };
    let report = reader.verify_against(Level::Quick, &trust, &mut |_, _| {}).unwrap();
    assert!(!report.is_ok(), "negative control");
    drop((reader, store));

    // And an older record, and an emptied one, are noticed as before.
    let record = dir.join("record");
    let open = || Store::open(&record, keys(), &options(dir));
    assert!(open().is_ok(), "negative control");
    copy(&dir.join("older"), &record);
    assert!(matches!(open(), Err(OpenError::Fork { signed: RECORDS, .. })));
    fs::remove_file(file(&record)).unwrap();
    assert!(matches!(open(), Err(OpenError::Fork { signed: RECORDS, .. })));
}
