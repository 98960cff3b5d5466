//! The record's own file changed, and judged by somebody who holds the public key and one earlier checkpoint.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::ReadableTable as _;

use super::super::{Fault, Level, Problem, Trust, body_fault};
use super::tamper;
use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::export::Form;
use crate::fixture::{keys, road, small, store};
use crate::leaf::leaf_hash;
use crate::read::Reader;
use crate::store::{Options, Store, file};
use crate::table;
use crate::verify::Report;

/// Its name, a change of the tables, and what is found: index, place, fault.
type Case = (&'static str, fn(&redb::WriteTransaction), Vec<(Option<u64>, Option<&'static str>, Fault)>);

/// Places in the file that are tried.
const STRATA: usize = 250;

/// 603 records, of which 300 and 600 were signed; the first checkpoint is what the outsider kept.
fn signed(dir: &Path) -> Trust {
    let mut store = store(dir);
    store.append(&road(100)).unwrap();
    let note = store.checkpoint().unwrap();
    store.append(&road(200)).unwrap();
    store.checkpoint().unwrap();
    store.append(&road(201)).unwrap();
    let key = keys().signer.public();
    let pinned: Checkpoint = key.open(&note).unwrap();
    Trust { key: Some(key), pinned: vec![pinned] }
}

fn report(dir: &Path, level: Level, trust: &Trust) -> Report {
    Reader::open(dir, None).unwrap().verify_against(level, trust, &mut |_, _| {}).unwrap()
}

/// Edits a leaf, and its stored hash with it.
fn rewrite(txn: &redb::WriteTransaction, index: u64) -> [u8; 32] {
    let mut rec = txn.open_table(table::REC).unwrap();
    let mut leaf = rec.get(index).unwrap().unwrap().value()[32..].to_vec();
    let at = leaf.windows(5).position(|window| window == b"\"flow" || window == b"\"time").unwrap();
    let digit = leaf[at..].iter().position(u8::is_ascii_digit).unwrap() + at;
    leaf[digit + 3] ^= 1;
    let hash = leaf_hash(&leaf);
    rec.insert(index, [&hash[..], &leaf].concat().as_slice()).unwrap();
    hash
}

fn retile(txn: &redb::WriteTransaction, index: u64, hash: &[u8; 32]) {
    let mut tiles = txn.open_table(table::TILES).unwrap();
    let mut tile = tiles.get((0, index / 256)).unwrap().unwrap().value().to_vec();
    let at = usize::try_from(index % 256).unwrap() * 32;
    tile[at..at + 32].copy_from_slice(hash);
    tiles.insert((0, index / 256), tile.as_slice()).unwrap();
}

#[test]
fn tamper_what_was_written_anew_is_found_by_what_was_signed() {
    let cases: [Case; 7] = [
        ("negative control: nothing", |_| {}, vec![]),
        (
            "a leaf and its hash",
            |txn| {
                rewrite(txn, 41);
            },
            vec![
                (Some(41), None, Fault::Tile),
                (None, Some("records 0 to 299"), Fault::Pinned),
                (None, Some("records 0 to 299"), Fault::Signed),
            ],
        ),
        (
            "a leaf, its hash and its tile",
            |txn| {
                let hash = rewrite(txn, 341);
                retile(txn, 341, &hash);
            },
            // The tile above it does not fit any more, at the record that completes it.
            vec![(Some(511), None, Fault::Tile), (None, Some("records 300 to 599"), Fault::Signed)],
        ),
        (
            "a leaf and its hash that were not signed",
            |txn| {
                rewrite(txn, 601);
            },
            vec![(None, None, Fault::Frontier)],
        ),
        (
            "the records after the first checkpoint, and what signed them",
            |txn| {
                txn.open_table(table::REC).unwrap().retain(|index, _| index < 290).unwrap();
                txn.open_table(table::META).unwrap().insert(table::META_RECORDS, 290).unwrap();
                txn.open_table(table::CHECKPOINTS).unwrap().retain(|_, _| false).unwrap();
            },
            vec![(Some(290), Some("records 290 to 299"), Fault::RolledBack)],
        ),
        (
            "a checkpoint",
            |txn| {
                let mut rows = txn.open_table(table::CHECKPOINTS).unwrap();
                let note = rows.get((1, 600)).unwrap().unwrap().value().to_vec();
                let note = String::from_utf8(note).unwrap().replace("\n600\n", "\n603\n");
                rows.insert((1, 600), note.as_bytes()).unwrap();
            },
            vec![(None, Some("checkpoint of 600 records"), Fault::Checkpoint)],
        ),
        (
            "another history that nobody signed",
            |txn| drop(txn.open_table(table::META).unwrap().insert(table::META_EPOCH, 2).unwrap()),
            vec![(None, Some("history 2"), Fault::Checkpoint)],
        ),
    ];
    for (name, change, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let trust = signed(dir.path());
        tamper(dir.path(), change);
        let report = report(dir.path(), Level::Full, &trust);
        let found: Vec<_> =
            report.problems.iter().map(|p| (p.index, p.position.as_deref(), p.fault)).collect();
        assert_eq!(found.is_empty(), expected.is_empty(), "{name}: {found:?}");
        for problem in &expected {
            assert!(found.contains(problem), "{name}: {found:?}");
        }
        let first = expected.first().and_then(|(index, ..)| *index);
        assert_eq!(report.first().and_then(|problem| problem.index), first, "{name}: {found:?}");
    }
}

