//! Tampering with what was exported, found by somebody who holds the public key and one earlier checkpoint.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bodies;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Verified, verify};
use crate::checkpoint::{Checkpoint, PublicKey};
use crate::entry::{Gap, GapReason, Item};
use crate::export::{Extent, Form};
use crate::fixture::{at, items, keys, road, store, task};
use crate::merkle::text::{ConsistencyProof, InclusionProof, ProofError};
use crate::read::{RECORDS_MAX, Reader};
use crate::verify::{Fault, Problem, Trust};

/// Records of the exported store.
const RECORDS: u64 = 500;
/// Records of the one that is tampered with byte by byte with `tests/run --long`.
const RECORDS_LONG: u64 = 2_000;

/// A record of 500 with three checkpoints, and what an outsider keeps.
struct Evidence {
    dir: TempDir,
    reader: Reader,
    key: PublicKey,
    earlier: Checkpoint,
}

/// Its name, what is done to the bundle, and the first bad record with what is wrong there.
type Case = (&'static str, fn(&Path), Option<(Option<u64>, Fault)>);

fn evidence() -> Evidence {
    evidence_of(RECORDS)
}

/// The same of so many records: two more than three a task.
fn evidence_of(records: u64) -> Evidence {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("record"));
    let tasks = (records - 2) / 3;
    let all = road(tasks);
    let mut earlier = String::new();
    for part in all.chunks(150) {
        store.append(part).unwrap();
        let note = store.checkpoint().unwrap();
        if store.records() == 300 {
            earlier = note;
        }
    }
    let lost = Gap {
        stream: "TASKS_acme".to_owned(),
        from: tasks + 1,
        to: tasks + 3,
        reason: GapReason::Unexplained,
        time: at(0),
    };
    store.append(&[Item::Gap(lost)]).unwrap();
    store.append(&items([task(tasks + 4, tasks + 4)])).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(store.records(), records);
    let (reader, key) = (store.reader(), keys().signer.public());
    let earlier = key.open(&earlier).unwrap();
    Evidence { dir, reader, key, earlier }
}

impl Evidence {
    fn export(&self, form: Form) -> PathBuf {
        let dir = self.dir.path().join(format!("{form:?}"));
        self.reader.export(&dir, form, &self.key, &mut |_, _| {}).unwrap();
        dir
    }

    fn export_with_bodies(&self, form: Form) -> PathBuf {
        let dir = self.dir.path().join(format!("{form:?} with bodies"));
        let extent = Extent { form, since: 0, bodies: true };
        self.reader.export_extent(&dir, extent, &self.key, &mut |_, _| {}).unwrap();
        dir
    }

    fn verify(&self, dir: &Path) -> Verified {
        let trust = Trust { key: Some(self.key.clone()), pinned: vec![self.earlier.clone()] };
        verify(dir, &self.key, &trust, &mut |_, _| {}).unwrap()
    }

