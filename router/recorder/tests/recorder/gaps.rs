//! What is missing is noticed, read again where it can be, and told where it cannot.

use tidegate_audit::leaf::Detail;
use tidegate_audit::{Filter, Flag, GapReason, Leaf, Level, OpenError, Options, RecordKind, Store};
use tidegate_bus::Role;
use tidegate_recorder::{RecorderConfig, RecorderError};

use crate::cell::{Cell, counted, road, task};

fn gaps(cell: &Cell) -> Vec<Leaf> {
    let filter = Filter { kind: Some(RecordKind::Gap), ..Filter::default() };
    cell.reader().query(&filter).unwrap().records.into_iter().map(|record| record.leaf).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_a_copy_is_refused_and_after_a_break_reads_again_what_it_lacks() {
    let mut cell = Cell::start().await;
    let running = cell.record().await;
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    running.stop().await;
    let (record, copy) = (cell.dir.path().join("record"), cell.dir.path().join("copy"));
    std::fs::create_dir(&copy).unwrap();
    for file in ["seg-0.redb", "keys.bin"] {
        std::fs::copy(record.join(file), copy.join(file)).unwrap();
    }
    let running = cell.record().await;
    road(&cell, 4, 8).await;
    cell.until_records(24).await;
    running.stop().await;
    for file in ["seg-0.redb", "keys.bin"] {
        std::fs::copy(copy.join(file), record.join(file)).unwrap();
    }
    assert_eq!(counted(&cell.reader()), 9, "the copy is older than what was acknowledged");
    // With no reader of their own and no window these streams are trimmed as soon as they are recorded
    // (`streams_forget_only_what_nobody_needs`); while they are not, they stay.
    let admin = cell.role(Role::Provisioner).await;
    for (stream, consumer) in [("TASKS_acme", "router"), ("WORK_LOCAL", "small")] {
        let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}");
        admin.request(&subject, bytes::Bytes::new(), std::time::Duration::from_secs(5)).await.unwrap();
    }
    let usual = cell.config.clone();
    cell.config = RecorderConfig {
        trim_ms: 50,
        stream_window_ms: 0,
        duplicate_window_ms: 0,
        result_window_ms: 0,
        ..usual.clone()
    };
    let refused = cell.record().await.ended().await.unwrap_err();
    assert!(matches!(refused, RecorderError::Open(OpenError::Fork { .. })), "{refused}");
    for stream in ["TASKS_acme", "WORK_LOCAL", "RESULTS"] {
        assert_eq!(admin.stream_info(stream).await.unwrap().first, 1, "{stream} is not trimmed");
    }
    cell.config = usual;
    let options = Options { checkpoint_file: cell.config.checkpoint_file.clone(), ..Options::default() };
    Store::accept_break(&cell.config.directory, cell.keys(), &options).unwrap();
    let running = cell.record().await;
    cell.until_records(24).await;
    cell.is_healthy();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_is_not_recorded_on() {
    let old = Cell::start().await;
    let running = old.record().await;
    road(&old, 1, 2).await;
    old.until_records(6).await;
    running.stop().await;
    // The same record beside another server, whose streams have grown beyond it.
    let mut new = Cell::start().await;
    road(&new, 1, 5).await;
    new.config = old.config.clone();
    let running = new.record().await;
    running.until_not_ready("made anew").await;
    running.stop().await;
    assert_eq!(counted(&new.reader()), 6);
    // The control: beside its own server it goes on.
    let running = old.record().await;
    road(&old, 3, 4).await;
    old.until_records(12).await;
    old.is_healthy();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_purged_before_it_was_recorded_is_told() {
    let cell = Cell::start().await;
    let (agent, admin) = (cell.agent().await, cell.role(Role::Provisioner).await);
    for n in 1..=4 {
        agent.publish(task(n, 300_000)).await.unwrap();
    }
    admin.purge_before("TASKS_acme", 2).await.unwrap();
    assert!(admin.delete("TASKS_acme", 3, false).await.unwrap());
    let running = cell.record().await;
    cell.until_records(4).await;
    let told = |leaf: &Leaf| match leaf.detail {
        Some(Detail::Gap { to, reason }) => (leaf.source.sequence, to, reason),
        _ => (0, 0, GapReason::Unexplained),
    };
    let found: Vec<_> = gaps(&cell).iter().map(told).collect();
    assert_eq!(found, [(1, 1, GapReason::Unexplained), (3, 3, GapReason::Deleted)]);
    assert!(gaps(&cell).iter().all(|leaf| leaf.flags == [Flag::Unexplained]), "also of a stream that is new");
    running.stop().await;

    for n in 5..=7 {
        agent.publish(task(n, 300_000)).await.unwrap();
    }
    admin.purge_before("TASKS_acme", 7).await.unwrap();
    let running = cell.record().await;
    cell.until_records(6).await;
    let found = gaps(&cell).pop().unwrap();
    assert_eq!(told(&found), (5, 6, GapReason::Unexplained), "a known stream lost what was not recorded");
    assert_eq!(found.flags, [Flag::Unexplained]);
    let report = cell.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.anomalies == 3, "{:?}", report.problems);
    running.stop().await;
}
