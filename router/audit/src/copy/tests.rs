//! Copies: what comes out is what went in, whatever else is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use redb::{Key, ReadTransaction, ReadableTable as _, TableDefinition, Value};
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::State;

use crate::checkpoint::PublicKey;
use crate::entry::Item;
use crate::export::{Extent, Form};
use crate::fixture::{at, keys, master, seeded, store};
use crate::read::{Filter, Opened, Reader};
use crate::store::Store;
use crate::verify::{Level, Trust};
use crate::{copy, table};

mod backup;
mod meanwhile;
mod rebuild;
mod same;
pub(crate) mod segments;

/// A table's rows as bytes.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn rows<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Rows {
    let table = txn.open_table(definition).unwrap();
    let mut rows = Vec::new();
    for row in table.iter().unwrap() {
        let (key, value) = row.unwrap();
        let (key, value) = (key.value(), value.value());
        rows.push((K::as_bytes(&key).as_ref().to_vec(), V::as_bytes(&value).as_ref().to_vec()));
    }
    rows
}

/// All that a record holds, by table.
fn tables(dir: &Path) -> Vec<(&'static str, Rows)> {
    let reader = Reader::open(dir, None).unwrap();
    let txn = reader.begin().unwrap();
    let names = crate::erase::names::all(&txn).unwrap().into_iter();
    let names = names.map(|(row, kept)| (row.to_be_bytes().to_vec(), kept.encode().to_vec())).collect();
    vec![
        ("names", names),
        ("rec", rows(&txn, table::REC)),
        ("body", rows(&txn, table::BODY)),
        ("src", rows(&txn, table::SRC)),
        ("gaps", rows(&txn, table::GAPS)),
        ("streams", rows(&txn, table::STREAMS)),
        ("tenants", rows(&txn, table::TENANTS)),
        ("terms", rows(&txn, table::TERMS)),
        ("windows", rows(&txn, table::WINDOWS)),
        ("tasks", rows(&txn, table::TASKS)),
        ("open", rows(&txn, table::OPEN)),
        ("keys", rows(&txn, table::KEYS)),
        ("key_of", rows(&txn, table::KEY_OF)),
        ("subjects", rows(&txn, table::SUBJECTS)),
        ("tiles", rows(&txn, table::TILES)),
        ("tree", rows(&txn, table::TREE)),
        ("checkpoints", rows(&txn, table::CHECKPOINTS)),
        ("breaks", rows(&txn, table::BREAKS)),
        ("segments", rows(&txn, table::SEGMENTS)),
        ("pruned", rows(&txn, table::PRUNED)),
        ("holds", rows(&txn, table::HOLDS)),
        ("meta", rows(&txn, table::META)),
    ]
}

/// Both records hold the same, table by table, and answer the same.
fn same(one: &Path, other: &Path) {
    for dir in [one, other] {
        let mut store = store(dir);
        while store.index().unwrap() {}
    }
    for ((name, one), (_, other)) in tables(one).into_iter().zip(tables(other)) {
        assert!(one == other, "{name}: {} rows, and {}", one.len(), other.len());
    }
    let (one, other) =
        (Reader::open(one, Some(master())).unwrap(), Reader::open(other, Some(master())).unwrap());
    assert_eq!(one.status().unwrap(), other.status().unwrap());
    let filters = [
        Filter::default(),
        Filter { tenant: Some(Name::new("acme").unwrap()), ..Filter::default() },
        Filter { state: Some(State::Completed), ..Filter::default() },
        Filter { anomalies: true, ..Filter::default() },
        Filter { from: Some(at(3)), to: Some(at(9)), ..Filter::default() },
    ];
    for filter in filters {
        assert_eq!(one.query(&filter).unwrap(), other.query(&filter).unwrap(), "{filter:?}");
    }
    for record in one.tail(0, 10).unwrap() {
        let opened = one.body(&record).unwrap();
        assert!(!matches!(opened, Opened::Lost), "negative control: the bodies open");
        assert_eq!(opened, other.body(&record).unwrap());
    }
    assert_eq!(one.overdue(at(100_000), 100).unwrap(), other.overdue(at(100_000), 100).unwrap());
}

/// The record is whole, against the key that signs it.
fn whole(dir: &Path) {
    let trust = Trust { key: Some(public()), pinned: Vec::new() };
    let reader = Reader::open(dir, None).unwrap();
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
}

fn public() -> PublicKey {
    keys().signer.public()
}

fn backup(reader: &Reader, to: &Path) -> copy::Backup {
    reader.backup(to, Some(&public()), at(0), &mut |_, _| {}).unwrap()
}

fn restore(from: &Path, to: &Path) -> Result<copy::Made, copy::CopyError> {
    copy::restore(from, Some(to), Some(&public()), &mut |_, _| {})
}

fn export(reader: &Reader, to: &Path, form: Form, since: u64) -> PathBuf {
    let extent = Extent { form, since, bodies: true };
    reader.export_extent(to, extent, &public(), &mut |_, _| {}).unwrap();
    to.to_owned()
}

/// A signed record of these items, and closed.
fn signed(dir: &Path, batches: &[Vec<Item>]) {
    let mut store: Store = seeded(dir);
    for batch in batches {
        store.append(batch).unwrap();
    }
    store.checkpoint().unwrap();
}

/// A record that is made anew goes on.
fn goes_on(dir: &Path, with: &[Item]) {
    let mut store = store(dir);
    let before = store.records();
    let appended = store.append(with).unwrap();
    assert!(appended.first == before && appended.records > 0, "{appended:?}");
    store.checkpoint().unwrap();
    drop(store);
    whole(dir);
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}
