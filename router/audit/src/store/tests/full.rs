//! A full disk, at each operation of an append.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::disk::{Disk, Image};
use crate::error::AppendError;
use crate::fixture::road;
use crate::verify::Level;

#[test]
fn crash_a_full_disk_acknowledges_nothing_and_takes_nothing() {
    let items = road(12);
    let (held, more) = items.split_at(24);
    let mut refused = 0;
    for room in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Image::default(), dir.path());
        let mut store = disk.open(dir.path()).unwrap();
        store.append(held).unwrap();
        disk.leave_room_for(Some(room));
        let before = disk.operations();
        match store.append(more) {
            Ok(_) => {
                assert_eq!(room, disk.operations() - before, "negative control: it needed each of them");
                break;
            }
            Err(error) => assert!(matches!(error, AppendError::DiskFull), "room for {room}: {error}"),
        }
        refused += 1;
        // The store has to be opened anew; until then it may refuse to be read as well.
        let seen = store.reader().status().map_or(24, |status| status.records);
        assert_eq!(seen, 24, "room for {room}: nobody sees it");
        drop(store);
        disk.leave_room_for(None);
        let mut store = disk.open(dir.path()).unwrap();
        // What was not acknowledged may be there all the same, whole: it is recorded once.
        assert!([24, 36].contains(&store.records()), "room for {room}");
        store.append(more).unwrap();
        assert_eq!(store.records(), 36, "room for {room}: it goes on");
        let report = store.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "room for {room}: {:?}", report.problems);
    }
    assert!(refused > 8, "an append of several operations, {refused}");
}
