//! SIGKILL at any moment: what the store acknowledged is there, sound, and the next writer goes on. And a file that may not
//! grow any more, and what somebody sees who must not touch what a crash left.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tidegate_audit::{
    Entry, Item, Keys, Level, MasterKey, OpenError, Opened, Options, Reader, Sealing, SegmentError, Signer,
    Store,
};

const DIR: &str = "TIDEGATE_TEST_RECORD";
/// Set where the writer is to acknowledge before it commits.
const HASTY: &str = "TIDEGATE_TEST_HASTY";
/// Set where the writer is to move what it recorded into segments.
const SEALING: &str = "TIDEGATE_TEST_SEALING";
const KILLS: u64 = 60;
/// Kills with `tests/run --long`.
const KILLS_LONG: u64 = 600;
/// Kills of a writer that makes segments.
const SEALING_KILLS: u64 = 12;

fn master() -> MasterKey {
    MasterKey::from_bytes([3; 32])
}

fn keys() -> Keys {
    Keys { master: master(), signer: Signer::from_bytes(&[4; 32], "tidegate/test") }
}

fn options() -> Options {
    Options { cache_bytes: 4 * 1024 * 1024, ..Options::default() }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, keys(), &options()).unwrap()
}

fn item(sequence: u64) -> Item {
    let payload =
        format!("{{\"labels\":{{\"sensitivity\":\"public\"}},\"input\":{{\"texts\":[\"{sequence}\"]}}}}");
    Item::Message(Entry {
        stream: "TASKS_acme".to_owned(),
        sequence,
        subject: "task.acme.bot.embed".to_owned(),
        time: Timestamp::from_second(1_800_000_000).unwrap(),
        headers: Vec::new(),
        payload: payload.into(),
    })
}

fn say(text: &str, records: u64) {
    println!("{text} {records}");
    std::io::stdout().flush().unwrap();
}

/// Not a test by itself: the process that is killed. It says each record count that was acknowledged.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let hasty = std::env::var_os(HASTY).is_some();
    let sealing = std::env::var_os(SEALING).is_some();
    let mut store = open(Path::new(&dir));
    loop {
        let next = store.next_sequence("TASKS_acme");
        let many = if sealing { 150 } else { 1 };
        let items: Vec<Item> = (next..next + many + next % 23).map(item).collect();
        if hasty {
            say("acknowledged", store.records() + items.len() as u64);
        }
        if let Err(error) = store.append(&items).and_then(|_| store.checkpoint()) {
            println!("{error}");
            return;
        }
        if !hasty {
            say("acknowledged", store.records());
        }
        if sealing && let Err(error) = seal(&mut store) {
            println!("{error}");
            return;
        }
    }
}

/// Moves what can be moved into a segment.
fn seal(store: &mut Store) -> Result<(), SegmentError> {
    while store.tidy()? {}
    let now = Sealing { bytes: 1, age: SignedDuration::ZERO };
    match store.reader().seal(&now, Timestamp::now())? {
        Some(sealed) => store.name(&sealed),
        None => Ok(()),
    }
}

/// Starts a writer by a command whose last words name a program.
fn start(command: &mut Command, dir: &Path) -> Child {
    command.args(["--exact", "writer_process", "--nocapture"]).env(DIR, dir).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Counts that a writer acknowledges.
fn counts(writer: &mut Child) -> impl Iterator<Item = u64> {
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.split("acknowledged ").nth(1)?.parse().ok())
}

/// Kills a writer after a number of acknowledgements. Returns the last count that came.
fn kill(dir: &Path, after: usize, hasty: bool) -> u64 {
    kill_with(dir, after, hasty.then_some(HASTY))
}

/// The same, with a variable set for the writer.
fn kill_with(dir: &Path, after: usize, set: Option<&str>) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.envs(set.map(|name| (name, "")));
    let mut writer = start(&mut command, dir);
    let acknowledged = counts(&mut writer).take(after).last().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    acknowledged
}

/// Kills so many writers of one record, one after the other.
fn nothing_is_lost(kills: u64, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut last = 0;
    for kill in 0..kills {
        let acknowledged = self::kill(dir.path(), random.random_range(1..12), false);
        assert!(acknowledged > last, "kill {kill}: it went on from {last}");
        let crashed = Reader::open(dir.path(), None);
        assert!(crashed.is_err() || crashed.unwrap().status().unwrap().records >= acknowledged);
        let store = open(dir.path());
        assert!(store.records() >= acknowledged, "kill {kill}: {} of {acknowledged}", store.records());
        let level = if kill + 1 == kills { Level::Full } else { Level::Since(last) };
        let mut report = store.reader().verify(level, &mut |_, _| {}).unwrap();
        // Each task has a key of its own.
        store.reader().verify_keys(&master(), &mut report, &mut |_, _| {}).unwrap();
        assert!(report.is_ok() && report.keys > Some(0), "kill {kill}: {:?}", report.problems);
        last = store.records();
    }
}

