//! Power loss: a backend that keeps, of what was written since the last sync, a random part of the 512-byte sectors.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::{BackendError, StorageBackend};

use crate::entry::Item;
use crate::fixture::{keys, road};
use crate::store::{Store, builder};
use crate::verify::Level;

const SECTOR: usize = 512;
const CASES: u64 = 50;

#[derive(Debug, Default, Clone)]
struct Disk {
    /// What is durable.
    synced: Vec<u8>,
    /// What the process sees.
    seen: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    /// Operations until the power goes.
    left: u64,
    /// The disk in that moment.
    lost: Option<Disk>,
}

#[derive(Debug, Clone, Default)]
struct Flaky(Arc<Mutex<State>>);

impl State {
    /// One operation passes; the power may go before it is done.
    fn tick(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 && self.lost.is_none() {
            self.lost = Some(self.disk.clone());
        }
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().unwrap().disk.seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let from = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap().disk.seen[from..from + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut state = self.0.lock().unwrap();
        state.tick();
        state.disk.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut state = self.0.lock().unwrap();
        state.tick();
        state.disk.synced = state.disk.seen.clone();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let from = usize::try_from(offset).unwrap();
        let mut state = self.0.lock().unwrap();
        state.tick();
        state.disk.seen[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
    // One process only: every lock is free.
    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn try_lock_shared_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn lock_shared_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<(), BackendError> {
        Ok(())
    }
    fn unlock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn query_lock_range(
        &self,
        _: std::ops::Bound<u64>,
        _: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Ok(false)
    }
}

impl Disk {
    /// What is found when the power is back: of each sector the synced or the newer content.
    fn found(&self, random: &mut StdRng) -> Self {
        let mut image = self.seen.clone();
        if random.random_bool(0.5) {
            image.truncate(self.synced.len());
        }
        for (at, sector) in image.chunks_mut(SECTOR).enumerate() {
            if random.random_bool(0.5) {
                for (offset, byte) in sector.iter_mut().enumerate() {
                    *byte = self.synced.get(at * SECTOR + offset).copied().unwrap_or(0);
                }
            }
        }
        Self { synced: image.clone(), seen: image }
    }
}

fn open(disk: Disk, left: u64, dir: &std::path::Path) -> (Flaky, Store) {
    let backend = Flaky(Arc::new(Mutex::new(State { disk, left, lost: None })));
    let db = builder(1024 * 1024).create_with_backend(backend.clone()).unwrap();
    (backend, Store::on(db, dir, keys()).unwrap())
}

/// Appends until the power goes, somewhere within a commit. Returns the disk in that moment and what was acknowledged.
fn run(left: u64, batch: usize, items: &[Item], dir: &std::path::Path) -> Option<(Disk, u64)> {
    let (backend, mut store) = open(Disk::default(), u64::MAX, dir);
    backend.0.lock().unwrap().left = left;
    for items in items.chunks(batch) {
        let acknowledged = store.records();
        store.append(items).unwrap();
        if let Some(lost) = backend.0.lock().unwrap().lost.take() {
            return Some((lost, acknowledged));
        }
    }
    None
}

#[test]
fn power_loss_takes_nothing_that_was_acknowledged() {
    let items = road(30);
    let (mut lost, mut unacknowledged) = (0, 0);
    for case in 0..CASES {
        let mut random = StdRng::seed_from_u64(case);
        let dir = tempfile::tempdir().unwrap();
        let (left, batch) = (random.random_range(1..200), random.random_range(1..20));
        let Some((disk, acknowledged)) = run(left, batch, &items, dir.path()) else { continue };
        lost += 1;
        let (_, mut store) = open(disk.found(&mut random), u64::MAX, dir.path());
        assert!(store.records() >= acknowledged, "case {case}: {} of {acknowledged}", store.records());
        unacknowledged += u64::from(store.records() > acknowledged);
        let report = store.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "case {case}: {:?}", report.problems);
        store.append(&items).unwrap();
        assert_eq!(store.records(), items.len() as u64, "case {case}: it goes on, and records nothing twice");
    }
    assert!(lost > CASES / 2, "negative control: the power did go, {lost} times");
    assert!(unacknowledged < lost, "negative control: batches were lost that nobody had acknowledged");
}
