//! A record that is lost: from a backup and the streams, or from the streams alone; and never two signed histories.

use std::path::{Path, PathBuf};

use tidegate_audit::complete::Account;
use tidegate_audit::leaf::Detail;
use tidegate_audit::verify::Fault;
use tidegate_audit::{
    Checkpoint, Filter, GapReason, Level, OpenError, Options, PublicKey, Reader, RecordKind, Store, Trust,
    copy,
};
use tidegate_bus::Role;
use tidegate_recorder::{RecorderError, published};

use crate::cell::{Cell, road};

/// What the file outside says, and where it stands.
fn anchor(cell: &Cell) -> (PathBuf, String) {
    let path = cell.config.checkpoint_file.clone().unwrap();
    let note = tidegate_audit::checkpoint::newest(&path).unwrap().unwrap();
    (path, note)
}

fn public(cell: &Cell) -> PublicKey {
    cell.keys().signer.public()
}

/// Goes on under a new origin, as an operator would have it.
pub(crate) async fn accept(cell: &Cell) -> String {
    let published = published(&cell.role(Role::Recorder).await).await.unwrap();
    let options =
        Options { checkpoint_file: cell.config.checkpoint_file.clone(), published, ..Options::default() };
    Store::accept_break(&cell.config.directory, cell.keys(), &options).unwrap()
}

async fn refused(cell: &Cell) -> OpenError {
    match cell.record().await.ended().await.unwrap_err() {
        RecorderError::Open(error) => error,
        other => panic!("{other}"),
    }
}

fn report(dir: &Path, key: &PublicKey, pinned: &[&Checkpoint]) -> tidegate_audit::Report {
    let trust = Trust { key: Some(key.clone()), pinned: pinned.iter().map(|one| (*one).clone()).collect() };
    Reader::open(dir, None).unwrap().verify_against(Level::Full, &trust, &mut |_, _| {}).unwrap()
}

