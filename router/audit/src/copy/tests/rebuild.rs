//! From exports: ranges one after the other, what is missing, what was changed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use super::{backup, export, goes_on, lines, public, same, whole};
use crate::bundle;
use crate::copy::{CopyError, Made, Rebuild, rebuild};
use crate::export::Form;
use crate::fixture::{CANARY, items, road, store, task};
use crate::read::{Filter, Opened, Reader};
use crate::verify::{Fault, Level, Trust};

/// How an export is changed, and what is said of it.
type Case = (&'static str, fn(&Path), fn(&CopyError) -> bool);

/// A record that is signed at 300 and at 600 records, and its exports: all of the first, both of the second from within.
fn exported(dir: &Path) -> Vec<PathBuf> {
    let mut store = store(&dir.join("record"));
    store.append(&road(100)).unwrap();
    store.checkpoint().unwrap();
    let first = export(&store.reader(), &dir.join("first"), Form::Tiles, 0);
    store.append(&road(200)).unwrap();
    store.checkpoint().unwrap();
    let second = export(&store.reader(), &dir.join("second"), Form::Lines, 300);
    let third = export(&store.reader(), &dir.join("third"), Form::Tiles, 300);
    vec![first, second, third]
}

fn made(dir: &Path, from: &[&PathBuf], to: &str) -> Result<Made, CopyError> {
    let from: Vec<PathBuf> = from.iter().map(|path| (*path).clone()).collect();
    let key_file = dir.join("record/keys.bin");
    let key = public();
    let what = Rebuild { from: &from, key_file: Some(&key_file), key: Some(&key) };
    rebuild(what, &dir.join(to), &mut |_, _| {})
}

#[test]
fn rebuild_from_exports_that_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let all = exported(dir.path());
    let [first, second, third] = all.as_slice() else { unreachable!() };
    assert_eq!(lines(&second.join("records.jsonl")).len(), 300, "a range holds its own records");
    assert!(third.join("tile/entries/001").exists() && !third.join("tile/entries/000").exists());
    for (to, from) in [("a", [first, second]), ("b", [first, third]), ("c", [first, first])] {
        let made = made(dir.path(), &from, to).unwrap();
        let records = if to == "c" { 300 } else { 600 };
        assert_eq!((made.records, made.signed.unwrap().size, made.has_keys), (records, records, true));
        whole(&dir.path().join(to));
    }
    same(&dir.path().join("record"), &dir.path().join("a"));
    same(&dir.path().join("record"), &dir.path().join("b"));
    // A backup is a copy like any other.
    let reader = Reader::open(&dir.path().join("a"), None).unwrap();
    backup(&reader, &dir.path().join("backup"));
    made(dir.path(), &[first, &dir.path().join("backup")], "d").unwrap();
    same(&dir.path().join("record"), &dir.path().join("d"));
    goes_on(&dir.path().join("a"), &items([task(201, 201)]));

    let missing = made(dir.path(), &[second], "e").unwrap_err();
    assert!(matches!(missing, CopyError::Absent { from: 0, to: 299 }), "{missing}");
    assert!(!dir.path().join("e").exists() && !dir.path().join("e.partial").exists());
    let there = made(dir.path(), &[first], "a").unwrap_err();
    assert!(matches!(there, CopyError::There { .. }), "{there}");
}

#[test]
fn rebuild_a_range_of_an_export_is_verified_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let all = exported(dir.path());
    let verify = |dir: &Path| bundle::verify(dir, &public(), &Trust::default(), &mut |_, _| {}).unwrap();
    for (range, from) in all.iter().zip([0, 300, 256]) {
        let found = verify(range);
        assert!(found.report.is_ok(), "{:?}", found.report.problems);
        assert_eq!(found.report.from, from);
        assert_eq!(found.report.from + found.report.records, found.checkpoint.size);
    }
    let path = all[1].join("records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"index\":450,", "\"index\":451,", 1)).unwrap();
    let first = verify(&all[1]).report.first().cloned().unwrap();
    assert_eq!(first.index, Some(450), "{:?}", first.fault);
    // Whoever cuts the beginning off and says so shows fewer records, and no others.
    fs::write(&path, text.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert!(verify(&all[1]).report.problems.iter().any(|problem| problem.fault == Fault::LeafIndex));
}

