//! A data subject erased: what is lost, what stays, and what nobody finds any more.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use redb::ReadableTable as _;
use tidegate_schemas::digest::Digest;

use super::*;
use crate::body;
use crate::erase::{Erasure, ErasureState, Holding};
use crate::fixture::{at, erase, road, task_id, task_of};
use crate::keys::Key;
use crate::keys::file::KeyFile;
use crate::keys::task::Wrapped;
use crate::leaf::Leaf;
use crate::store::write;
use crate::table;
use crate::verify::Trust;

pub(super) fn subject(text: &str) -> Identifier {
    Identifier::new(text).unwrap()
}

pub(super) fn acme() -> Name {
    Name::new("acme").unwrap()
}

pub(super) fn names(reader: &Reader, text: &str) -> Option<Vec<String>> {
    reader.data_subject(&acme(), &subject(text)).unwrap().map(|found| found.references)
}

pub(super) fn holding(reader: &Reader, names: &[String]) -> Holding {
    reader.holding(&acme(), names, &mut |_| Ok(())).unwrap()
}

pub(super) fn erasure(event: u64, subjects: &[String]) -> Erasure {
    Erasure {
        event,
        operator: Name::new("olga").unwrap(),
        tenant: acme(),
        subjects: subjects.to_vec(),
        begun: at(0),
        records: 0,
        messages: 0,
        counted: false,
        state: ErasureState::Waiting,
        waits: None,
        act: None,
    }
}

/// Erases `customer-1` by the act at EVENTS:1, which is recorded before.
fn erase_first(store: &mut Store) -> Holding {
    let reader = store.reader();
    let known = names(&reader, "customer-1").unwrap();
    store.append(&items([erase(1, &known)])).unwrap();
    let held = holding(&reader, &known);
    store.destroy(&erasure(1, &known), &held.rows).unwrap();
    held
}

pub(super) fn opened(reader: &Reader, index: u64) -> Opened {
    reader.body(&reader.get(index).unwrap().unwrap()).unwrap()
}

#[test]
fn erase_takes_every_body_of_the_subject_and_leaves_every_proof() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(3)).unwrap();
    store
        .append(&items([task_of(4, 4, &["customer-2"]), task_of(5, 5, &["customer-2", "customer-1"])]))
        .unwrap();
    // Says of nobody whose data it is: it is its task's.
    store.append(&items([cancel(2, 6)])).unwrap();
    let note = store.checkpoint().unwrap();
    let beside = Reader::open(dir.path(), Some(master())).unwrap();
    assert!((0..12).all(|index| matches!(opened(&beside, index), Opened::Body(_))), "negative control");
    let before: Vec<String> = beside.tail(0, 12).unwrap().into_iter().map(|record| record.line).collect();

    let held = erase_first(&mut store);
    assert_eq!((held.records, held.rows.len()), (11, 1), "nine of the road, the shared one, the withdrawal");
    assert_eq!(held.tasks, [1, 2, 3, 5].map(task_id).into());
    for index in 0..12 {
        let kept = index == 9;
        match opened(&beside, index) {
            Opened::Body(_) => assert!(kept, "{index}"),
            Opened::Erased { event } => assert!(!kept && event == 1, "{index}"),
            other => panic!("{index}: {other:?}"),
        }
    }
    let after: Vec<String> = beside.tail(0, 12).unwrap().into_iter().map(|record| record.line).collect();
    assert_eq!(after, before, "every leaf is as it was");
    let keyed = store.signer.public();
    let trust = Trust { pinned: vec![keyed.open(&note).unwrap()], key: Some(keyed) };
    let report = beside.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.bodies == 13, "{:?}", report.problems);
    assert_eq!(holding(&beside, &beside.erasures().unwrap()[0].subjects).records, 11, "found without a key");

    // What comes later has another key and another name; who asks for the old one finds nobody.
    assert_eq!(names(&beside, "customer-1"), None);
    store.forget(&held.tasks, &held.keys).unwrap();
    store.append(&items([task_of(6, 7, &["customer-1"]), work(3, 4, "TASKS_acme:3")])).unwrap();
    let now = names(&beside, "customer-1").unwrap();
    let new = holding(&beside, &now);
    assert_eq!((new.records, new.rows.is_disjoint(&held.rows)), (2, true));
    assert!(matches!(opened(&beside, 13), Opened::Body(_)));
    assert_eq!(holding(&beside, &beside.erasures().unwrap()[0].subjects).records, 11, "not linked to it");
    assert!(beside.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
}

