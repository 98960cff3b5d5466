//! Power loss: of what was written since the last sync, a random part of the 512-byte sectors is there afterwards.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::disk::{Disk, Files, Image, Lost, Sync, files, put};
use crate::entry::Item;
use crate::error::AppendError;
use crate::fixture::{master, road, task_of};
use crate::keys::file::power;
use crate::read::Opened;
use crate::store::Store;
use crate::verify::Level;

const CASES: u64 = 600;

/// Whether the key file is synced before the record that names its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Synced,
    NotSynced,
}

/// A record on a disk, empty but for its tables.
struct Empty {
    image: Image,
    beside: Files,
}

fn empty() -> Empty {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(Image::default(), dir.path());
    drop(disk.open(dir.path()).unwrap());
    Empty { image: disk.image(), beside: files(dir.path()) }
}

impl Empty {
    fn open(&self, dir: &Path) -> (Disk, Store) {
        put(&self.beside, dir);
        let disk = Disk::new(self.image.clone(), dir);
        let store = disk.open(dir).unwrap();
        (disk, store)
    }
}

/// Appends and signs until the power goes, somewhere within a commit. Returns what is left and how much was acknowledged.
fn run(disk: &Disk, store: &mut Store, batch: usize, items: &[Item]) -> Option<(Lost, u64)> {
    for items in items.chunks(batch) {
        let acknowledged = store.records();
        store.append(items).unwrap();
        store.checkpoint().unwrap();
        if let Some(lost) = disk.take_lost() {
            return Some((lost, acknowledged));
        }
    }
    None
}

/// What the next writer finds on a disk: all that was acknowledged, sound, its bodies openable; and it goes on. Returns how
/// much there was, or what is not as promised.
fn found(image: Image, acknowledged: u64, items: &[Item], dir: &Path) -> Result<u64, String> {
    let text = |error: &dyn Display| error.to_string();
    let mut store = Disk::new(image, dir).open(dir).map_err(|error| text(&error))?;
    let (there, reader) = (store.records(), store.reader());
    if there < acknowledged {
        return Err(format!("{there} of {acknowledged} acknowledged records"));
    }
    let mut report = reader.verify(Level::Full, &mut |_, _| {}).map_err(|error| text(&error))?;
    reader.verify_keys(&master(), &mut report, &mut |_, _| {}).map_err(|error| text(&error))?;
    if !report.is_ok() {
        return Err(format!("{:?}", report.problems));
    }
    for record in reader.tail(there.saturating_sub(8), 8).map_err(|error| text(&error))? {
        let opened = reader.body(&record).map_err(|error| text(&error))?;
        if !matches!(opened, Opened::Body(_)) {
            return Err(format!("the body of {}", record.leaf.index));
        }
    }
    store.append(items).map_err(|error| text(&error))?;
    let after = store.records();
    if after == items.len() as u64 { Ok(there) } else { Err(format!("{after} records afterwards")) }
}

/// A road on which each task has a person of its own, and so a key of its own.
fn persons(tasks: u64) -> Vec<Item> {
    let mut items = road(tasks);
    for (n, item) in (1..).zip(items.iter_mut().step_by(3)) {
        *item = Item::Message(task_of(n, n, &[&format!("customer-{n}")]));
    }
    items
}

/// One loss of power at a random moment. `None` where the power did not go.
fn case(
    seed: u64,
    (sync, keys): (Sync, Keys),
    empty: &Empty,
    items: &[Item],
) -> Option<(u64, Result<u64, String>)> {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut store) = empty.open(dir.path());
    disk.set_sync(sync);
    if keys == Keys::NotSynced {
        power::lie(&dir.path().join("keys.bin"));
    }
    disk.lose_power_after(random.random_range(0..120));
    let (lost, acknowledged) = run(&disk, &mut store, random.random_range(1..20), items)?;
    put(&lost.beside, dir.path());
    Some((acknowledged, found(lost.image.found(&mut random), acknowledged, items, dir.path())))
}

