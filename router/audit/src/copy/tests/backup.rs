//! Backups: while the recorder writes, step by step, and what is no backup of ours.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{backup, goes_on, lines, public, restore, same, signed, whole};
use crate::checkpoint::Signer;
use crate::copy::{self, CopyError, EpochNote, Manifest, merge};
use crate::error::OpenError;
use crate::fixture::{at, items, keys, road, small, store, task, task_of};
use crate::read::Reader;
use crate::store::{Options, Store};
use crate::verify::{Level, Trust};

/// How a backup is changed, and what is said of it.
type Case = (&'static str, fn(&Path), fn(&CopyError) -> bool);

#[test]
fn backup_holds_what_was_recorded_when_it_began_while_the_recorder_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    store.append(&road(300)).unwrap();
    store.checkpoint().unwrap();
    let (reader, done) = (Reader::open(&dir.path().join("record"), None).unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tasks = 300;
            while !done.load(Ordering::Relaxed) {
                tasks += 1;
                store.append(&road(tasks)[(tasks as usize - 1) * 3..]).unwrap();
                store.checkpoint().unwrap();
            }
        });
        for round in ["a", "b", "c"] {
            let held = backup(&reader, &dir.path().join("backup")).manifest.records;
            let made = restore(&dir.path().join("backup"), &dir.path().join(round)).unwrap();
            assert_eq!(made.records, held);
        }
        done.store(true, Ordering::Relaxed);
    });
    for round in ["a", "b", "c"] {
        whole(&dir.path().join(round));
    }
    let [a, c] =
        ["a", "c"].map(|round| Reader::open(&dir.path().join(round), None).unwrap().status().unwrap());
    assert!(a.records >= 900 && c.records > a.records, "negative control: it grew meanwhile");
}

#[test]
fn backup_adds_only_what_came_since_and_forgets_old_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    let mut store = store(&record);
    let empty = backup(&store.reader(), &to);
    assert_eq!((empty.added, empty.signed, empty.manifest.checkpoint), (0, 0, None));
    store.append(&road(50)).unwrap();
    store.checkpoint().unwrap();
    let first = backup(&store.reader(), &to);
    assert_eq!((first.added, first.signed), (150, 150));
    let before = fs::read(to.join("parts/000002.jsonl")).unwrap();
    store.append(&road(60)).unwrap();
    let unsigned = backup(&store.reader(), &to);
    assert_eq!((unsigned.added, unsigned.signed), (30, 150));
    store.checkpoint().unwrap();
    let noted = backup(&store.reader(), &to);
    assert_eq!((noted.added, noted.signed), (0, 180), "a checkpoint alone is something new");
    assert_eq!(lines(&to.join("parts/000003.jsonl")).len(), 30);
    assert_eq!(lines(&to.join("parts/000003.keys")).len(), 11, "a key a task, and the counts");
    assert_eq!(fs::read(to.join("parts/000002.jsonl")).unwrap(), before, "what is there stays");
    let keys: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let keys = keys.iter().filter(|name| name.to_string_lossy().starts_with("keys-")).count();
    assert_eq!(keys, 1, "what is erased later must not live on in an older key file");
    drop(store);
    restore(&to, &dir.path().join("restored")).unwrap();
    same(&record, &dir.path().join("restored"));
    goes_on(&dir.path().join("restored"), &items([task(61, 61)]));

    let other = dir.path().join("other");
    signed(&other, &[road(70)]);
    let refused = Reader::open(&other, None).unwrap().backup(&to, Some(&public()), at(0), &mut |_, _| {});
    assert!(matches!(refused, Err(CopyError::Another { .. })), "{refused:?}");
    let stranger = Signer::from_bytes(&[6; 32], "tidegate/test").public();
    let refused = Reader::open(&record, None).unwrap().backup(&to, Some(&stranger), at(0), &mut |_, _| {});
    assert!(matches!(refused, Err(CopyError::Prove(_))), "{refused:?}");
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("letter.txt"), "mine").unwrap();
    let refused = Reader::open(&record, None).unwrap().backup(&files, None, at(0), &mut |_, _| {});
    assert!(matches!(refused, Err(CopyError::There { .. })), "{refused:?}");
}

