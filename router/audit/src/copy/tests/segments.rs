//! Records in segments, some of them pruned, held and erased: what comes out is as it was, and stays away where it went.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use tidegate_schemas::control::{Act, HoldTarget};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Identifier, Name};
use uuid::Uuid;

use super::{backup, export, goes_on, lines, public, restore, same, tables, whole};
use crate::copy::{CopyError, Rebuild, rebuild};
use crate::erase::{Erasure, ErasureState};
use crate::error::SegmentError;
use crate::export::{Form, STATE};
use crate::fixture::{
    self, CANARY, act, at, cancel, erase, items, master, road, seeded, task, task_id, task_of,
};
use crate::read::{Filter, Opened, Reader};
use crate::retain::Block;
use crate::retain::tests::say;
use crate::segment::{Part, Sealing};
use crate::store::Store;

pub(crate) const HELD: Uuid = Uuid::from_u128(1);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Seals the whole tiles that there are.
pub(crate) fn seal(store: &mut Store) {
    store.checkpoint().unwrap();
    while store.index().unwrap() {}
    let sealing = Sealing { bytes: 1, age: SignedDuration::ZERO };
    let sealed = store.reader().seal(&sealing, at(0)).unwrap().unwrap();
    store.name(&sealed).unwrap();
    while store.tidy().unwrap() {}
}

pub(crate) fn hold(store: &mut Store, id: Uuid, target: HoldTarget) {
    let sequence = store.next_sequence("EVENTS");
    let said = Act::HoldAdd { hold: id, target, until: None };
    store.append(&items([act("olga", sequence, &said)])).unwrap();
}

pub(crate) fn prune(store: &mut Store, part: Part, first: u64) -> Result<(), SegmentError> {
    let segment = store.reader().begin().unwrap().segments().unwrap();
    let records = segment.iter().find(|segment| segment.first == first).unwrap().len();
    let said = say(store, part, first, records);
    store.prune(part, first, said, at(0))?;
    while store.tidy().unwrap() {}
    Ok(())
}

/// Erases a person of whom task 1,000 is.
pub(crate) fn erase_person(store: &mut Store) {
    let reader = store.reader();
    let subject = Identifier::new("customer-2").unwrap();
    let known = reader.data_subject(&name("acme"), &subject).unwrap().unwrap().references;
    let event = store.next_sequence("EVENTS");
    store.append(&items([erase(event, &known)])).unwrap();
    let held = reader.holding(&name("acme"), &known, &mut |_| Ok(())).unwrap();
    let erasure = Erasure {
        event,
        operator: name("olga"),
        tenant: name("acme"),
        subjects: known,
        begun: at(0),
        records: held.records,
        messages: 0,
        counted: false,
        state: ErasureState::Waiting,
        waits: None,
        act: None,
    };
    store.destroy(&erasure, &held.rows).unwrap();
    store.forget(&held.tasks, &held.keys).unwrap();
    let state = ErasureState::Ended(tidegate_schemas::control::EraseOutcome::Erased);
    store.keep_erasure(&Erasure { state, ..erasure }).unwrap();
}

fn opened(reader: &Reader) -> Vec<(u64, Opened)> {
    let records = reader.tail(0, 10_000).unwrap();
    records.iter().map(|record| (record.leaf.index, reader.body(record).unwrap())).collect()
}

fn count(opened: &[(u64, Opened)], is: fn(&Opened) -> bool) -> usize {
    opened.iter().filter(|(_, opened)| is(opened)).count()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().path().file_name().unwrap().into()).collect()
}

/// Both hold the same, but for the lagging index of blocks of which a part is pruned.
fn alike(one: &Path, other: &Path) {
    for ((name, one), (_, other)) in tables(one).into_iter().zip(tables(other)) {
        if !["terms", "windows", "meta"].contains(&name) {
            assert!(one == other, "{name}: {} rows, and {}", one.len(), other.len());
        }
    }
    let files = |dir: &Path| files(&dir.join("segments"));
    assert_eq!(files(one), files(other));
    let [one, other] = [one, other].map(|dir| Reader::open(dir, Some(master())).unwrap());
    assert_eq!(one.status().unwrap(), other.status().unwrap());
    assert_eq!(one.legal_holds().unwrap(), other.legal_holds().unwrap());
    assert_eq!(one.erasures().unwrap(), other.erasures().unwrap());
    assert_eq!(opened(&one), opened(&other));
    let filters = [
        Filter { limit: Some(10_000), ..Filter::default() },
        Filter { tenant: Some(name("acme")), limit: Some(10_000), ..Filter::default() },
        Filter { task: Some(task_id(2)), ..Filter::default() },
        Filter { task: Some(task_id(300)), ..Filter::default() },
        Filter { from: Some(at(3)), to: Some(at(250)), limit: Some(10_000), ..Filter::default() },
    ];
    for filter in filters {
        assert_eq!(one.query(&filter).unwrap(), other.query(&filter).unwrap(), "{filter:?}");
    }
    let proven = |reader: &Reader| reader.prove_completeness(&public(), &mut |_, _| {}).unwrap();
    let ((head, accounts), (_, others)) = (proven(&one), proven(&other));
    assert!(head.checkpoint.size > 1_024 && accounts == others);
    assert!(accounts.iter().all(|account| account.is_complete()));
}