    fn leaves(&self) -> Vec<Vec<u8>> {
        let records = self.reader.tail(0, RECORDS_MAX).unwrap();
        records.into_iter().map(|record| record.line.into_bytes()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn lines(dir: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let file = dir.join("records.jsonl");
    let mut lines: Vec<String> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(file, lines.join("\n") + "\n").unwrap();
}

#[test]
fn complete_an_export_verifies_and_accounts_for_every_sequence() {
    let evidence = evidence();
    for form in [Form::Lines, Form::Tiles] {
        let found = evidence.verify(&evidence.export(form));
        assert!(found.report.is_ok(), "{form:?}: {:?}", found.report.problems);
        assert_eq!((found.report.records, found.report.checkpoints, found.checkpoint.size), (500, 5, 500));
        let tasks = found.accounts.iter().find(|account| account.stream == "TASKS_acme").unwrap();
        assert_eq!((tasks.last, tasks.messages, tasks.missing), (170, 167, 3));
        assert!(tasks.is_complete() && !tasks.is_explained());
        assert_eq!((tasks.gaps[0].from, tasks.gaps[0].to, tasks.gaps[0].record), (167, 169, 498));
    }
    let (head, accounts) = evidence.reader.prove_completeness(&evidence.key, &mut |_, _| {}).unwrap();
    assert_eq!((head.checkpoint.size, accounts.len()), (500, 3));
    // A line of the export is the leaf: anybody's SHA-256 over a zero byte and the line is the leaf's hash.
    let exported = fs::read(evidence.dir.path().join("Lines/records.jsonl")).unwrap();
    assert_eq!(exported.split(|byte| *byte == b'\n').take(500).collect::<Vec<_>>(), evidence.leaves());
}

#[test]
fn tamper_a_bundle_is_found_and_located() {
    let cases: [Case; 14] = [
        ("negative control: nothing", |_| {}, None),
        (
            "a leaf edited",
            |dir| lines(dir, |all| all[41] = all[41].replace("acme", "acne")),
            Some((Some(41), Fault::LeafHash)),
        ),
        ("a leaf deleted", |dir| lines(dir, |all| drop(all.remove(41))), Some((Some(41), Fault::LeafIndex))),
        (
            "two leaves exchanged",
            |dir| lines(dir, |all| all.swap(41, 77)),
            Some((Some(41), Fault::LeafIndex)),
        ),
        ("a leaf added", |dir| lines(dir, |all| all.push(all[499].clone())), Some((Some(500), Fault::Added))),
        (
            "a leaf doubled",
            |dir| lines(dir, |all| all.insert(41, all[41].clone())),
            Some((Some(42), Fault::LeafIndex)),
        ),
        ("the end cut off", |dir| lines(dir, |all| all.truncate(450)), Some((Some(450), Fault::Missing))),
        (
            "cut within a line",
            |dir| edit(&dir.join("records.jsonl"), |bytes| bytes.truncate(bytes.len() - 1)),
            Some((Some(499), Fault::LeafHash)),
        ),
        ("emptied", |dir| lines(dir, Vec::clear), Some((Some(0), Fault::LeafForm))),
        (
            "a tile's hash",
            |dir| edit(&dir.join("tile/0/000"), |bytes| bytes[41 * 32] ^= 1),
            Some((Some(41), Fault::Tile)),
        ),
        (
            "an upper tile's hash",
            |dir| edit(&dir.join("tile/1/000.p/1"), |bytes| bytes[0] ^= 1),
            Some((None, Fault::Tile)),
        ),
        (
            "the checkpoint's root",
            |dir| {
                edit(&dir.join("checkpoint"), |bytes| bytes[20] = if bytes[20] == b'A' { b'B' } else { b'A' })
            },
            Some((None, Fault::Checkpoint)),
        ),
        (
            "an older checkpoint",
            |dir| edit(&dir.join("checkpoints"), |bytes| bytes[14] = b'2'),
            Some((None, Fault::Checkpoint)),
        ),
        (
            // Only the range between two checkpoints is known then.
            "a leaf and its tile",
            |dir| {
                lines(dir, |all| all[341] = all[341].replace("acme", "acne"));
                let all = fs::read_to_string(dir.join("records.jsonl")).unwrap();
                let hash = crate::leaf::leaf_hash(all.lines().nth(341).unwrap().as_bytes());
                edit(&dir.join("tile/0/001.p/244"), |bytes| {
                    bytes[(341 - 256) * 32..][..32].copy_from_slice(&hash)
                });
            },
            Some((None, Fault::Signed)),
        ),
    ];
    let evidence = evidence();
    let sound = evidence.export(Form::Lines);
    for (name, tamper, expected) in cases {
        let dir = evidence.dir.path().join("copy");
        copy(&sound, &dir);
        tamper(&dir);
        let report = evidence.verify(&dir).report;
        let found = report.first().map(|problem| problem.index);
        assert_eq!(found, expected.map(|(index, _)| index), "{name}: {:?}", report.problems);
        if name == "a leaf and its tile" {
            let signed = report.problems.iter().find(|problem| problem.fault == Fault::Signed).unwrap();
            assert_eq!(signed.position.as_deref(), Some("records 300 to 449"));
        }
        if let Some((index, fault)) = expected {
            let there =
                report.problems.iter().any(|problem| (problem.index, problem.fault) == (index, fault));
            assert!(there, "{name}: {:?}", report.problems);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// Changes each byte of each leaf and of each proof.
fn every_byte_counts(records: u64) {
    let evidence = evidence_of(records);
    let (key, mut flips) = (&evidence.key, 0_u64);
    for (index, leaf) in (0..).zip(evidence.leaves()) {
        let proof = evidence.reader.prove_inclusion(key, index).unwrap();
        assert_eq!(proof.check(key, &leaf).unwrap().size, records, "negative control");
        let signed = key.open(&proof.note).unwrap();
        let mut bad = leaf.clone();
        for at in 0..leaf.len() {
            bad[at] ^= 1 << (at % 8);
            let hash = crate::leaf::leaf_hash(&bad);
            let shown =
                crate::merkle::proof::includes(&proof.hashes, index, &hash, signed.size, &signed.root);
            assert!(!shown, "leaf {index}, byte {at}");
            bad[at] = leaf[at];
            flips += 1;
        }
        let text = proof.to_string().into_bytes();
        let mut bad = text.clone();
        for at in 0..text.len() {
            bad[at] ^= 1 << (at % 7);
            let read = std::str::from_utf8(&bad).ok().and_then(|text| text.parse::<InclusionProof>().ok());
            let shown = read.is_some_and(|proof| proof.check(key, &leaf).is_ok());
            assert!(!shown, "proof {index}, byte {at}");
            bad[at] = text[at];
            flips += 1;
        }
    }
    assert!(flips > 1_000 * records, "{flips} flips");
    let proof = evidence.reader.prove_consistency(key, &evidence.earlier).unwrap();
    assert_eq!(proof.check(key, &evidence.earlier).unwrap().size, records, "negative control");
    let text = proof.to_string().into_bytes();
    for at in 0..text.len() {
        let mut bad = text.clone();
        bad[at] ^= 1 << (at % 7);
        let read = std::str::from_utf8(&bad).ok().and_then(|text| text.parse::<ConsistencyProof>().ok());
        assert!(
            read.is_none_or(|proof| proof.check(key, &evidence.earlier).is_err()),
            "consistency, byte {at}"
        );
    }
}

#[test]
fn tamper_every_byte_of_every_leaf_and_proof_counts() {
    every_byte_counts(RECORDS);
}

#[test]
fn long_tamper_every_byte_of_a_larger_record_counts() {
    every_byte_counts(RECORDS_LONG);
}

#[test]
fn tamper_bytes_of_a_bundle_s_files_are_found_where_they_are() {
    let evidence = evidence();
    for form in [Form::Lines, Form::Tiles] {
        let dir = evidence.export_with_bodies(form);
        let attached = ["bodies", "keys", "state.json", "sums"];
        let files: &[&str] = match form {
            Form::Lines => &["records.jsonl", "checkpoint", "checkpoints", "tile/0/000", "tile/0/001.p/244"],
            Form::Tiles => &["tile/entries/000", "tile/entries/001.p/244", "tile/1/000.p/1"],
        };
        let files = [files, &attached].concat();
        for file in files {
            let path = dir.join(file);
            let sound = fs::read(&path).unwrap();
            let strata = sound.len().min(60);
            for stratum in 0..strata {
                // A place of its own in each part of the file.
                let at = (stratum * sound.len() + stratum * 7_919 % sound.len()) / strata;
                let mut bad = sound.clone();
                bad[at] ^= 1 << (stratum % 7);
                fs::write(&path, &bad).unwrap();
                let trust = Trust { key: Some(evidence.key.clone()), pinned: vec![evidence.earlier.clone()] };
                let found = verify(&dir, &evidence.key, &trust, &mut |_, _| {});
                assert!(found.is_err() || !found.unwrap().report.is_ok(), "{file}, byte {at}");
            }
            fs::write(&path, &sound).unwrap();
        }
        // Whether a file of the bodies is gone, is told by those that are left.
        for file in attached {
            let path = dir.join(file);
            let sound = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let found = evidence.verify(&dir).report.problems;
            let missing = |problem: &Problem| {
                problem.position.as_deref() == Some(file) && problem.fault == Fault::Attached
            };
            // Exports from before there were sums have none.
            assert_eq!(found.iter().any(missing), file != "sums", "{file}: {found:?}");
            fs::write(&path, &sound).unwrap();
        }
        let found = evidence.verify(&dir);
        assert!(found.report.is_ok() && found.has_bodies, "negative control: {:?}", found.report.problems);
        assert_eq!((found.report.records, found.report.bodies), (500, 499), "a gap has none");
    }
}

#[test]
fn tamper_numbers_that_nobody_signed_are_not_followed() {
    let evidence = evidence();
    let dir = evidence.export(Form::Lines);
    let huge = 1_u64 << 60;
    let gone = |end: u64| {
        let range = serde_json::json!([{ "first": 0, "end": end, "act": 1, "leaf": "{}", "streams": [] }]);
        fs::write(dir.join("pruned.json"), range.to_string()).unwrap();
    };
    let sound = fs::read_to_string(dir.join("checkpoint")).unwrap();
    assert!(evidence.verify(&dir).report.is_ok(), "negative control");
    // As many records as nobody would live to see, and all of them pruned.
    fs::write(dir.join("checkpoint"), sound.replacen("\n500\n", &format!("\n{huge}\n"), 1)).unwrap();
    gone(huge);
    let faults: Vec<_> = evidence.verify(&dir).report.problems.iter().map(|one| one.fault).collect();
    assert_eq!(faults, [Fault::Checkpoint]);
    // A range without an end, under a checkpoint that is one.
    fs::write(dir.join("checkpoint"), &sound).unwrap();
    for end in [0, huge] {
        gone(end);
        assert!(evidence.verify(&dir).report.is_ok(), "{end}: nothing lacks, so nothing is asked of it");
    }
    gone(400);
    let found = evidence.verify(&dir).report;
    assert!(found.problems.iter().any(|one| one.fault == Fault::NotPruned), "{:?}", found.problems);
}

#[test]
fn tamper_two_forks_and_an_older_export_are_found_by_one_checkpoint() {
    let evidence = evidence();
    // Another history under the same key, which holder of key and file alone could make.
    let other = tempfile::tempdir().unwrap();
    let mut fork = store(other.path());
    fork.append(&road(100)).unwrap();
    fork.checkpoint().unwrap();
    fork.append(&road(168)).unwrap();
    fork.checkpoint().unwrap();
    let dir = other.path().join("export");
    fork.reader().export(&dir, Form::Lines, &evidence.key, &mut |_, _| {}).unwrap();
    let none = Trust { key: Some(evidence.key.clone()), pinned: Vec::new() };
    let alone = verify(&dir, &evidence.key, &none, &mut |_, _| {}).unwrap();
    assert!(alone.report.is_ok(), "negative control: by itself it is whole");
    let report = evidence.verify(&dir).report;
    assert_eq!(report.problems.len(), 1);
    assert_eq!(
        (report.problems[0].position.as_deref(), report.problems[0].fault),
        (Some("records 0 to 299"), Fault::Pinned)
    );
    let proof = fork.reader().prove_consistency(&evidence.key, &evidence.earlier);
    assert!(matches!(proof, Err(crate::ProveError::Fork { records: 300 })));
    let longer = Checkpoint { size: 900, ..evidence.earlier.clone() };
    let proof = fork.reader().prove_consistency(&evidence.key, &longer);
    assert!(matches!(proof, Err(crate::ProveError::RolledBack { signed: 900, records: 504 })), "{proof:?}");
    let nothing = Checkpoint { size: 0, ..evidence.earlier.clone() };
    let proof = fork.reader().prove_consistency(&evidence.key, &nothing);
    assert!(matches!(proof, Err(crate::ProveError::Nothing)), "{proof:?}");

    let short = tempfile::tempdir().unwrap();
    let mut older = store(short.path());
    older.append(&road(50)).unwrap();
    older.checkpoint().unwrap();
    let dir = short.path().join("export");
    older.reader().export(&dir, Form::Lines, &evidence.key, &mut |_, _| {}).unwrap();
    let report = evidence.verify(&dir).report;
    assert!(report.problems.iter().any(|p| (p.index, p.fault) == (Some(150), Fault::RolledBack)));
}

#[test]
fn tamper_a_proof_of_another_record_key_or_head_shows_nothing() {
    let evidence = evidence();
    let (key, leaves) = (&evidence.key, evidence.leaves());
    let proof = evidence.reader.prove_inclusion(key, 7).unwrap();
    assert!(proof.check(key, &leaves[7]).is_ok(), "negative control");
    assert_eq!(proof.check(key, &leaves[8]), Err(ProofError::Mismatch));
    let other = crate::Signer::from_bytes(&[6; 32], "tidegate/test").public();
    assert!(matches!(proof.check(&other, &leaves[7]), Err(ProofError::Note(_))));
    assert!(matches!(evidence.reader.prove_inclusion(key, 500), Err(crate::ProveError::NotSigned { .. })));
    assert!(matches!(evidence.reader.prove_inclusion(&other, 7), Err(crate::ProveError::Note(_))));
    assert_eq!(proof.to_string().parse::<InclusionProof>().unwrap(), proof);
}