#[test]
fn backup_that_was_changed_is_refused_and_leaves_nothing() {
    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    fn manifest(dir: &Path, from: &str, to: &str) {
        let path = dir.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
    let cases: [Case; 11] = [
        ("a leaf", |dir| flip(&dir.join("parts/000001.jsonl"), 500), |_| true),
        (
            "a body",
            |dir| flip(&dir.join("parts/000001.bodies"), 50),
            |error| matches!(error, CopyError::Record { index: 0, .. }),
        ),
        (
            "a wrapped key",
            |dir| {
                let path = dir.join("parts/000001.keys");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replacen("\"key\":1,", "\"key\":9,", 1)).unwrap();
            },
            |error| matches!(error, CopyError::Changed { .. }),
        ),
        (
            "the key file",
            |dir| flip(&dir.join("keys-000001.bin"), 40),
            |error| matches!(error, CopyError::Changed { .. }),
        ),
        (
            "a checkpoint",
            |dir| flip(&dir.join("parts/000001.notes"), 30),
            |error| matches!(error, CopyError::Changed { .. } | CopyError::Form { .. }),
        ),
        (
            "cut short",
            |dir| {
                let path = dir.join("parts/000001.jsonl");
                let text = fs::read(&path).unwrap();
                fs::write(path, &text[..text.len() - 10]).unwrap();
            },
            |error| matches!(error, CopyError::Changed { .. }),
        ),
        (
            "a file that is gone",
            |dir| fs::remove_file(dir.join("parts/000001.bodies")).unwrap(),
            |error| matches!(error, CopyError::File { .. }),
        ),
        ("the root", |dir| manifest(dir, "\"root\": \"", "\"root\": \"f"), |_| true),
        (
            "fewer records",
            |dir| manifest(dir, "\"records\": 150", "\"records\": 149"),
            |error| matches!(error, CopyError::Form { .. }),
        ),
        (
            "another place",
            |dir| manifest(dir, "parts/000001.jsonl", "../../etc/passwd"),
            |error| matches!(error, CopyError::Form { .. }),
        ),
        (
            "a newer form",
            |dir| manifest(dir, "\"form\": 1", "\"form\": 2, \"more\": []"),
            |error| matches!(error, CopyError::Version { found: 2, known: 1 }),
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    signed(&dir.path().join("record"), &[road(50)]);
    let reader = Reader::open(&dir.path().join("record"), None).unwrap();
    let never = dir.path().join("never");
    for (name, change, expected) in cases {
        let to = dir.path().join(name);
        backup(&reader, &to);
        let made = copy::restore(&to, None, Some(&public()), &mut |_, _| {});
        assert_eq!(made.unwrap().records, 150, "negative control");
        change(&to);
        let refused = restore(&to, &never).unwrap_err();
        assert!(expected(&refused), "{name}: {refused}");
        assert!(copy::restore(&to, None, None, &mut |_, _| {}).is_err(), "{name}: also without a key");
        assert!(!never.exists() && !never.with_extension("partial").exists(), "{name}: nothing is left");
    }
    let to = dir.path().join("good");
    backup(&reader, &to);
    let other = Signer::from_bytes(&[6; 32], "tidegate/test").public();
    let refused = copy::restore(&to, Some(&never), Some(&other), &mut |_, _| {});
    assert!(matches!(refused, Err(CopyError::Note { .. })), "{refused:?}");
    let refused = restore(&to, &dir.path().join("record"));
    assert!(matches!(refused, Err(CopyError::There { .. })), "{refused:?}");
    let refused = restore(&dir.path().join("record"), &never);
    assert!(matches!(refused, Err(CopyError::Form { .. })), "{refused:?}");
}

#[test]
fn backup_needs_a_break_only_where_more_was_signed_since() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    let options = Options { checkpoint_file: Some(dir.path().join("checkpoints")), ..small() };
    let mut store = Store::open(&record, keys(), &options).unwrap();
    store.append(&road(10)).unwrap();
    store.checkpoint().unwrap();
    backup(&store.reader(), &to);
    drop(store);
    fs::remove_dir_all(&record).unwrap();
    restore(&to, &record).unwrap();
    let mut store = Store::open(&record, keys(), &options).unwrap();
    assert_eq!(store.records(), 30, "nothing was signed since: it goes on");

    store.append(&road(20)).unwrap();
    let lost = store.checkpoint().unwrap();
    drop(store);
    fs::remove_dir_all(&record).unwrap();
    restore(&to, &record).unwrap();
    let refused = Store::open(&record, keys(), &options).err();
    assert!(matches!(refused, Some(OpenError::Fork { signed: 60, records: 30, .. })), "{refused:?}");
    assert_eq!(Store::accept_break(&record, keys(), &options).unwrap(), lost);
    let mut store = Store::open(&record, keys(), &options).unwrap();
    store.append(&road(21)).unwrap();
    let pinned = public().open(&store.checkpoint().unwrap()).unwrap();
    assert_eq!((pinned.origin.as_str(), pinned.size), ("tidegate/test/2", 63));

    // The backup goes on too, and the break is in it.
    let grown = backup(&store.reader(), &to);
    assert_eq!((grown.added, grown.manifest.epoch, grown.manifest.breaks.len()), (33, 2, 1));
    drop(store);
    restore(&to, &dir.path().join("again")).unwrap();
    same(&record, &dir.path().join("again"));
    let reader = Reader::open(&dir.path().join("again"), None).unwrap();
    let trust = Trust { key: Some(public()), pinned: vec![pinned] };
    let report = reader.verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.epoch == 2, "{:?}", report.problems);
}