/// Writes a backup's state anew, and what the manifest says of it.
fn restate(backup: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = backup.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let state = backup.join(manifest["state"]["name"].as_str().unwrap());
    let mut said: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    change(&mut said);
    let bytes = serde_json::to_vec(&said).unwrap();
    manifest["state"]["bytes"] = bytes.len().into();
    manifest["state"]["sha256"] = Digest::plain(&bytes).to_string().into();
    fs::write(&state, bytes).unwrap();
    fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn backup_of_segments_prunings_holds_and_erasures_gives_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let (record, to) = (of("record"), of("backup"));
    let mut store = seeded(&record);
    store.append(&road(200)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(backup(&store.reader(), &to).added, 600, "all of it is in the live file");
    seal(&mut store);
    store.append(&road(400)[600..]).unwrap();
    store.append(&items([task_of(1_000, 401, &["customer-2"]), cancel(2, 402)])).unwrap();
    let ended = fixture::result(1_000, 401, "TASKS_acme:401", "failed");
    store.append(&items([ended])).unwrap();
    hold(&mut store, HELD, HoldTarget::Task { task: task_id(300) });
    hold(&mut store, Uuid::from_u128(2), HoldTarget::Tenant { tenant: name("globex") });
    seal(&mut store);
    assert_eq!(backup(&store.reader(), &to).added, 605, "what moved into a segment is there already");
    restore(&to, &of("before")).unwrap();
    drop(store);
    same(&record, &of("before"));
    let before = Reader::open(&of("before"), Some(master())).unwrap();
    assert_eq!(
        count(&opened(&before), |opened| matches!(opened, Opened::Body(_))),
        1_205,
        "negative control"
    );
    assert_eq!(files(&of("before/segments")).len(), 4, "segments are segments again");

    let mut store = fixture::store(&record);
    let refused = prune(&mut store, Part::Bodies, 512);
    assert!(matches!(refused, Err(SegmentError::Blocked(Block::Hold { hold: HELD }))), "{refused:?}");
    prune(&mut store, Part::Records, 0).unwrap();
    erase_person(&mut store);
    store.append(&items([cancel(3, 403)])).unwrap();
    store.checkpoint().unwrap();
    let third = backup(&store.reader(), &to);
    assert_eq!(third.manifest.bodies_missing(), 0);
    let leaves = lines(&to.join("parts/000003-000001.jsonl"));
    assert_eq!(leaves.len(), 600);
    assert!(leaves[..512].iter().all(|line| line.len() == 64) && leaves[512].starts_with('{'));
    assert!(to.join("parts/000002.jsonl").exists(), "of its records nothing was pruned");
    assert!(!to.join("parts/000001.jsonl").exists() && !to.join("parts/000001.keys").exists());
    let keys = (record.join("keys.bin"), to.join("keys-000003.bin"));
    assert_ne!(keys.0.metadata().unwrap().ino(), keys.1.metadata().unwrap().ino(), "never a link");

    let made = restore(&to, &of("restored")).unwrap();
    assert_eq!((made.root, made.holds), (third.manifest.root, Some(2)));
    drop(store);
    alike(&record, &of("restored"));
    whole(&of("restored"));
    let reader = Reader::open(&of("restored"), Some(master())).unwrap();
    let found = opened(&reader);
    assert_eq!(found[0].0, 512);
    assert_eq!(count(&found, |opened| matches!(opened, Opened::Erased { .. })), 1, "erased stays erased");
    assert_eq!(count(&found, |opened| matches!(opened, Opened::Lost | Opened::Pruned)), 0);
    assert_eq!(reader.status().unwrap().accepted, 401, "what was pruned stays counted");
    drop(reader);

    // It goes on: what is held is kept, what is no longer held goes.
    let mut store = fixture::store(&of("restored"));
    let refused = prune(&mut store, Part::Bodies, 512);
    assert!(matches!(refused, Err(SegmentError::Blocked(Block::Hold { hold: HELD }))), "{refused:?}");
    let sequence = store.next_sequence("EVENTS");
    store.append(&items([act("olga", sequence, &Act::HoldRemove { hold: HELD })])).unwrap();
    prune(&mut store, Part::Bodies, 512).unwrap();
    let fourth = backup(&store.reader(), &of("again"));
    assert_eq!(fourth.manifest.bodies_missing(), 0);
    drop(store);
    restore(&of("again"), &of("twice")).unwrap();
    alike(&of("restored"), &of("twice"));
    whole(&of("twice"));
    goes_on(&of("twice"), &items([task(500, 404)]));
}

#[test]
fn backup_says_nothing_is_pruned_that_is_not_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let mut store = seeded(&of("record"));
    store.append(&road(200)).unwrap();
    seal(&mut store);
    store.append(&road(400)[600..]).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Records, 0).unwrap();
    let reader = store.reader();
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 4] = [
        ("of another segment", |state| {
            let said = state["segments"][0][1]["records"].clone();
            state["segments"][1][1]["records"] = said;
        }),
        ("of bodies", |state| {
            let said = state["segments"][0][1]["bodies"].clone();
            state["segments"][1][1]["bodies"] = said;
        }),
        ("by an act that is another record", |state| {
            state["segments"][0][1]["records"]["act"] = 5.into();
        }),
        ("by an act with other words", |state| {
            let leaf = state["segments"][0][1]["records"]["leaf"].as_str().unwrap().to_owned();
            state["segments"][0][1]["records"]["leaf"] = leaf.replace("\"v\":1", "\"v\":2").into();
        }),
    ];
    for (what, change) in cases {
        let to = of(what);
        backup(&reader, &to);
        restate(&to, |_| {});
        restore(&to, &of("control")).unwrap();
        fs::remove_dir_all(of("control")).unwrap();
        restate(&to, change);
        let refused = restore(&to, &of("never")).unwrap_err();
        assert!(matches!(refused, CopyError::Record { .. }), "{what}: {refused}");
        assert!(!refused.to_string().contains(CANARY) && !of("never").exists(), "{what}");
    }
}

