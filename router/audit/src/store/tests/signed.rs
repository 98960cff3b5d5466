//! Checkpoints of a store, and what it refuses: an older copy, an emptied one, a fork.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use crate::checkpoint::notes::notes;
use crate::error::OpenError;
use crate::fixture::{items, keys, road, small, store, task};
use crate::store::{Options, Store, builder, file, write};
use crate::table;
use redb::ReadableTable as _;

/// How a store is changed while nobody holds it, whether it still opens, and how many records it has then.
type Case = (&'static str, fn(&Path, &Path), bool);

/// A store with two signed states and some records more. Beside it a copy of the first one.
fn signed(dir: &Path) -> Vec<String> {
    let record = dir.join("record");
    let mut store = Store::open(&record, keys(), &options(dir)).unwrap();
    store.append(&road(100)).unwrap();
    let first = store.checkpoint().unwrap();
    drop(store);
    copy(&record, &dir.join("older"));
    let mut store = Store::open(&record, keys(), &options(dir)).unwrap();
    store.append(&road(200)).unwrap();
    let second = store.checkpoint().unwrap();
    store.append(&road(201)).unwrap();
    vec![first, second]
}

pub(super) fn options(dir: &Path) -> Options {
    Options { checkpoint_file: Some(dir.join("checkpoints")), ..small() }
}

pub(super) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn change(dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = builder(1024 * 1024).open(file(dir)).unwrap();
    let txn = write(&db).unwrap();
    change(&txn);
    txn.commit().unwrap();
}

/// Says that the record is another history, as a break that was accepted would.
fn raise(txn: &redb::WriteTransaction, epoch: u64) {
    txn.open_table(table::META).unwrap().insert(table::META_EPOCH, epoch).unwrap();
}

#[test]
fn checkpoint_says_what_is_recorded_once_and_durably() {
    let dir = tempfile::tempdir().unwrap();
    let notes_of = |dir: &Path| notes(&fs::read_to_string(dir.join("checkpoints")).unwrap());
    let expected = signed(dir.path());
    assert_eq!(notes_of(dir.path()), expected);
    let key = keys().signer.public();
    assert_eq!(expected.iter().map(|note| key.open(note).unwrap().size).collect::<Vec<_>>(), [300, 600]);
    let mut store = Store::open(&dir.path().join("record"), keys(), &options(dir.path())).unwrap();
    assert_eq!(store.signed(), Some(600));
    let third = store.checkpoint().unwrap();
    assert_eq!(store.checkpoint().unwrap(), third, "nothing new: the same note, and not stored again");
    assert_eq!(notes_of(dir.path()).len(), 3);

    // The same records in other batches have the same root, whatever the sealed bytes were made of.
    let other = tempfile::tempdir().unwrap();
    let mut again = self::store(other.path());
    for part in road(20).chunks(7) {
        again.append(part).unwrap();
    }
    again.checkpoint().unwrap();
    assert_eq!(again.signed(), Some(60));
    // The file was moved away: it begins anew with what the store holds.
    drop(again);
    fs::remove_file(other.path().join("checkpoints")).unwrap();
    drop(self::store(other.path()));
    assert_eq!(notes_of(other.path()).len(), 1);
}

#[test]
fn tamper_a_store_that_does_not_continue_what_was_signed_is_refused() {
    let cases: [Case; 11] = [
        ("negative control: as it was left", |_, _| {}, true),
        ("an older copy", |dir, record| copy(&dir.join("older"), record), false),
        ("an empty one", |_, record| fs::remove_dir_all(record).unwrap(), false),
        ("an empty file beside its keys", |_, record| fs::remove_file(file(record)).unwrap(), false),
        (
            "a leaf's hash that was signed",
            |_, record| {
                change(record, |txn| {
                    let mut rec = txn.open_table(table::REC).unwrap();
                    let mut row = rec.get(599).unwrap().unwrap().value().to_vec();
                    row[0] ^= 1;
                    rec.insert(599, row.as_slice()).unwrap();
                });
            },
            false,
        ),
        (
            "a tile",
            |_, record| {
                change(record, |txn| {
                    let mut tiles = txn.open_table(table::TILES).unwrap();
                    let mut row = tiles.get((1, 0)).unwrap().unwrap().value().to_vec();
                    row[33] ^= 1;
                    tiles.insert((1, 0), row.as_slice()).unwrap();
                });
            },
            false,
        ),
        (
            "its last records",
            |_, record| {
                change(record, |txn| {
                    let mut rec = txn.open_table(table::REC).unwrap();
                    rec.retain(|index, _| index < 590).unwrap();
                    txn.open_table(table::META).unwrap().insert(table::META_RECORDS, 590).unwrap();
                });
            },
            false,
        ),
        ("another history's number", |_, record| change(record, |txn| raise(txn, 2)), false),
        (
            "an emptied one with another history's number",
            |_, record| {
                fs::remove_file(file(record)).unwrap();
                drop(Store::database(record, &small()).unwrap());
                change(record, |txn| raise(txn, 2));
            },
            false,
        ),
        (
            "an older copy with another history's number, and a break that nobody accepted",
            |dir, record| {
                copy(&dir.join("older"), record);
                let newest = notes(&fs::read_to_string(dir.join("checkpoints")).unwrap()).pop().unwrap();
                change(record, |txn| {
                    raise(txn, 2);
                    txn.open_table(table::BREAKS).unwrap().insert(2, newest.as_bytes()).unwrap();
                });
            },
            false,
        ),
        (
            "the same, with a checkpoint of the history before as the first of its own",
            |dir, record| {
                copy(&dir.join("older"), record);
                change(record, |txn| {
                    raise(txn, 2);
                    let mut rows = txn.open_table(table::CHECKPOINTS).unwrap();
                    let first = rows.get((1, 300)).unwrap().unwrap().value().to_vec();
                    rows.insert((2, 300), first.as_slice()).unwrap();
                });
            },
            false,
        ),
    ];
    for (name, tamper, opens) in cases {
        let dir = tempfile::tempdir().unwrap();
        signed(dir.path());
        let record = dir.path().join("record");
        let keys_before = fs::read(record.join("keys.bin")).unwrap();
        tamper(dir.path(), &record);
        match Store::open(&record, keys(), &options(dir.path())) {
            Ok(store) => assert!(opens && store.records() == 603, "{name}"),
            Err(error) => {
                // What the record itself holds is told first where it shows the fork.
                let signed = if name.contains("history before") { 300 } else { 600 };
                let forks = matches!(error, OpenError::Fork { signed: of, .. } if of == signed);
                assert!(!opens && forks, "{name}: {error}");
            }
        }
        if let Ok(keys) = fs::read(record.join("keys.bin"))
            && !name.contains("older")
        {
            assert!(keys == keys_before, "{name}: refusing must destroy no key");
        }
    }
}

#[test]
fn tamper_a_checkpoint_of_another_key_or_form_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    signed(dir.path());
    let record = dir.path().join("record");
    let open = |keys| Store::open(&record, keys, &options(dir.path())).err();
    let mut other = keys();
    other.signer = crate::Signer::from_bytes(&[6; 32], "tidegate/test");
    assert!(matches!(open(other), Some(OpenError::Checkpoint { .. })));
    let path = dir.path().join("checkpoints");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\n600\n", "\n601\n")).unwrap();
    assert!(matches!(open(keys()), Some(OpenError::Checkpoint { .. })));
    fs::write(&path, &text).unwrap();
    assert!(open(keys()).is_none(), "negative control");
}

