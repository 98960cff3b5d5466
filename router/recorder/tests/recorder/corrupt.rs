//! Blocks of the server that were damaged while it was down. Its streams are not encrypted here, so that one bit is one bit of a
//! message.

use std::path::{Path, PathBuf};

use tidegate_audit::complete::Account;
use tidegate_audit::{GapReason, Level};
use tidegate_bus::Role;

use crate::cell::{Cell, counted, task};

/// The stream that is damaged.
const STREAM: &str = "TASKS_acme";
/// What stands in its third message only.
const THIRD: &str = "question 3\"";

/// The stream's blocks below a directory.
fn blocks(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(blocks(&path));
        } else if path.extension().is_some_and(|extension| extension == "blk")
            && path.components().any(|part| part.as_os_str() == STREAM)
        {
            found.push(path);
        }
    }
    found
}

/// Flips one bit of the third message.
fn flip(streams: &Path) {
    let mut flipped = 0;
    for path in blocks(streams) {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(THIRD.len()).position(|window| window == THIRD.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "the message stands in one block");
}

async fn submit(cell: &Cell, from: u64, to: u64) {
    let agent = cell.agent().await;
    for n in from..=to {
        agent.publish(task(n, 300_000)).await.unwrap();
    }
}

/// The stream's account, as the record proves it.
fn account(cell: &Cell) -> Account {
    let key = cell.keys().signer.public();
    let (_, accounts) = cell.reader().prove_completeness(&key, &mut |_, _| {}).unwrap();
    accounts.into_iter().find(|account| account.stream == STREAM).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_message_that_the_broker_skips_is_a_gap_that_nothing_explains() {
    type Row = (&'static str, fn(&Path), Vec<(u64, u64, GapReason)>);
    let rows: [Row; 2] = [
        ("negative control: nothing", |_| {}, vec![]),
        // That the server holds it no more is all that it says; nothing on record explains why.
        ("a bit of the third message", flip, vec![(3, 3, GapReason::Deleted)]),
    ];
    for (what, damage, gaps) in rows {
        let mut cell = Cell::start_unencrypted().await;
        submit(&cell, 1, 6).await;
        cell.restart("-TERM", damage).await;
        let running = cell.record().await;
        cell.until_records(6).await;
        submit(&cell, 7, 7).await;
        cell.until_records(7).await;
        running.stop().await;
        let found = account(&cell);
        let named: Vec<_> = found.gaps.iter().map(|gap| (gap.from, gap.to, gap.reason)).collect();
        assert_eq!((found.last, named), (7, gaps.clone()), "{what}");
        assert_eq!((found.is_complete(), found.is_explained()), (true, gaps.is_empty()), "{what}");
        let alarms = cell.reader().status().unwrap().anomalies;
        assert_eq!(alarms, gaps.len() as u64, "{what}");
        let report = cell.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "{what}: {:?}", report.problems);
    }
}

/// A server that crashed reads its blocks itself when it starts, and cuts what comes from the damage on.
#[tokio::test(flavor = "multi_thread")]
async fn corrupt_block_of_a_broker_that_crashed_is_noticed_by_what_was_recorded() {
    for damage in [None, Some(flip)] {
        let mut cell = Cell::start_unencrypted().await;
        let running = cell.record().await;
        submit(&cell, 1, 6).await;
        cell.until_records(6).await;
        running.stop().await;
        cell.restart("-KILL", |streams| damage.into_iter().for_each(|damage| damage(streams))).await;
        let running = cell.record().await;
        if damage.is_some() {
            running.until_so_many_not_ready(1, "it holds messages up to 2, the record up to 6").await;
        } else {
            submit(&cell, 7, 7).await;
            cell.until_records(7).await;
            cell.is_healthy();
        }
        running.stop().await;
    }
}

/// The same while the recorder runs on: what the server then gives under recorded sequences is no redelivery.
#[tokio::test(flavor = "multi_thread")]
async fn corrupt_block_of_a_broker_that_crashed_is_noticed_by_a_recorder_that_runs_on() {
    for damage in [None, Some(flip)] {
        let mut cell = Cell::start_unencrypted().await;
        let running = cell.record().await;
        submit(&cell, 1, 6).await;
        cell.until_records(6).await;
        cell.restart("-KILL", |streams| damage.into_iter().for_each(|damage| damage(streams))).await;
        submit(&cell, 7, 12).await;
        if damage.is_some() {
            running.until_so_many_not_ready(1, "its message 6 is not the one that was recorded").await;
        } else {
            cell.until_records(12).await;
            cell.is_healthy();
        }
        running.stop().await;
        let records = counted(&cell.reader());
        assert_eq!(records, if damage.is_some() { 6 } else { 12 }, "nothing is recorded in another's place");
        if damage.is_some() {
            let state = cell.role(Role::Recorder).await.stream_info(STREAM).await.unwrap();
            assert_eq!(
                (state.first, state.last),
                (1, 8),
                "two that were left, and six new ones: nobody let them go"
            );
        }
    }
}

/// What README says of it: nobody who reads the stream could tell.
#[tokio::test(flavor = "multi_thread")]
async fn corrupt_block_of_a_broker_that_crashed_hides_what_was_not_recorded_yet() {
    let mut cell = Cell::start_unencrypted().await;
    submit(&cell, 1, 6).await;
    cell.restart("-KILL", flip).await;
    let running = cell.record().await;
    submit(&cell, 7, 7).await;
    cell.until_records(3).await;
    running.stop().await;
    let found = account(&cell);
    assert_eq!((found.last, found.messages, found.gaps), (3, 3, vec![]), "its sequences were given again");
}