#[test]
fn backup_of_a_record_that_did_not_grow_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    signed(&record, &[road(20)]);
    let reader = Reader::open(&record, None).unwrap();
    let first = backup(&reader, &to);
    let size = |dir: &Path| fs::metadata(dir.join("manifest.json")).unwrap().len();
    let before = (size(&to), fs::read_dir(to.join("parts")).unwrap().count());
    for _ in 0..3 {
        let again = backup(&reader, &to).manifest;
        assert_eq!(
            (again.parts, again.wrapped),
            (first.manifest.parts.clone(), first.manifest.wrapped.clone())
        );
    }
    assert_eq!((size(&to), fs::read_dir(to.join("parts")).unwrap().count()), before);
    restore(&to, &dir.path().join("restored")).unwrap();
    same(&record, &dir.path().join("restored"));
}

#[test]
fn backup_makes_one_part_of_two_before_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    let mut store = store(&record);
    for tasks in 1..=6 {
        let there = usize::try_from(store.records()).unwrap();
        store.append(&road(tasks * tasks)[there..]).unwrap();
        store.checkpoint().unwrap();
        backup(&store.reader(), &to);
    }
    let mut manifest = Manifest::read(&to).unwrap().unwrap();
    assert_eq!((manifest.parts.len(), manifest.wrapped.len()), (6, 6), "negative control: few stay");
    merge::parts(&to, &mut manifest, 7, 2).unwrap();
    manifest.write(&to).unwrap();
    let parts: Vec<_> = manifest.parts.iter().map(|part| (part.first, part.records)).collect();
    assert_eq!(parts, [(0, 48), (48, 60)], "the small ones came together first");
    // Once more with what came since: what no manifest names any more goes.
    store.append(&road(37)[108..]).unwrap();
    store.checkpoint().unwrap();
    backup(&store.reader(), &to);
    assert_eq!(fs::read_dir(to.join("parts")).unwrap().count(), 3 * 3 + 7, "leaves, bodies, notes; keys");
    drop(store);
    restore(&to, &dir.path().join("restored")).unwrap();
    same(&record, &dir.path().join("restored"));
    // What is not as the manifest says is not made a part of anything.
    let mut manifest = Manifest::read(&to).unwrap().unwrap();
    let bodies = to.join(&manifest.parts[1].bodies.name);
    let mut bytes = fs::read(&bodies).unwrap();
    bytes[40] ^= 1;
    fs::write(&bodies, bytes).unwrap();
    let refused = merge::parts(&to, &mut manifest, 9, 1);
    assert!(matches!(refused, Err(CopyError::Changed { .. })), "{refused:?}");
}

#[test]
fn backup_whose_manifest_could_not_be_read_again_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    signed(&record, &[road(5)]);
    backup(&Reader::open(&record, None).unwrap(), &to);
    let before = fs::read(to.join("manifest.json")).unwrap();
    let good = Manifest::read(&to).unwrap().unwrap();
    let long = EpochNote { epoch: 2, note: "x".repeat(65 << 20) };
    let refused = Manifest { breaks: vec![long], ..good.clone() }.write(&to).unwrap_err();
    assert!(refused.to_string().contains("begin another directory"), "{refused}");
    assert_eq!(fs::read(to.join("manifest.json")).unwrap(), before);
    good.write(&to).unwrap();
    assert_eq!(fs::read(to.join("manifest.json")).unwrap(), before, "negative control");
}

#[test]
fn backup_holds_no_key_that_was_made_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (record, to) = (dir.path().join("record"), dir.path().join("backup"));
    let mut store = store(&record);
    // Each task has a key of its own.
    store.append(&items((1..=5).map(|n| task_of(n, n, &[])))).unwrap();
    store.checkpoint().unwrap();
    backup(&store.reader(), &to);
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let counted = crate::keys::file::bytes(2 + 5);
    assert_eq!(length(&to.join("keys-000001.bin")), counted);
    assert!(length(&record.join("keys.bin")) > counted, "negative control: the record's own file has some");
    drop(store);
    restore(&to, &dir.path().join("restored")).unwrap();
    goes_on(&dir.path().join("restored"), &items((6..=9).map(|n| task_of(n, n, &[]))));
}