#[test]
fn crash_sixty_kills_take_nothing_that_was_acknowledged() {
    nothing_is_lost(KILLS, 20);
}

#[test]
fn long_crash_six_hundred_kills_take_nothing_that_was_acknowledged() {
    nothing_is_lost(KILLS_LONG, 22);
}

#[test]
fn segment_kills_while_they_are_made_take_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(21);
    let mut last = 0;
    for kill in 0..SEALING_KILLS {
        let acknowledged = kill_with(dir.path(), random.random_range(1..8), Some(SEALING));
        assert!(acknowledged > last, "kill {kill}: it went on from {last}");
        let store = open(dir.path());
        assert!(store.records() >= acknowledged, "kill {kill}: {} of {acknowledged}", store.records());
        let report = store.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "kill {kill}: {:?}", report.problems);
        assert_eq!(report.bodies, store.records(), "kill {kill}");
        last = store.records();
    }
    let segments = std::fs::read_dir(dir.path().join("segments")).unwrap().count();
    assert!(segments > 8, "negative control: there were segments to make");
}

#[test]
fn crash_a_writer_that_acknowledges_too_soon_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let lost = (1..20).any(|after| {
        let acknowledged = kill(dir.path(), after, true);
        open(dir.path()).records() < acknowledged
    });
    assert!(lost, "negative control");
}

/// All files below a directory: their bytes and when they were changed.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let changed = path.metadata().unwrap().modified().unwrap();
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), changed));
        }
    }
    found
}

#[test]
fn crash_what_it_left_can_be_read_without_touching_it() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = kill(dir.path(), 7, false);
    let left = files(dir.path());
    assert!(matches!(Reader::open(dir.path(), None), Err(OpenError::NeedsRepair)), "it needs a repair");
    let reader = Reader::open_crashed(dir.path(), Some(master())).unwrap();
    let status = reader.status().unwrap();
    assert!(status.records >= acknowledged, "{} of {acknowledged}", status.records);
    let record = reader.get(acknowledged - 1).unwrap().unwrap();
    assert!(matches!(reader.body(&record).unwrap(), Opened::Body(_)));
    let report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    let recorder = Store::open(dir.path(), keys(), &options());
    assert!(matches!(recorder, Err(OpenError::Locked { .. })), "no recorder begins meanwhile");
    drop(reader);
    assert_eq!(files(dir.path()), left, "each byte, and the time of each file");

    let store = open(dir.path());
    assert_eq!(store.records(), status.records, "the recorder finds the same");
    let beside = Reader::open_crashed(dir.path(), None);
    assert!(matches!(beside, Err(OpenError::Locked { .. })), "not beside a recorder");
    drop(store);
    assert!(files(dir.path()) != left, "negative control: a repair does change it");
}

#[test]
fn crash_what_it_left_with_its_segments_can_be_read_without_touching_it() {
    let dir = tempfile::tempdir().unwrap();
    // So many batches that the oldest are in segments.
    let acknowledged = kill_with(dir.path(), 16, Some(SEALING));
    let left = files(dir.path());
    let segment = dir.path().join("segments/seg-0.redb");
    assert!(left.contains_key(&segment), "there are segments: {:?}", left.keys());
    assert!(matches!(Reader::open(dir.path(), None), Err(OpenError::NeedsRepair)), "it needs a repair");
    let reader = Reader::open_crashed(dir.path(), Some(master())).unwrap();
    let status = reader.status().unwrap();
    assert!(status.records >= acknowledged, "{} of {acknowledged}", status.records);
    // The first is in a segment, the last in the file that was written.
    for index in [0, acknowledged - 1] {
        let record = reader.get(index).unwrap().unwrap();
        assert!(matches!(reader.body(&record).unwrap(), Opened::Body(_)), "{index}");
    }
    let report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.records, report.bodies), (status.records, status.records));
    drop(reader);
    assert!(files(dir.path()) == left, "each byte, and the time of each file");

    // Negative control: the same reading misses a segment's file.
    std::fs::remove_file(&segment).unwrap();
    let reader = Reader::open_crashed(dir.path(), None).unwrap();
    assert!(reader.get(0).is_err(), "it was read from there");
    assert!(!reader.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
}

#[test]
fn crash_a_file_that_may_not_grow_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    // A write beyond the limit is an error then, as on a full disk, and no signal.
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
    let output = start(&mut command, dir.path()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the disk is full"), "it says so: {text}");
    let last = text.lines().rev().find_map(|line| line.split("acknowledged ").nth(1)?.parse::<u64>().ok());
    let mut store = open(dir.path());
    assert!(last.is_some_and(|last| store.records() >= last), "what was acknowledged");
    let next = store.next_sequence("TASKS_acme");
    store.append(&[item(next)]).unwrap();
    let report = store.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
}
