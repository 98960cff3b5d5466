//! Checkpoints: taken while the record grows, when nothing happens and on the way out; told, and kept outside.

use std::time::Duration;

use tidegate_audit::{Checkpoint, Filter, RecordKind};
use tidegate_bus::Role;
use tidegate_schemas::checkpoint::SignedCheckpoint;
use tidegate_schemas::subject::EVENTS;

use crate::cell::{Cell, PATIENCE, counted, road};

/// The checkpoints on the stream, each opened with the public key.
async fn told(cell: &Cell) -> Vec<Checkpoint> {
    let bus = cell.role(Role::Recorder).await;
    let (key, mut found) = (cell.keys().signer.public(), Vec::new());
    let last = bus.stream_info(EVENTS).await.unwrap().last;
    for sequence in 1..=last {
        let message = bus.get(EVENTS, sequence).await.unwrap().unwrap();
        assert_eq!(message.subject, "checkpoint");
        let told: SignedCheckpoint = serde_json::from_slice(&message.payload).unwrap();
        let signed = key.open(&told.note).unwrap();
        assert_eq!((signed.size, signed.origin.as_str()), (told.records, cell.config.origin.as_str()));
        found.push(signed);
    }
    found
}

async fn until_told(cell: &Cell, what: &str, mut check: impl FnMut(&[Checkpoint]) -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let waited = async {
        while !check(&told(cell).await) {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_while_the_record_grows_and_on_the_way_out_and_no_more() {
    let mut cell = Cell::start().await;
    cell.config.checkpoint_ms = 1;
    let running = cell.record().await;
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    let records = cell.reader().tail(0, 1_000).unwrap();
    let last = records.iter().rfind(|record| record.leaf.kind != RecordKind::Checkpoint);
    let last = last.unwrap().leaf.index;
    until_told(&cell, "all are signed", |told| told.last().is_some_and(|head| head.size > last)).await;
    cell.until("each is recorded", |reader, status| status.records - counted(reader) > 0).await;
    let before = told(&cell).await.len();
    // A checkpoint is a record too; were it growth, there would be hundreds more now.
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..20 {
        looks.tick().await;
    }
    assert_eq!(told(&cell).await.len(), before, "a checkpoint alone is no growth");
    cell.config.checkpoint_ms = 600_000;
    running.stop().await;

    let running = cell.record().await;
    road(&cell, 4, 4).await;
    cell.until_records(12).await;
    running.stop().await;
    let all = told(&cell).await;
    assert_eq!(all.len(), before + 1, "one on the way out");
    let newest = all.last().unwrap();
    assert_eq!(newest.size, cell.reader().status().unwrap().records);
    let file = std::fs::read_to_string(cell.config.checkpoint_file.as_ref().unwrap()).unwrap();
    assert!(file.contains(&newest.text()), "and in the file outside");
    cell.is_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_when_nothing_happens_and_by_count() {
    let mut cell = Cell::start().await;
    cell.config.checkpoint_idle_ms = 100;
    let running = cell.record().await;
    road(&cell, 1, 1).await;
    until_told(&cell, "again and again", |told| told.len() > 2).await;
    running.stop().await;

    let mut cell = Cell::start().await;
    cell.config.checkpoint_records = 5;
    let running = cell.record().await;
    road(&cell, 1, 6).await;
    until_told(&cell, "by count", |told| told.last().is_some_and(|last| last.size >= 10)).await;
    cell.until_records(18).await;
    let kind = Filter { kind: Some(RecordKind::Checkpoint), ..Filter::default() };
    cell.until("they are recorded", |reader, _| !reader.query(&kind).unwrap().records.is_empty()).await;
    running.stop().await;
}