#[test]
fn tamper_levels_check_checkpoints_as_far_as_they_read() {
    let dir = tempfile::tempdir().unwrap();
    let trust = signed(dir.path());
    for level in
        [Level::Quick, Level::Full, Level::Since(0), Level::Since(257), Level::Since(600), Level::Since(603)]
    {
        let report = report(dir.path(), level, &trust);
        assert!(report.is_ok() && report.signed == Some(600), "{level:?}: {:?}", report.problems);
    }
    tamper(dir.path(), |txn| {
        rewrite(txn, 599);
    });
    for level in [Level::Quick, Level::Full, Level::Since(257)] {
        let found = report(dir.path(), level, &trust);
        assert!(found.problems.iter().any(|problem| problem.fault == Fault::Signed), "{level:?}");
    }
    let other = crate::Signer::from_bytes(&[6; 32], "tidegate/test").public();
    let stranger = Trust { key: Some(other), pinned: Vec::new() };
    assert!(
        report(dir.path(), Level::Quick, &stranger).problems.iter().any(|p| p.fault == Fault::Checkpoint)
    );
}

#[test]
fn tamper_every_byte_of_every_body_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(167)).unwrap();
    let reader = store.reader();
    let txn = reader.begin().unwrap();
    let bodies = txn.open_table(table::BODY).unwrap();
    let mut flips = 0_u64;
    for record in reader.tail(0, 500).unwrap() {
        let sound = bodies.get(record.leaf.index).unwrap().unwrap().value().to_vec();
        let found = |sealed: &[u8]| body_fault(&record.leaf, Some(sealed)).is_some();
        assert!(!found(&sound), "negative control");
        let mut bad = sound.clone();
        for at in 0..sound.len() {
            bad[at] ^= 1 << (at % 8);
            assert!(found(&bad), "body {}, byte {at}", record.leaf.index);
            bad[at] = sound[at];
            flips += 1;
        }
        assert!(found(&sound[1..]) && found(&[]), "cut short");
    }
    assert!(flips > 100_000, "{flips} flips");
}

#[test]
fn tamper_bytes_of_the_file_never_pass_for_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let trust = signed(dir.path());
    let path = file(dir.path());
    let sound = fs::read(&path).unwrap();
    let lines = |dir: &Path| -> Vec<String> {
        let records = Reader::open(dir, None).unwrap().tail(0, 1_000).unwrap();
        records.into_iter().map(|record| record.line).collect()
    };
    let before = lines(dir.path());
    let mut found = 0;
    for stratum in 0..STRATA {
        let width = sound.len() / STRATA;
        let at = stratum * width + stratum * 7_919 % width;
        let mut bad = sound.clone();
        bad[at] ^= 1 << (stratum % 8);
        fs::write(&path, &bad).unwrap();
        // A page that breaks the reader is one that cannot be read.
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let reader = Reader::open(dir.path(), None).ok()?;
            reader.verify_against(Level::Full, &trust, &mut |_, _| {}).ok()
        }));
        match checked {
            Ok(Some(report)) if report.is_ok() => {
                assert_eq!(lines(dir.path()), before, "byte {at}: whole, and another record");
            }
            _ => found += 1,
        }
    }
    fs::write(&path, &sound).unwrap();
    assert!(report(dir.path(), Level::Full, &trust).is_ok(), "negative control");
    assert!(found > STRATA / 10, "{found} of {STRATA} places are of what is used");
}