#[test]
fn rebuild_without_bodies_or_keys_gives_what_the_leaves_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    store.append(&road(10)).unwrap();
    store.checkpoint().unwrap();
    let bare = dir.path().join("bare");
    store.reader().export(&bare, Form::Lines, &public(), &mut |_, _| {}).unwrap();
    let sealed = export(&store.reader(), &dir.path().join("sealed"), Form::Lines, 0);
    for (from, to, missing) in [(bare, "a", 30), (sealed, "b", 0)] {
        let to = dir.path().join(to);
        let from = [from];
        let what = Rebuild { from: &from, key_file: None, key: None };
        let made = rebuild(what, &to, &mut |_, _| {}).unwrap();
        assert_eq!((made.bodies_missing, made.has_keys), (missing, false));
        let reader = Reader::open(&to, None).unwrap();
        assert_eq!(
            reader.query(&Filter::default()).unwrap(),
            store.reader().query(&Filter::default()).unwrap()
        );
        let report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.problems.iter().all(|problem| problem.fault == Fault::BodyMissing));
        assert_eq!(report.problems.len() as u64, missing, "and a verify names what is not there");
        // It goes on under keys of its own; numbers of keys that are gone are not given again.
        drop(reader);
        let mut store = crate::fixture::store(&to);
        store.append(&items([task(11, 11)])).unwrap();
        let record = store.reader().get(30).unwrap().unwrap();
        assert!(matches!(store.reader().body(&record).unwrap(), Opened::Body(_)));
        let before = store.reader().get(0).unwrap().unwrap();
        assert!(!matches!(store.reader().body(&before).unwrap(), Opened::Body(_)));
        assert!(record.leaf.body.unwrap().key > 9);
    }
    let from = [dir.path().join("bare")];
    let key_file = dir.path().join("record/keys.bin");
    let what = Rebuild { from: &from, key_file: Some(&key_file), key: None };
    let refused = rebuild(what, &dir.path().join("c"), &mut |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("--bodies"), "{refused}");
}

#[test]
fn rebuild_refuses_what_was_changed_and_names_the_record() {
    fn line(dir: &Path, change: impl FnOnce(&mut Vec<String>)) {
        let path = dir.join("records.jsonl");
        let mut all = lines(&path);
        change(&mut all);
        fs::write(path, all.join("\n") + "\n").unwrap();
    }
    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let cases: [Case; 9] = [
        (
            "a leaf",
            |dir| line(dir, |all| all[177] = all[177].replace("acme", "acne")),
            |error| matches!(error, CopyError::Record { index: 177, .. }),
        ),
        (
            "two leaves exchanged",
            |dir| line(dir, |all| all.swap(20, 23)),
            |error| matches!(error, CopyError::Record { index: 20, .. }),
        ),
        (
            "a leaf taken out",
            |dir| line(dir, |all| drop(all.remove(33))),
            |error| matches!(error, CopyError::Record { index: 33, .. }),
        ),
        (
            "cut short",
            |dir| line(dir, |all| all.truncate(599)),
            |error| matches!(error, CopyError::Record { index: 599, .. }),
        ),
        (
            "a sealed body",
            |dir| flip(&dir.join("bodies"), 4 + 30),
            |error| matches!(error, CopyError::Record { index: 0, what: crate::copy::rows::BODY, .. }),
        ),
        (
            "a hash in a tile",
            |dir| flip(&dir.join("tile/0/001"), 32 * 4),
            |error| matches!(error, CopyError::Record { index: 260, .. }),
        ),
        (
            "a leaf and its hash",
            |dir| {
                line(dir, |all| all[300] = all[300].replace("bot", "bob"));
                let hash = crate::leaf::leaf_hash(lines(&dir.join("records.jsonl"))[300].as_bytes());
                let path = dir.join("tile/0/001");
                let mut tile = fs::read(&path).unwrap();
                tile[44 * 32..45 * 32].copy_from_slice(&hash);
                fs::write(path, tile).unwrap();
            },
            |error| matches!(error, CopyError::Root { from: 300, to: 599, .. }),
        ),
        (
            "a checkpoint",
            |dir| {
                let path = dir.join("checkpoint");
                let note = fs::read_to_string(&path).unwrap();
                fs::write(path, note.replace("\n600\n", "\n599\n")).unwrap();
            },
            |error| matches!(error, CopyError::Note { .. }),
        ),
        (
            "a key that is none",
            |dir| fs::write(dir.join("keys"), CANARY).unwrap(),
            |error| matches!(error, CopyError::Form { .. }),
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    store.append(&road(100)).unwrap();
    store.checkpoint().unwrap();
    store.append(&road(200)).unwrap();
    store.checkpoint().unwrap();
    for (name, change, expected) in cases {
        let from = export(&store.reader(), &dir.path().join(name), Form::Lines, 0);
        let control = made(dir.path(), &[&from], "control");
        assert!(control.is_ok(), "negative control: {control:?}");
        fs::remove_dir_all(dir.path().join("control")).unwrap();
        change(&from);
        let refused = made(dir.path(), &[&from], "never").unwrap_err();
        assert!(expected(&refused), "{name}: {refused}");
        assert!(!refused.to_string().contains(CANARY), "{name}: an error quotes nothing");
        assert!(!dir.path().join("never").exists(), "{name}: nothing is left");
    }
}
