//! Recorders as processes: one holds the record, the next one stands by, and takes over when the first is killed.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use tidegate_audit::{OpenError, Options, Store};
use tidegate_bus::{CancellationToken, Health, Role};
use tidegate_recorder::run;

use crate::cell::{Cell, road};

/// Longest time from a recorder's death to the next one's first commit.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(10);
const STANDS_BY: &str = "another recorder holds the record";

/// Not a test by itself: the process that is killed. It says what its readiness is.
#[tokio::test(flavor = "multi_thread")]
async fn recorder_process() {
    let Some((bus, config)) = Cell::told().await else { return };
    let health = Health::new(Role::Recorder);
    let discovery = bus.discovery(&health, "0.1.0").await.unwrap();
    let told = health.clone();
    tokio::spawn(async move {
        let (mut look, mut last) = (tokio::time::interval(Duration::from_millis(10)), String::new());
        loop {
            look.tick().await;
            let now = told.report().not_ready.get("record").cloned().unwrap_or_else(|| "ready".to_owned());
            if now != last {
                println!("{now}");
                std::io::stdout().flush().unwrap();
                last = now;
            }
        }
    });
    run(bus, &discovery, config, CancellationToken::new(), health).await.unwrap();
}

/// A recorder in a process of its own, killed when it is dropped.
struct Recorder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Recorder {
    fn start(cell: &Cell) -> Self {
        let mut command = cell.process();
        command.args(["--exact", "standby::recorder_process", "--nocapture"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it says this.
    fn until_it_says(&mut self, text: &str) {
        let told = |line: std::io::Result<String>| line.unwrap().contains(text);
        assert!(self.lines.by_ref().any(told), "it never said `{text}`");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_a_standby_takes_over_and_nothing_is_missing_or_double() {
    let cell = Cell::start().await;
    road(&cell, 1, 5).await;
    let mut holder = Recorder::start(&cell);
    cell.until_records(15).await;
    for round in 1..=4_u64 {
        let mut standby = Recorder::start(&cell);
        standby.until_it_says(STANDS_BY);
        // The kill comes while messages flow: some are delivered and not recorded, some recorded and not acknowledged.
        let (from, to) = (round * 50 - 44, round * 50 + 5);
        let kill = async {
            cell.until_records((from - 1) * 3 + 45).await;
            holder.kill();
            Instant::now()
        };
        let (_, killed) = tokio::join!(road(&cell, from, to), kill);
        standby.until_it_says("ready");
        cell.until_records(to * 3).await;
        let taken = killed.elapsed();
        assert!(taken < TAKEN_OVER_MAX, "round {round}: {taken:?}");
        holder = standby;
    }
    cell.is_healthy();
    let status = cell.reader().status().unwrap();
    assert_eq!(
        (status.records, status.accepted, status.open),
        (205 * 3, 205, 0),
        "nothing missing or double"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_a_recorder_that_only_stands_still_keeps_the_record() {
    let cell = Cell::start().await;
    let mut holder = Recorder::start(&cell);
    holder.until_it_says("ready");
    let mut standby = Recorder::start(&cell);
    standby.until_it_says(STANDS_BY);
    holder.signal("-STOP");
    // It may wake in the middle of a commit: the lease is the lock, which it holds as long as it lives.
    let second = Store::open(&cell.config.directory, cell.keys(), &Options::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })), "negative control: it is held");
    holder.signal("-CONT");
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    holder.kill();
    standby.until_it_says("ready");
    cell.is_healthy();
}
