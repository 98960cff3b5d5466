#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tidegate_audit::{Gap, GapReason, MasterKey};
use tidegate_bus::Role;

use super::*;

fn opener(dir: &Path) -> Opener {
    let config = RecorderConfig {
        directory: dir.join("record"),
        master_key_file: dir.join("record.key"),
        checkpoint_key_file: dir.join("checkpoint.key"),
        checkpoint_file: Some(dir.join("checkpoints")),
        ..RecorderConfig::default()
    };
    MasterKey::create(&config.master_key_file).unwrap();
    let signer = Signer::create(&config.checkpoint_key_file, &config.origin).unwrap();
    let (shared, health) = (Shared::default(), Health::new(Role::Recorder));
    Opener { config, signer, published: None, shared, health }
}

#[test]
fn a_signature_that_cannot_be_written_closes_the_record_and_is_tried_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (opener, outside) = (opener(dir.path()), dir.path().join("checkpoints"));
    let ready = || opener.health.report().ready && opener.shared.reader().is_some();
    // A file that opens as any does, and is full at its first byte.
    symlink("/dev/full", &outside).unwrap();
    let mut store = Some(opener.open().unwrap());
    let lost = Gap {
        stream: "EVENTS".to_owned(),
        from: 1,
        to: 1,
        reason: GapReason::Deleted,
        time: Timestamp::UNIX_EPOCH,
    };
    assert!(matches!(opener.sign(&mut store), Done::Signed(None)), "nothing is there to sign");
    assert!(opener.append(&mut store, &[Item::Gap(lost)]));
    assert!(ready(), "negative control");
    for _ in 0..2 {
        assert!(matches!(opener.sign(&mut store), Done::Unsigned));
        assert!(!ready() && opener.shared.reader().is_none(), "nobody takes it for a record that goes on");
    }
    fs::remove_file(&outside).unwrap();
    // Without anything new to record.
    let Done::Signed(Some(signed)) = opener.sign(&mut store) else { panic!("it is not signed") };
    assert_eq!(signed.records, 1);
    assert!(ready());
    assert!(fs::read_to_string(&outside).unwrap().contains("\n1\n"), "and in the file outside");
}