#[test]
fn erase_of_a_task_without_named_subjects_goes_by_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&items([task_of(1, 1, &[]), task_of(2, 2, &[])])).unwrap();
    // Another task that names the first one's subject has a key of its own for it.
    let own = format!("task:{}", task_id(1));
    store.append(&items([task_of(3, 3, &[&own])])).unwrap();
    let reader = store.reader();
    let known = names(&reader, &own).unwrap();
    assert_eq!(known.len(), 2);
    store.append(&items([erase(1, &known)])).unwrap();
    let held = holding(&reader, &known);
    assert_eq!(held.tasks, [1, 3].map(task_id).into());
    store.destroy(&erasure(1, &known), &held.rows).unwrap();
    let states = [0, 1, 2].map(|index| matches!(opened(&reader, index), Opened::Erased { .. }));
    assert_eq!(states, [true, false, true]);
    store.forget(&held.tasks, &held.keys).unwrap();
    assert_eq!(names(&reader, &own), None);
}

#[test]
fn erase_takes_a_task_that_was_refused_and_named_whose_data_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let refused = |n: u64, subjects: &[&str]| {
        let mut task = task_of(n, n, subjects);
        task.subject = "task.acme.bot.anna".to_owned();
        task
    };
    store.append(&items([refused(1, &["customer-1"]), refused(2, &["customer-2"])])).unwrap();
    let reader = store.reader();
    let record = reader.get(0).unwrap().unwrap();
    assert!(record.leaf.code.is_some() && matches!(opened(&reader, 0), Opened::Body(_)), "negative control");
    let held = erase_first(&mut store);
    assert_eq!((held.records, held.tasks), (1, [task_id(1)].into()));
    assert_eq!(opened(&reader, 0), Opened::Erased { event: 1 });
    assert!(matches!(opened(&reader, 1), Opened::Body(_)), "nobody else's is touched");
}

#[test]
fn erase_is_told_from_damage_by_the_act_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(1)).unwrap();
    let reader = store.reader();
    let known = names(&reader, "customer-1").unwrap();
    let rows = holding(&reader, &known).rows;
    // The key is gone, and nothing on record says why; then a record that is no act; then an act on somebody else.
    store.destroy(&erasure(1, &known), &rows).unwrap();
    assert_eq!(opened(&reader, 0), Opened::Lost);
    store.append(&items([erase(1, &["ab".repeat(16)])])).unwrap();
    assert_eq!(opened(&reader, 0), Opened::Lost);
    let txn = write(&store.db).unwrap();
    txn.open_table(table::ERASED).unwrap().retain(|_, _| false).unwrap();
    txn.commit().unwrap();
    store.append(&items([erase(2, &known)])).unwrap();
    assert_eq!(opened(&reader, 0), Opened::Lost, "no row was destroyed by it");
    store.destroy(&erasure(2, &known), &rows).unwrap();
    assert_eq!(opened(&reader, 0), Opened::Erased { event: 2 });
}

#[test]
fn erase_is_completed_after_a_crash_and_when_an_older_key_file_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(2)).unwrap();
    store.append(&items([task_of(3, 3, &["customer-2"]), task_of(4, 4, &["customer-3"])])).unwrap();
    let keys = dir.path().join("keys.bin");
    let draft = dir.path().join("keys.new");
    let old = std::fs::read(&keys).unwrap();
    erase_first(&mut store);
    let new = std::fs::read(&keys).unwrap();
    // The cell's key, that of references, and three persons: the first one's is gone, and what was made ahead.
    let (counted, row) = (16 + 72 * 5, |row: usize| 16 + 72 * row..16 + 72 * (row + 1));
    assert!(old.len() > counted, "control: some are ahead");
    assert_eq!((new.len(), &new[row(2)]), (counted, &[0; 72][..]));
    assert_eq!(
        (&new[..row(2).start], &new[row(3).start..]),
        (&old[..row(2).start], &old[row(3).start..counted])
    );
    drop(store);
    // The commit was there, the new file only in part.
    std::fs::write(&keys, &old).unwrap();
    std::fs::write(&draft, &old[..100]).unwrap();
    let mut store = self::store(dir.path());
    assert_eq!(std::fs::read(&keys).unwrap(), new);
    assert!(!draft.exists());
    let reader = store.reader();
    assert_eq!(opened(&reader, 0), Opened::Erased { event: 1 });
    assert!(matches!(opened(&reader, 6), Opened::Body(_)), "nobody else's is touched");
    assert_eq!(reader.erasures().unwrap()[0].state, ErasureState::Destroyed, "and it goes on from there");
    let next = store.append(&items([task_of(5, 5, &["customer-4"])])).unwrap().first;
    for index in [7, next] {
        assert!(matches!(opened(&reader, index), Opened::Body(_)), "{index}");
    }
}

/// Whether these bytes stand in a file of the directory.
fn found(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        file.windows(bytes.len()).any(|window| window == bytes)
    })
}

