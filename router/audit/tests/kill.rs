//! SIGKILL at any moment: what the store acknowledged is there, sound, and the next writer goes on.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tidegate_audit::{Entry, Item, Keys, Level, MasterKey, Options, Reader, Signer, Store};

const DIR: &str = "TIDEGATE_TEST_RECORD";
const KILLS: u64 = 20;

fn open(dir: &Path) -> Store {
    let keys = Keys {
        master: MasterKey::from_bytes([3; 32]),
        signer: Signer::from_bytes(&[4; 32], "tidegate/test"),
    };
    Store::open(dir, keys, &Options { cache_bytes: 4 * 1024 * 1024, ..Options::default() }).unwrap()
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

/// Not a test by itself: the process that is killed. It says each record count that was acknowledged.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut store = open(Path::new(&dir));
    loop {
        let next = store.next_sequence("TASKS_acme");
        let items: Vec<Item> = (next..next + 1 + next % 23).map(item).collect();
        store.append(&items).unwrap();
        store.checkpoint().unwrap();
        println!("acknowledged {}", store.records());
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_kill_takes_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(20);
    let mut last = 0;
    for kill in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let counts = lines
            .map_while(Result::ok)
            .filter_map(|line| Some(line.split("acknowledged ").nth(1)?.parse().unwrap()));
        let acknowledged: u64 = counts.take(random.random_range(1..12)).last().unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert!(acknowledged > last, "kill {kill}: it went on from {last}");
        let crashed = Reader::open(dir.path(), None);
        let store = open(dir.path());
        assert!(store.records() >= acknowledged, "kill {kill}: {} of {acknowledged}", store.records());
        assert!(crashed.is_err() || crashed.unwrap().status().unwrap().records >= acknowledged);
        let report = store.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "kill {kill}: {:?}", report.problems);
        last = store.records();
    }
}
