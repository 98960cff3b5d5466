//! Exports with bodies, and parts of exports.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::super::verify_since;
use super::{edit, evidence};
use crate::copy::tests::segments::{prune, seal};
use crate::export::{Extent, Form};
use crate::fixture::{keys, road, store};
use crate::segment::Part;
use crate::verify::{Fault, Report, Trust};

#[test]
fn tamper_a_body_of_a_bundle_is_found_where_it_is() {
    let evidence = evidence();
    let dir = evidence.export_with_bodies(Form::Lines);
    let sound = fs::read(dir.join("bodies")).unwrap();
    let length = |at: usize| u32::from_be_bytes(sound[at..at + 4].try_into().unwrap()) as usize;
    let start = (0..41).fold(0, |at, _| at + 4 + length(at));
    let position =
        |index: u64| Some(evidence.reader.get(index).unwrap().unwrap().leaf.position().to_string());
    let attached = |file: &str| (None, Some(file.to_owned()), Fault::Attached);
    let end = start + 4 + length(start);
    let without = [&sound[..start], &[0; 4][..], &sound[end..]].concat();
    let mut flipped = sound.clone();
    flipped[start + 9] ^= 1;
    let rows = [
        ("a byte", flipped, vec![(Some(41), position(41), Fault::BodyChanged), attached("bodies")]),
        ("a body", without, vec![(Some(41), position(41), Fault::BodyMissing), attached("bodies")]),
        ("cut short", sound[..end - 1].to_vec(), vec![attached("bodies")]),
        ("longer", [&sound[..], &[0; 4]].concat(), vec![attached("bodies")]),
        ("negative control", sound.clone(), vec![]),
    ];
    for (name, bytes, expected) in rows {
        fs::write(dir.join("bodies"), bytes).unwrap();
        let found = evidence.verify(&dir).report.problems;
        let found: Vec<_> = found.into_iter().map(|one| (one.index, one.position, one.fault)).collect();
        assert_eq!(found, expected, "{name}");
    }
    let other = evidence.export(Form::Lines);
    assert!(!evidence.verify(&other).has_bodies, "an export without bodies says so");
}

#[test]
fn tamper_a_part_of_a_bundle_is_verified_from_its_tile_on() {
    let evidence = evidence();
    for form in [Form::Lines, Form::Tiles] {
        let dir = evidence.export_with_bodies(form);
        let since = |since| {
            let trust = Trust { key: Some(evidence.key.clone()), pinned: vec![evidence.earlier.clone()] };
            verify_since(&dir, &evidence.key, &trust, since, &mut |_, _| {}).unwrap().report
        };
        for (from, begins) in [(0, 0), (255, 0), (256, 256), (300, 256), (499, 256), (9_999, 256)] {
            let report = since(from);
            assert!(report.is_ok(), "{form:?} from {from}: {:?}", report.problems);
            assert_eq!((report.from, report.records), (begins, 500 - begins), "{form:?} from {from}");
        }
        // Before it the hashes of the tiles stand for the leaves; they are still held against what is signed.
        let file = if form == Form::Lines { "records.jsonl" } else { "tile/entries/000" };
        let path = dir.join(file);
        let sound = fs::read(&path).unwrap();
        edit(&path, |bytes| bytes[100] ^= 1);
        assert!(!since(0).is_ok() && since(300).is_ok(), "{form:?}: what is before is not read");
        fs::write(&path, sound).unwrap();
        edit(&dir.join("tile/0/000"), |bytes| bytes[100] ^= 1);
        assert!(!since(300).is_ok(), "{form:?}: negative control");
    }
}

/// Changes what no leaf says, and its sum with it.
fn restate(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let (path, sums) = (dir.join("state.json"), dir.join("sums"));
    let before = fs::read(&path).unwrap();
    let mut said: serde_json::Value = serde_json::from_slice(&before).unwrap();
    change(&mut said);
    let after = serde_json::to_vec(&said).unwrap();
    let sum = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let text = fs::read_to_string(&sums).unwrap();
    assert!(text.contains(&sum(&before)), "each file has its sum, as `sha256sum -c` reads it: {text}");
    fs::write(&sums, text.replace(&sum(&before), &sum(&after))).unwrap();
    fs::write(&path, after).unwrap();
}

#[test]
fn retain_an_export_whose_bodies_were_pruned_verifies_and_needs_the_act() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    store.append(&road(90)).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Bodies, 0).unwrap();
    store.checkpoint().unwrap();
    let (key, export) = (keys().signer.public(), dir.path().join("export"));
    let extent = Extent { form: Form::Lines, since: 0, bodies: true };
    store.reader().export_extent(&export, extent, &key, &mut |_, _| {}).unwrap();
    let trust = Trust { key: Some(key.clone()), pinned: Vec::new() };
    let verified = || -> Report { verify_since(&export, &key, &trust, 0, &mut |_, _| {}).unwrap().report };
    let faults = || verified().problems.iter().map(|one| (one.index, one.fault)).collect::<Vec<_>>();
    let report = verified();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.records, report.bodies, report.pruned_bodies, report.pruned), (271, 15, 256, 0));
    // Negative controls: an act that is another record's, and none.
    let sound = ["state.json", "sums"].map(|name| fs::read(export.join(name)).unwrap());
    restate(&export, |said| said["segments"][0][1]["bodies"]["act"] = 7.into());
    assert_eq!(faults(), [(Some(0), Fault::NotPruned)]);
    ["state.json", "sums"]
        .iter()
        .zip(sound)
        .for_each(|(name, bytes)| fs::write(export.join(name), bytes).unwrap());
    restate(&export, |said| drop(said["segments"][0][1].as_object_mut().unwrap().remove("bodies")));
    let found = faults();
    assert_eq!((found.len(), found[0]), (256, (Some(0), Fault::BodyMissing)));
}
