#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn wrapping() -> Key {
    Zeroizing::new([9; 32])
}

fn rows_on_disk(path: &Path) -> u64 {
    (std::fs::metadata(path).unwrap().len() - MAGIC.len() as u64) / ROW_BYTES as u64
}

/// A batch of so many keys, durable and counted. Returns the keys, and whether it had to wait for the file.
fn batch(file: &mut KeyFile, keys: usize, entropy: &mut Entropy) -> (Vec<Key>, bool) {
    let made = (0..keys).map(|_| file.push(entropy).1).collect();
    let waits = file.is_changed();
    file.sync().unwrap();
    file.committed();
    (made, waits)
}

#[test]
fn keys_are_made_ahead_and_count_when_the_record_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.bin");
    let mut entropy = Entropy::seeded(1);
    let mut file = KeyFile::open(&path, wrapping(), 0).unwrap();
    let (mut all, waits) = batch(&mut file, 2, &mut entropy);
    assert!(waits && rows_on_disk(&path) == 2, "a new record has its own rows and no more");
    let mut waited = 0;
    for _ in 0..1_000 {
        let (made, waits) = batch(&mut file, 5, &mut entropy);
        waited += u64::from(waits);
        all.extend(made);
    }
    assert_eq!((file.rows(), all.len()), (5_002, 5_002));
    assert!(waited < 20, "{waited} of 1,000 batches waited");
    let on_disk = rows_on_disk(&path);
    assert!((5_002..=5_002 + AHEAD_MAX).contains(&on_disk), "{on_disk}");
    let read = KeyFile::read_only(&path, wrapping(), 5_002).unwrap();
    for (row, key) in (0..).zip(&all) {
        assert_eq!((&file.key(row).unwrap().unwrap(), &read.key(row).unwrap().unwrap()), (key, key), "{row}");
    }

    // A batch that was given up leaves its rows to the next one, with their keys: nothing that is kept was sealed with them.
    let given_up = file.push(&mut entropy);
    assert_eq!(file.key(given_up.0).unwrap().unwrap(), given_up.1);
    file.discard();
    assert_eq!((file.rows(), file.push(&mut entropy)), (5_002, given_up));
    file.discard();

    // A crash: what was ahead is nobody's, and is written over. So it is where the record counts fewer than were used.
    drop((file, read));
    let mut file = KeyFile::open(&path, wrapping(), 5_000).unwrap();
    let (made, waits) = batch(&mut file, 3, &mut entropy);
    assert!(waits && made[..2] != all[5_000..], "other keys, and durable ones");
    let read = KeyFile::read_only(&path, wrapping(), 5_003).unwrap();
    assert_eq!((5_000..5_003).map(|row| read.key(row).unwrap().unwrap()).collect::<Vec<_>>(), made);
    assert_eq!(read.key(4_999).unwrap().unwrap(), all[4_999], "negative control");
}

#[test]
fn keys_made_ahead_do_not_outlast_a_file_that_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.bin");
    let mut entropy = Entropy::seeded(1);
    let mut file = KeyFile::open(&path, wrapping(), 0).unwrap();
    batch(&mut file, 2, &mut entropy);
    let (before, _) = batch(&mut file, 3, &mut entropy);
    assert!(rows_on_disk(&path) > 5, "control: some are ahead");
    file.destroy(&BTreeSet::from([2])).unwrap();
    assert_eq!(rows_on_disk(&path), 5);
    let (one, waits) = batch(&mut file, 1, &mut entropy);
    assert!(waits && file.key(5).unwrap().unwrap() == one[0]);
    file.rewrap(Zeroizing::new([8; 32]), &mut entropy).unwrap();
    let known = Zeroizing::new([7; 32]);
    assert_eq!(file.push_known(known.clone(), &mut entropy), 6);
    file.sync().unwrap();
    file.committed();
    let (two, _) = batch(&mut file, 1, &mut entropy);
    let read = KeyFile::read_only(&path, Zeroizing::new([8; 32]), 8).unwrap();
    let keys = [3, 5, 6, 7].map(|row| read.key(row).unwrap().unwrap());
    assert_eq!(keys, [before[1].clone(), one[0].clone(), known, two[0].clone()]);
    assert!(read.key(2).unwrap().is_err() && read.is_destroyed(2).unwrap());
}
