//! Another master key: it opens everything, the old one nothing, and what things are called stays.

use super::*;
use crate::fixture::{small, task_of};
use crate::store::write;
use crate::table;

fn new_master() -> MasterKey {
    MasterKey::from_bytes([9; 32])
}

fn flows(reader: &Reader) -> usize {
    reader.workflow(None, &Identifier::new("flow-1").unwrap()).unwrap().tasks.len()
}

fn readable(reader: &Reader) -> bool {
    let records = reader.tail(0, 100).unwrap();
    records.iter().all(|record| matches!(reader.body(record).unwrap(), Opened::Body(_)))
}

/// Returns the key file as it was before.
fn rotates(dir: &std::path::Path) -> Vec<u8> {
    let mut store = store(dir);
    store.append(&road(2)).unwrap();
    let before = store.reader().get(0).unwrap().unwrap().leaf;
    let keys_before = std::fs::read(dir.join("keys.bin")).unwrap();
    store.rotate(new_master()).unwrap();
    store.append(&items([task_of(3, 3, &["customer-1"])])).unwrap();
    let leaf = store.reader().get(6).unwrap().unwrap().leaf;
    assert_eq!((&leaf.workflow, &leaf.subjects), (&before.workflow, &before.subjects), "called as before");
    assert!(readable(&store.reader()));
    drop(store);

    let old = Store::open(dir, keys(), &small());
    assert!(matches!(old, Err(OpenError::WrongKey)));
    assert!(matches!(Reader::open(dir, Some(master())), Err(OpenError::WrongKey)), "and who only reads");
    let store = Store::open(dir, Keys { master: new_master(), ..keys() }, &small()).unwrap();
    let reader = Reader::open(dir, Some(new_master())).unwrap();
    assert!(readable(&reader) && readable(&store.reader()));
    assert_eq!(flows(&reader), 3);
    let subject = Identifier::new("customer-1").unwrap();
    let known = reader.data_subject(&Name::new("acme").unwrap(), &subject).unwrap().unwrap();
    assert_eq!(known.references, before.subjects);
    assert!(reader.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
    keys_before
}

#[test]
fn rotate_a_new_master_key_opens_all_and_the_old_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keys_before = rotates(dir.path());
    // Negative control: an older key file goes with the older key, so a copy of both must be kept from others.
    std::fs::write(dir.path().join("keys.bin"), keys_before).unwrap();
    assert!(Reader::open(dir.path(), Some(master())).is_ok());
}

#[test]
fn rotate_works_on_a_record_begun_before_references_had_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let txn = write(&store.db).unwrap();
    txn.open_table(table::META).unwrap().remove(table::META_REFERENCES).unwrap();
    txn.commit().unwrap();
    drop(store);
    let _ = rotates(dir.path());
}