/// Loses the power once for each of these seeds: nothing that was acknowledged is missing.
fn nothing_is_lost(seeds: Range<u64>) {
    let (empty, items) = (empty(), persons(30));
    let (mut lost, mut unacknowledged) = (0, 0);
    let cases = seeds.end - seeds.start;
    for seed in seeds {
        let Some((acknowledged, found)) = case(seed, (Sync::Honest, Keys::Synced), &empty, &items) else {
            continue;
        };
        lost += 1;
        match found {
            Ok(there) => unacknowledged += u64::from(there == acknowledged),
            Err(error) => assert_eq!(error, "", "case {seed}"),
        }
    }
    assert_eq!(lost, cases, "the power did go");
    assert!((1..lost).contains(&unacknowledged), "batches were lost, and kept, that nobody had acknowledged");
}

#[test]
fn crash_power_loss_takes_nothing_that_was_acknowledged() {
    nothing_is_lost(0..CASES);
}

#[test]
fn long_crash_power_loss_in_ten_times_as_many_cases_takes_nothing() {
    nothing_is_lost(CASES..11 * CASES);
}

#[test]
fn crash_a_disk_that_lies_about_a_sync_is_found_out() {
    let (empty, items) = (empty(), road(30));
    // What such a disk leaves behind can also make the store's library panic.
    let found = |seed| {
        let case = std::panic::AssertUnwindSafe(|| case(seed, (Sync::Lies, Keys::Synced), &empty, &items));
        std::panic::catch_unwind(case).map_or(true, |case| case.is_some_and(|(_, found)| found.is_err()))
    };
    let failed = (0..60).filter(|seed| found(*seed)).count();
    assert!(failed > 20, "negative control: {failed} of 60");
}

#[test]
fn crash_keys_that_were_not_synced_before_their_record_are_found_out() {
    let (empty, items) = (empty(), persons(30));
    let found = |seed| case(seed, (Sync::Honest, Keys::NotSynced), &empty, &items);
    let failed = (0..60).filter_map(found).filter(|(_, found)| found.is_err()).count();
    assert!(failed > 20, "negative control: {failed} of 60");
}

#[test]
fn crash_nothing_is_acknowledged_while_a_sync_hangs() {
    let (empty, items) = (empty(), road(8));
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut store) = empty.open(dir.path());
    let mut random = StdRng::seed_from_u64(1);
    let reader = store.reader();
    for (number, batch) in items.chunks(3).enumerate() {
        let (before, last) = (store.records(), items.len() as u64);
        disk.set_sync(Sync::Hangs);
        std::thread::scope(|scope| {
            let (told, answer) = mpsc::channel();
            let store = &mut store;
            scope.spawn(move || told.send(store.append(batch).map(|appended| appended.records)).unwrap());
            disk.until_it_hangs();
            assert!(answer.try_recv().is_err(), "batch {number}: it was acknowledged before its sync ended");
            // Who reads in this process may have to wait as well; what the disk holds is looked at apart.
            let apart = tempfile::tempdir().unwrap();
            put(&files(dir.path()), apart.path());
            let there = found(disk.image().found(&mut random), before, &items, apart.path()).unwrap();
            assert!((before..=last).contains(&there), "batch {number}");
            disk.set_sync(Sync::Honest);
            assert_eq!(answer.recv().unwrap().unwrap(), batch.len() as u64, "batch {number}");
        });
        assert_eq!(reader.status().unwrap().records, before + batch.len() as u64);
    }
}

#[test]
fn crash_a_sync_that_fails_acknowledges_nothing_and_the_next_writer_goes_on() {
    let (empty, items) = (empty(), road(8));
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut store) = empty.open(dir.path());
    store.append(&items[..9]).unwrap();
    disk.set_sync(Sync::Fails);
    let error = store.append(&items[9..12]).unwrap_err();
    assert!(matches!(error, AppendError::Broken { .. }), "{error}");
    disk.set_sync(Sync::Honest);
    assert!(store.append(&items[9..12]).is_err(), "it must be opened anew first");
    drop(store);
    // The system drops pages whose write-back failed, so what it shows afterwards may be old or new.
    let mut random = StdRng::seed_from_u64(2);
    found(disk.image().found(&mut random), 9, &items, dir.path()).unwrap();
}