#[test]
fn break_is_accepted_once_and_goes_on_under_a_new_origin() {
    let dir = tempfile::tempdir().unwrap();
    let notes = signed(dir.path());
    let record = dir.path().join("record");
    let sound = Store::accept_break(&record, keys(), &options(dir.path()));
    assert!(matches!(sound, Err(OpenError::NoFork)), "negative control");

    copy(&dir.path().join("older"), &record);
    assert_eq!(Store::accept_break(&record, keys(), &options(dir.path())).unwrap(), notes[1]);
    let mut store = Store::open(&record, keys(), &options(dir.path())).unwrap();
    store.append(&items([task(101, 101)])).unwrap();
    let key = keys().signer.public();
    let head = key.open(&store.checkpoint().unwrap()).unwrap();
    assert_eq!((head.origin.as_str(), head.size), ("tidegate/test/2", 301));
    drop(store);

    // The copy from before the break would be a second history, also under the new origin.
    copy(&dir.path().join("older"), &record);
    let again = Store::open(&record, keys(), &options(dir.path()));
    assert!(matches!(again, Err(OpenError::Fork { signed: 301, .. })));
    assert!(
        matches!(Store::accept_break(&record, keys(), &options(dir.path())), Ok(note) if note.starts_with("tidegate/test/2\n301\n"))
    );
    assert_eq!(key.open(&store_head(&record, dir.path())).unwrap().origin, "tidegate/test/3");
}

fn store_head(record: &Path, dir: &Path) -> String {
    Store::open(record, keys(), &options(dir)).unwrap().checkpoint().unwrap()
}
