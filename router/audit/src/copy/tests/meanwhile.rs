//! Backups of a record of which something is pruned while they are taken: such a one begins again, and gives up in the end.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use super::segments::{prune, seal};
use super::{public, restore, whole};
use crate::copy::{Backup, CopyError};
use crate::fixture::{at, road, seeded};
use crate::read::Reader;
use crate::segment::{Part, Segment};
use crate::store::Store;

/// Records after which a backup tells how far it is for the first time: those of the first segment.
const FIRST: u64 = 1_024;

/// A record of four segments and some records more.
fn four_segments(dir: &Path) -> (Store, Vec<Segment>) {
    let mut store = seeded(dir);
    for tasks in [400, 800, 1_200, 1_600] {
        let there = usize::try_from(store.records()).unwrap();
        store.append(&road(tasks)[there..]).unwrap();
        seal(&mut store);
    }
    let segments = store.reader().begin().unwrap().segments().unwrap();
    assert_eq!((segments.len(), segments[0].end), (4, FIRST));
    (store, segments)
}

/// Takes a backup, beside the recorder. In each of its tries one more of these segments is pruned, once the first records are
/// copied. Returns how many tries there were.
fn taken(
    store: &mut Store,
    dir: &Path,
    to: &Path,
    part: Part,
    prunings: &[u64],
) -> (Result<Backup, CopyError>, u32) {
    let reader = Reader::open(dir, None).unwrap();
    let (mut left, mut tries) = (prunings.iter(), 0);
    let made = reader.backup(to, Some(&public()), at(0), &mut |done, _| {
        if done == FIRST {
            tries += 1;
            if let Some(first) = left.next() {
                prune(store, part, *first).unwrap();
            }
        }
    });
    (made, tries)
}

#[test]
fn backup_begins_again_when_something_is_pruned_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let (mut store, segments) = four_segments(&of("record"));
    let (made, tries) = taken(&mut store, &of("record"), &of("control"), Part::Bodies, &[]);
    assert_eq!((made.unwrap().manifest.records, tries), (4_800, 1), "negative control: nothing is pruned");

    let (made, tries) = taken(&mut store, &of("record"), &of("backup"), Part::Bodies, &[segments[1].first]);
    let made = made.unwrap();
    assert_eq!((made.manifest.records, tries), (4_801, 2), "with the record that says what was pruned");
    assert_eq!(made.manifest.bodies_missing(), 0, "nothing is missing without a reason");
    restore(&of("backup"), &of("restored")).unwrap();
    whole(&of("restored"));
    let restored = Reader::open(&of("restored"), None).unwrap().status().unwrap();
    assert_eq!(restored, store.reader().status().unwrap());
    assert_eq!((restored.pruned.bodies, restored.pruned.records), (segments[1].len(), 0));
}

#[test]
fn backup_gives_up_when_something_is_pruned_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let (mut store, segments) = four_segments(&of("record"));
    let prunings: Vec<u64> = segments[1..].iter().map(|segment| segment.first).collect();
    let (made, tries) = taken(&mut store, &of("record"), &of("backup"), Part::Records, &prunings);
    assert!(matches!(made, Err(CopyError::Meanwhile)), "{made:?}");
    assert_eq!(tries, 3);
    let refused = restore(&of("backup"), &of("never"));
    assert!(refused.is_err() && !of("never").exists(), "what it left is no backup");

    // Negative control: the same command in a quiet moment.
    let (made, tries) = taken(&mut store, &of("record"), &of("backup"), Part::Records, &[]);
    assert_eq!((made.unwrap().manifest.records, tries), (4_803, 1));
    restore(&of("backup"), &of("restored")).unwrap();
    whole(&of("restored"));
    let restored = Reader::open(&of("restored"), None).unwrap().status().unwrap();
    assert_eq!(restored.pruned.records, segments[1..].iter().map(Segment::len).sum::<u64>());
}