/// Each gap: stream, first and last sequence, why.
fn gaps(cell: &Cell) -> Vec<(String, u64, u64, GapReason)> {
    let filter = Filter { kind: Some(RecordKind::Gap), ..Filter::default() };
    let records = cell.reader().query(&filter).unwrap().records;
    let told = |record: tidegate_audit::Record| match record.leaf.detail {
        Some(Detail::Gap { to, reason }) => {
            (record.leaf.source.stream, record.leaf.source.sequence, to, reason)
        }
        _ => panic!("a gap"),
    };
    records.into_iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_and_streams_give_the_record_again_and_what_is_gone_is_explained() {
    let cell = Cell::start().await;
    let (backup, key) = (cell.dir.path().join("backup"), public(&cell));
    let running = cell.record().await;
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    let taken = cell.reader().backup(&backup, None, jiff::Timestamp::now(), &mut |_, _| {}).unwrap();
    let common = taken.manifest.checkpoint.map_or(0, |note| key.open(&note).unwrap().size);
    road(&cell, 4, 8).await;
    cell.until_records(24).await;
    running.stop().await;

    // The disk is gone, and of what was recorded since the streams have forgotten a part.
    std::fs::remove_dir_all(&cell.config.directory).unwrap();
    let admin = cell.role(Role::Provisioner).await;
    admin.purge_before("TASKS_acme", 6).await.unwrap();
    copy::restore(&backup, Some(&cell.config.directory), Some(&key), &mut |_, _| {}).unwrap();
    let error = refused(&cell).await;
    assert!(matches!(error, OpenError::Fork { .. }), "{error}");
    let lost = key.open(&accept(&cell).await).unwrap();
    let running = cell.record().await;
    cell.until("all of the streams", |_, status| {
        status.streams.iter().any(|(stream, last)| stream == "RESULTS" && *last == 8)
    })
    .await;
    running.stop().await;

    assert_eq!(gaps(&cell), [("TASKS_acme".to_owned(), 4, 5, GapReason::Break)]);
    let (head, accounts) = cell.reader().prove_completeness(&key, &mut |_, _| {}).unwrap();
    assert!(accounts.iter().all(Account::is_complete) && accounts.iter().all(Account::is_explained));
    assert_eq!(head.checkpoint.origin, format!("{}/2", cell.config.origin));
    let found = report(&cell.config.directory, &key, &[&head.checkpoint]);
    assert!(found.is_ok() && found.epoch == 2, "{:?}", found.problems);
    // Whoever kept what was signed before sees that it is another history, and from where on, whatever else was kept.
    for pinned in [&[&lost][..], &[&lost, &head.checkpoint]] {
        let before = report(&cell.config.directory, &key, pinned);
        let told: Vec<_> = before.problems.iter().map(|one| (one.position.as_deref(), one.fault)).collect();
        let places = format!("records {common} to {}", lost.size - 1);
        assert_eq!(told, [(Some(places.as_str()), Fault::GivenUp)], "negative control");
    }

    // A gap that comes later has no break to explain it.
    let running = cell.record().await;
    road(&cell, 9, 9).await;
    cell.until("the next task", |_, status| {
        status.streams.iter().any(|(stream, last)| stream == "RESULTS" && *last == 9)
    })
    .await;
    running.stop().await;
    let agent = cell.agent().await;
    for n in 10..=12 {
        agent.publish(crate::cell::task(n, 300_000)).await.unwrap();
    }
    admin.purge_before("TASKS_acme", 12).await.unwrap();
    let running = cell.record().await;
    cell.until("the gap", |reader, _| {
        let filter = Filter { kind: Some(RecordKind::Gap), ..Filter::default() };
        reader.query(&filter).unwrap().records.len() == 2
    })
    .await;
    assert_eq!(gaps(&cell).pop(), Some(("TASKS_acme".to_owned(), 10, 11, GapReason::Unexplained)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_goes_on_without_a_break_where_nothing_was_signed_since() {
    let cell = Cell::start().await;
    let (backup, key) = (cell.dir.path().join("backup"), public(&cell));
    let running = cell.record().await;
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    running.stop().await;
    // Recorded, but for the checkpoint of the way out, which is read when it begins again.
    cell.reader().backup(&backup, Some(&key), jiff::Timestamp::now(), &mut |_, _| {}).unwrap();
    road(&cell, 4, 5).await;
    std::fs::remove_dir_all(&cell.config.directory).unwrap();
    copy::restore(&backup, Some(&cell.config.directory), Some(&key), &mut |_, _| {}).unwrap();
    let running = cell.record().await;
    cell.until_records(15).await;
    running.stop().await;
    cell.is_healthy();
    let (head, _) = cell.reader().prove_completeness(&key, &mut |_, _| {}).unwrap();
    assert_eq!(head.checkpoint.origin, cell.config.origin, "the same history");
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild_from_streams_alone_is_another_history_and_says_so() {
    let cell = Cell::start().await;
    let key = public(&cell);
    let running = cell.record().await;
    road(&cell, 1, 4).await;
    cell.until_records(12).await;
    running.stop().await;
    let (file, note) = anchor(&cell);
    let kept = key.open(&note).unwrap();

    // The record is lost; then the file outside too. What the recorder published says the same.
    std::fs::remove_dir_all(&cell.config.directory).unwrap();
    let error = refused(&cell).await;
    assert!(matches!(error, OpenError::Fork { records: 0, .. }), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = refused(&cell).await;
    assert!(matches!(&error, OpenError::Fork { place, .. } if place.contains("streams")), "{error}");

    // Negative control: without both a second history is signed under the same origin, and found by whoever kept a checkpoint.
    let second = cell.dir.path().join("second");
    let mut store = Store::open(&second, cell.keys(), &Options::default()).unwrap();
    for record in 0..kept.size {
        store.append(&[gap(record)]).unwrap();
    }
    let signed = key.open(&store.checkpoint().unwrap()).unwrap();
    assert_eq!((&signed.origin, signed.size), (&kept.origin, kept.size), "two heads of one origin and size");
    drop(store);
    assert!(report(&second, &key, &[]).is_ok(), "by itself it looks whole");
    let found = report(&second, &key, &[&kept]);
    assert!(found.problems.iter().any(|problem| problem.fault == Fault::Pinned), "{:?}", found.problems);

    // The act of an operator begins another origin, and the streams are read anew.
    assert_eq!(accept(&cell).await, note);
    let running = cell.record().await;
    cell.until_records(12).await;
    running.stop().await;
    cell.is_healthy();
    let head = cell.reader().head(&key).unwrap();
    assert_eq!(head.checkpoint.origin, format!("{}/2", cell.config.origin));
    assert!(report(&cell.config.directory, &key, &[&head.checkpoint]).is_ok());
}

fn gap(at: u64) -> tidegate_audit::Item {
    let (stream, time) = ("EVENTS".to_owned(), jiff::Timestamp::UNIX_EPOCH);
    let (from, to, reason) = (at + 1, at + 1, GapReason::Deleted);
    tidegate_audit::Item::Gap(tidegate_audit::Gap { stream, from, to, reason, time })
}
