#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::checkpoint::Signer;
use crate::checkpoint::notes::notes;
use crate::checkpoint::sink::Sink;

fn signer() -> Signer {
    Signer::from_bytes(&[5; 32], "tidegate/test")
}

/// Notes by epoch and size, of which `given` says what goes. Returns the places of those that stay.
fn kept(
    all: &[(u64, u64)],
    span: u64,
    mut given: impl FnMut(&Checkpoint) -> bool,
) -> (Vec<(u64, u64)>, Thinned) {
    let (signer, key) = (signer(), signer().public());
    let notes: Vec<String> = all.iter().map(|(epoch, size)| signer.sign(*epoch, *size, [9; 32])).collect();
    let total = notes.len() as u64;
    let mut stay = Vec::new();
    let mut keep = |note: &str| {
        let head = Checkpoint::unverified(note).unwrap();
        stay.push((key.epoch(&head.origin).unwrap(), head.size));
        Ok(())
    };
    let notes = notes.into_iter().map(Ok);
    let thinned = sift(notes, total, span, &key, &mut |head| Ok(given(head)), &mut keep).unwrap();
    (stay, thinned)
}

#[test]
fn bound_keeps_what_begins_and_ends_a_history_and_the_newest() {
    let before = (10..=1_500).map(|size| (1, size));
    let all: Vec<(u64, u64)> = before.chain((900..=2_900).map(|size| (2, size))).collect();
    let (found, thinned) = kept(&all, 1_000, |_| true);
    let newest = all[all.len() - usize::try_from(NEWEST).unwrap()..].to_vec();
    let old: Vec<_> = found.iter().copied().filter(|place| !newest.contains(place)).collect();
    assert_eq!(old, [(1, 10), (1, 999), (1, 1_500), (2, 900), (2, 999)]);
    assert!(found.ends_with(&newest));
    assert_eq!((thinned.gone, thinned.done), ((all.len() - found.len()) as u64, true));
    assert_eq!(kept(&found, 1_000, |_| true).0, found, "what stays, stays");
    assert_eq!(kept(&found, 2_000, |_| true).0.len(), found.len() - 2, "but with a longer span");
    assert_eq!(kept(&newest, 1_000, |_| true).0, newest, "few all stay");
}

#[test]
fn bound_keeps_each_note_that_the_record_does_not_give() {
    let all: Vec<(u64, u64)> = (1..=3_000).map(|size| (1, size)).collect();
    let lost = |head: &Checkpoint| head.size % 100 == 50;
    let (found, _) = kept(&all, 4_096, |head| !lost(head));
    let odd = found.iter().filter(|(_, size)| size % 100 == 50 && *size <= 1_976).count();
    assert_eq!((odd, found.len()), (20, 1 + 20 + usize::try_from(NEWEST).unwrap()));
    assert_eq!(kept(&all, 4_096, |_| true).0.len(), 1 + usize::try_from(NEWEST).unwrap(), "negative control");
}

#[test]
fn bound_is_one_whatever_the_record_s_size() {
    assert_eq!([0, 4_096 * 1_024, 4_096 * 1_024 + 1_024, u64::MAX].map(span), [4_096, 4_096, 8_192, 1 << 54]);
    for size in [1_u64, 1 << 30, 1 << 50] {
        assert!(size / span(size) <= SPANS_MAX);
    }
    let (found, thinned) = kept(&(0..10_000).map(|size| (1, size)).collect::<Vec<_>>(), 1 << 30, |_| true);
    assert_eq!((found.len() as u64, thinned.done), (10_000 - CHECKS_MAX, false), "one go has an end too");
}

#[test]
fn bound_of_a_file_puts_another_in_its_place_or_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("checkpoints"), dir.path().join("link"));
    let all: Vec<String> = (1..=1_500).map(|size| signer().sign(1, size, [9; 32])).collect();
    let text: String = all.iter().map(|note| entry(note)).collect();
    std::fs::write(&path, &text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let key = signer().public();
    let mut sink = Sink::open(&link, key.name()).unwrap();
    assert!(!sink.is_long(), "a short one is left as it is");
    sink.shorten();
    let failed = sink.thin(&key, &mut |_| Err(Error::other("the record cannot be read")));
    assert!(failed.is_err() && std::fs::read_to_string(&path).unwrap() == text);

    sink.shorten();
    let gone = sink.thin(&key, &mut |_| Ok(true)).unwrap().gone;
    let next = signer().sign(1, 1_501, [9; 32]);
    sink.append(&next).unwrap();
    let found = notes(&std::fs::read_to_string(&path).unwrap());
    assert_eq!((gone, found.len()), (1_500 - NEWEST - 1, 1 + usize::try_from(NEWEST).unwrap() + 1));
    assert_eq!((&found[0], found.last()), (&all[0], Some(&next)), "what comes later is in the new file");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(link.is_symlink() && !dir.path().join("checkpoints.new").exists());
    assert_eq!(Sink::open(&path, key.name()).unwrap().newest(), Some(next.as_str()));

    // A file with two names, and one that holds something else besides.
    std::fs::write(&path, &text).unwrap();
    std::fs::hard_link(&path, dir.path().join("other")).unwrap();
    sink.shorten();
    assert!(sink.thin(&key, &mut |_| Ok(true)).is_err());
    std::fs::remove_file(dir.path().join("other")).unwrap();
    let mixed = format!("a letter\n\n{text}");
    std::fs::write(&path, &mixed).unwrap();
    assert!(sink.thin(&key, &mut |_| Ok(true)).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), mixed);
}