#[test]
fn tamper_an_empty_record_in_its_place_is_found_by_what_was_signed() {
    let (full, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trust = signed(full.path());
    drop(store(empty.path()));
    let found = report(empty.path(), Level::Full, &trust);
    let emptied = |problem: &Problem| (problem.index, problem.fault) == (Some(0), Fault::RolledBack);
    assert!(found.problems.iter().any(emptied), "{:?}", found.problems);
    assert!(report(full.path(), Level::Full, &trust).is_ok(), "negative control");
}

#[test]
fn tamper_what_a_break_gave_up_is_told_apart_and_from_where_on() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let options = Options { checkpoint_file: Some(dir.path().join("checkpoints")), ..small() };
    let open = || Store::open(&record, keys(), &options).unwrap();
    let mut store = open();
    store.append(&road(100)).unwrap();
    let first = store.checkpoint().unwrap();
    drop(store);
    let older = fs::read(file(&record)).unwrap();
    let mut store = open();
    store.append(&road(200)).unwrap();
    let second = store.checkpoint().unwrap();
    drop(store);
    fs::write(file(&record), older).unwrap();
    Store::accept_break(&record, keys(), &options).unwrap();
    let mut store = open();
    store.append(&road(150)).unwrap();
    let third = store.checkpoint().unwrap();
    drop(store);

    let key = keys().signer.public();
    let [first, second, third] = [first, second, third].map(|note| key.open(&note).unwrap());
    assert_eq!((second.size, third.size, third.origin.as_str()), (600, 450, "tidegate/test/2"));
    let newer_note = keys().signer.sign(1, 700, [7; 32]);
    let newer = key.open(&newer_note).unwrap();
    let export = dir.path().join("export");
    Reader::open(&record, None).unwrap().export(&export, Form::Lines, &key, &mut |_, _| {}).unwrap();
    type Row<'a> = (Vec<&'a Checkpoint>, Vec<(Option<&'static str>, Fault)>);
    let given_up = (Some("records 300 to 599"), Fault::GivenUp);
    let rows: [Row<'_>; 4] = [
        (vec![&first, &third], vec![]),
        (vec![&first, &second], vec![given_up]),
        // That the new history agrees as far as it goes says nothing of the old one.
        (vec![&first, &second, &third], vec![given_up]),
        // Negative control: what is newer than the break was given up by nobody.
        (vec![&first, &newer], vec![(Some("records 450 to 699"), Fault::RolledBack)]),
    ];
    for (pinned, expected) in rows {
        let trust = Trust { key: Some(key.clone()), pinned: pinned.into_iter().cloned().collect() };
        let told = |report: &Report| -> Vec<(Option<String>, Fault)> {
            report.problems.iter().map(|problem| (problem.position.clone(), problem.fault)).collect()
        };
        let expected: Vec<_> =
            expected.into_iter().map(|(places, fault)| (places.map(str::to_owned), fault)).collect();
        assert_eq!(told(&report(&record, Level::Full, &trust)), expected);
        let bundle = bundle::verify(&export, &key, &trust, &mut |_, _| {}).unwrap();
        assert_eq!(told(&bundle.report), expected, "of an export");
    }
    // A break that nobody accepted, planted with a note of the history that goes on, excuses nothing.
    let plain = dir.path().join("plain");
    let mut store = crate::fixture::store(&plain);
    store.append(&road(100)).unwrap();
    store.checkpoint().unwrap();
    let export = dir.path().join("planted");
    store.reader().export(&export, Form::Lines, &key, &mut |_, _| {}).unwrap();
    let planted = serde_json::json!({ "epoch": 2, "note": newer_note });
    fs::write(export.join("breaks"), format!("{planted}\n")).unwrap();
    let trust = Trust { key: Some(key.clone()), pinned: vec![newer] };
    let found = bundle::verify(&export, &key, &trust, &mut |_, _| {}).unwrap().report.problems;
    assert_eq!(found.iter().map(|one| one.fault).collect::<Vec<_>>(), [Fault::RolledBack]);
    // The record alone knows how far it agrees, where nothing else was kept of the old history.
    let trust = Trust { key: Some(key), pinned: vec![second, third] };
    let found = report(&record, Level::Full, &trust);
    assert_eq!(found.problems[0].position.as_deref(), Some("records 300 to 599"), "{:?}", found.problems);
}

#[test]
fn tamper_counts_that_were_raised_are_not_searched_for_years() {
    let dir = tempfile::tempdir().unwrap();
    let trust = signed(dir.path());
    assert!(report(dir.path(), Level::Full, &trust).is_ok(), "negative control");
    let raised = |names: &[&str]| {
        let db = crate::store::builder(1024 * 1024).open(file(dir.path())).unwrap();
        let txn = crate::store::write(&db).unwrap();
        for name in names {
            txn.open_table(table::META).unwrap().insert(name, 1_u64 << 60).unwrap();
        }
        txn.commit().unwrap();
    };
    for names in [&[table::META_RECORDS][..], &[table::META_RECORDS, table::META_LIVE_FIRST]] {
        raised(names);
        for level in [Level::Quick, Level::Full] {
            let mut found = report(dir.path(), level, &trust);
            assert!(!found.is_ok(), "{names:?}, {level:?}");
            let reader = Reader::open(dir.path(), None).unwrap();
            // Keys are looked at of a record that is whole; here only that it ends.
            let _ = reader.verify_keys(&crate::fixture::master(), &mut found, &mut |_, _| {});
        }
    }
}