#[test]
fn rebuild_from_exports_of_several_segments_gives_the_same_root() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let mut store = seeded(&of("record"));
    store.append(&road(300)).unwrap();
    hold(&mut store, HELD, HoldTarget::Tenant { tenant: name("acme") });
    seal(&mut store);
    let first = export(&store.reader(), &of("first"), Form::Tiles, 0);
    store.append(&road(500)[900..]).unwrap();
    seal(&mut store);
    let second = export(&store.reader(), &of("second"), Form::Lines, 901);
    let bare = of("bare");
    let head = store.reader().export(&bare, Form::Lines, &public(), &mut |_, _| {}).unwrap();
    drop(store);
    let (key_file, key) = (of("record").join("keys.bin"), public());
    let from = [first, second];
    let what = Rebuild { from: &from, key_file: Some(&key_file), key: Some(&key) };
    let made = rebuild(what, &of("made"), &mut |_, _| {}).unwrap();
    assert_eq!((made.root, made.holds, made.bodies_missing), (head.checkpoint.root.into(), Some(1), 0));
    same(&of("record"), &of("made"));
    whole(&of("made"));
    assert_eq!(files(&of("made/segments")).len(), 4, "negative control: there are two segments");

    // Leaves alone give the same root, and nothing of what no leaf says.
    let from = [bare];
    let made =
        rebuild(Rebuild { from: &from, key_file: None, key: Some(&key) }, &of("bare-made"), &mut |_, _| {});
    let made = made.unwrap();
    assert_eq!((made.root, made.holds), (head.checkpoint.root.into(), None));

    // What was pruned is in no export; a backup says what was there.
    let mut store = fixture::store(&of("record"));
    let sequence = store.next_sequence("EVENTS");
    store.append(&items([act("olga", sequence, &Act::HoldRemove { hold: HELD })])).unwrap();
    prune(&mut store, Part::Records, 0).unwrap();
    let from = [export(&store.reader(), &of("pruned"), Form::Lines, 0)];
    assert!(from[0].join(STATE).exists());
    let what = Rebuild { from: &from, key_file: Some(&key_file), key: Some(&key) };
    let made = rebuild(what, &of("of-pruned"), &mut |_, _| {}).unwrap();
    drop(store);
    alike(&of("record"), &of("of-pruned"));
    assert_eq!(made.holds, Some(0));
    let bare = of("bare-pruned");
    let reader = Reader::open(&of("record"), None).unwrap();
    reader.export(&bare, Form::Tiles, &public(), &mut |_, _| {}).unwrap();
    let from = [bare];
    let refused = rebuild(Rebuild { from: &from, key_file: None, key: None }, &of("never"), &mut |_, _| {});
    assert!(refused.unwrap_err().to_string().contains("was pruned"), "it is told where it went");
}