fn key_of(dir: &Path, row: u64) -> (Key, Vec<u8>) {
    let path = dir.join("keys.bin");
    let file = KeyFile::read_only(&path, master().wrapping(), 0).unwrap();
    let from = 16 + 72 * usize::try_from(row).unwrap();
    let wrapped = std::fs::read(path).unwrap()[from..from + 72].to_vec();
    (file.key(row).unwrap().unwrap(), wrapped)
}

#[test]
fn erase_leaves_neither_key_nor_text_nor_a_way_to_them_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(2)).unwrap();
    store.append(&items([task_of(3, 3, &["customer-2"])])).unwrap();
    let reader = store.reader();
    let row = *holding(&reader, &names(&reader, "customer-1").unwrap()).rows.first().unwrap();
    let (key, wrapped) = key_of(dir.path(), row);
    let Opened::Body(body) = opened(&reader, 0) else { panic!("a body") };
    assert!(
        body.payload.windows(CANARY.len()).any(|text| text == CANARY.as_bytes()),
        "control: it is sealed"
    );
    assert!(found(dir.path(), &wrapped), "control: the scan finds what is there");

    let held = erase_first(&mut store);
    store.forget(&held.tasks, &held.keys).unwrap();
    let hex = hex::encode(*key);
    let base64 = base64::engine::general_purpose::STANDARD.encode(*key);
    for (what, bytes) in [
        ("the key", key.as_slice()),
        ("its digits", hex.as_bytes()),
        ("its base64", base64.as_bytes()),
        ("its row", &wrapped),
        ("the text", CANARY.as_bytes()),
        ("who it was", b"customer-1"),
    ] {
        assert!(!found(dir.path(), bytes), "{what} is still there");
    }
    // What redb keeps are keys that the lost one wrapped. No key that is left opens them.
    let txn = reader.begin().unwrap();
    let keys = txn.open_table(table::KEYS).unwrap();
    let file = KeyFile::read_only(&dir.path().join("keys.bin"), master().wrapping(), 0).unwrap();
    let mut left: Vec<Key> = (0..store.ring.rows()).filter_map(|row| file.key(row).unwrap().ok()).collect();
    left.extend([Key::default(), master().wrapping(), master().references().clone()]);
    for id in &held.keys {
        let wrapped = Wrapped::decode(keys.get(id).unwrap().unwrap().value()).unwrap();
        assert!(left.iter().all(|key| wrapped.open(*id, std::slice::from_ref(key)).is_err()), "{id}");
        assert!(wrapped.open(*id, std::slice::from_ref(&key)).is_ok(), "control: the lost one did");
    }
    let subjects = txn.open_table(table::SUBJECTS).unwrap();
    let rows: BTreeSet<u64> = subjects.iter().unwrap().map(|row| row.unwrap().1.value()).collect();
    assert!(!rows.contains(&row), "and nothing leads from a person's id to what was erased");
}

#[test]
fn erase_leaves_a_commitment_that_no_guess_can_be_checked_against() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let (first, again) = (task_of(1, 1, &["customer-1"]), task_of(2, 2, &["customer-1"]));
    store.append(&items([first.clone(), again])).unwrap();
    let reader = store.reader();
    let leaf: Leaf = reader.get(0).unwrap().unwrap().leaf;
    let commitment = leaf.body.unwrap();
    // The guess is right to the last bit, and there is nothing to hold it against.
    let guess = body::encode(&first);
    for tried in [guess.as_slice(), &first.payload, CANARY.as_bytes()] {
        assert_ne!(Digest::plain(tried), commitment.sha256);
    }
    // Negative control: with key and nonce, of which the one is destroyed, the guess can be checked.
    let txn = reader.begin().unwrap();
    let sealed = txn.open_table(table::BODY).unwrap().get(0).unwrap().unwrap().value().to_vec();
    let wrapped = txn.open_table(table::KEYS).unwrap().get(commitment.key).unwrap().unwrap().value().to_vec();
    let wrapped = Wrapped::decode(&wrapped).unwrap();
    let subjects: Vec<Key> = wrapped.rows.iter().map(|row| key_of(dir.path(), *row).0).collect();
    let key = wrapped.open(commitment.key, &subjects).unwrap();
    let nonce: [u8; 24] = sealed[..24].try_into().unwrap();
    let place = body::place("TASKS_acme", 1);
    let checked = |key: &Key| Digest::plain(&crate::keys::seal::seal_with(key, &nonce, &place, &guess));
    assert_eq!(checked(&key), commitment.sha256);
    assert_ne!(checked(&Key::default()), commitment.sha256);
    erase_first(&mut store);
    assert_eq!(opened(&reader, 0), Opened::Erased { event: 1 });
}
