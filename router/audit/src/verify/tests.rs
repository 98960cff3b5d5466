#![expect(clippy::unwrap_used, reason = "tests")]

mod keys;
mod signed;

use redb::{Database, ReadableTable as _};

use super::{Fault, Level};
use crate::fixture::{master, road, store};
use crate::read::Reader;
use crate::store::{builder, file, write};
use crate::table;

/// Its name, a change of the tables, and the faults that it makes.
type Case = (&'static str, fn(&redb::WriteTransaction), Vec<(Option<u64>, Fault)>);

/// Changes a row through redb's own interface, as somebody who holds the file can.
fn tamper(dir: &std::path::Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db: Database = builder(1024 * 1024).open(file(dir)).unwrap();
    let txn = write(&db).unwrap();
    change(&txn);
    txn.commit().unwrap();
}

fn flip(row: &[u8], at: usize) -> Vec<u8> {
    let mut row = row.to_vec();
    row[at] ^= 1;
    row
}

fn faults(dir: &std::path::Path, level: Level) -> Vec<(Option<u64>, Fault)> {
    let reader = Reader::open(dir, Some(master())).unwrap();
    let report = reader.verify(level, &mut |_, _| {}).unwrap();
    report.problems.iter().map(|problem| (problem.index, problem.fault)).collect()
}

#[test]
fn each_change_is_found_where_it_is() {
    let cases: [Case; 9] = [
        ("negative control: nothing", |_| {}, vec![]),
        (
            "a byte of a leaf",
            |txn| {
                let mut rec = txn.open_table(table::REC).unwrap();
                let row = rec.get(4).unwrap().unwrap().value().to_vec();
                let at = row.windows(5).position(|window| window == b"\"acme").unwrap();
                rec.insert(4, flip(&row, at + 2).as_slice()).unwrap();
            },
            vec![(Some(4), Fault::LeafHash)],
        ),
        (
            "a byte of a leaf's hash",
            |txn| {
                let mut rec = txn.open_table(table::REC).unwrap();
                let row = flip(rec.get(4).unwrap().unwrap().value(), 3);
                rec.insert(4, row.as_slice()).unwrap();
            },
            vec![(Some(4), Fault::LeafHash)],
        ),
        (
            "a byte of a body",
            |txn| {
                let mut body = txn.open_table(table::BODY).unwrap();
                let row = flip(body.get(2).unwrap().unwrap().value(), 60);
                body.insert(2, row.as_slice()).unwrap();
            },
            vec![(Some(2), Fault::BodyChanged)],
        ),
        (
            "a body gone",
            |txn| drop(txn.open_table(table::BODY).unwrap().remove(2).unwrap()),
            vec![(Some(2), Fault::BodyMissing)],
        ),
        (
            "a record gone",
            |txn| drop(txn.open_table(table::REC).unwrap().remove(3).unwrap()),
            vec![(Some(3), Fault::Missing), (None, Fault::Conservation)],
        ),
        (
            "two records changed about",
            |txn| {
                let mut rec = txn.open_table(table::REC).unwrap();
                let (a, b) = (
                    rec.get(0).unwrap().unwrap().value().to_vec(),
                    rec.get(3).unwrap().unwrap().value().to_vec(),
                );
                rec.insert(0, b.as_slice()).unwrap();
                rec.insert(3, a.as_slice()).unwrap();
            },
            vec![
                (Some(0), Fault::LeafIndex),
                (Some(0), Fault::Source),
                (Some(0), Fault::BodyChanged),
                (Some(3), Fault::LeafIndex),
                (Some(3), Fault::Source),
                (Some(3), Fault::BodyChanged),
            ],
        ),
        (
            "a sequence forgotten",
            |txn| drop(txn.open_table(table::SRC).unwrap().remove(&table::source(1, 2)).unwrap()),
            vec![(Some(3), Fault::Source), (Some(4), Fault::CauseMissing), (None, Fault::Sequence)],
        ),
        (
            "a task forgotten",
            |txn| {
                let mut tasks = txn.open_table(table::TASKS).unwrap();
                let key = tasks.first().unwrap().unwrap().0.value().to_vec();
                tasks.remove(key.as_slice()).unwrap();
            },
            vec![(Some(2), Fault::Terminal), (None, Fault::Conservation)],
        ),
    ];
    for (name, change, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path()).append(&road(3)).unwrap();
        tamper(dir.path(), change);
        let mut found = faults(dir.path(), Level::Full);
        let mut expected = expected;
        found.sort_by_key(|(index, fault)| (*index, format!("{fault:?}")));
        expected.sort_by_key(|(index, fault)| (*index, format!("{fault:?}")));
        assert_eq!(found, expected, "{name}");
        assert_eq!(faults(dir.path(), Level::Since(0)), faults(dir.path(), Level::Full), "{name}");
    }
}

#[test]
fn a_quick_check_reads_the_newest_records() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).append(&road(400)).unwrap();
    let change = |index: u64| {
        tamper(dir.path(), |txn| {
            let mut body = txn.open_table(table::BODY).unwrap();
            let row = flip(body.get(index).unwrap().unwrap().value(), 60);
            body.insert(index, row.as_slice()).unwrap();
        });
    };
    change(10);
    assert_eq!(faults(dir.path(), Level::Quick), []);
    change(1_190);
    assert_eq!(faults(dir.path(), Level::Quick), [(Some(1_190), Fault::BodyChanged)]);
    assert_eq!(faults(dir.path(), Level::Full).len(), 2);
}

#[test]
fn tamper_is_told_in_order_whichever_thread_reads_it() {
    // Three chunks; each change is in another one, or at a border.
    let changed = [10, 4_095, 4_096, 8_191, 8_999];
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).append(&road(3_000)).unwrap();
    // Negative control.
    assert_eq!(faults(dir.path(), Level::Full), []);
    tamper(dir.path(), |txn| {
        let mut body = txn.open_table(table::BODY).unwrap();
        for index in changed {
            let row = flip(body.get(index).unwrap().unwrap().value(), 60);
            body.insert(index, row.as_slice()).unwrap();
        }
        txn.open_table(table::REC).unwrap().remove(4_500).unwrap();
    });
    let mut expected: Vec<_> = changed.map(|index| (Some(index), Fault::BodyChanged)).into();
    expected.insert(3, (Some(4_500), Fault::Missing));
    expected.push((None, Fault::Conservation));
    for _ in 0..5 {
        assert_eq!(faults(dir.path(), Level::Full), expected);
    }
    let mut told = Vec::new();
    let reader = Reader::open(dir.path(), None).unwrap();
    let report = reader.verify(Level::Since(4_097), &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!((report.records, report.bodies), (4_902, 4_902));
    assert_eq!(told, [(4_096, 4_903), (4_903, 4_903)]);
}
