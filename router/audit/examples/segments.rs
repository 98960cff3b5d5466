//! What segments cost and save: a record that grows with them and without, in bytes of the live file and in time.
//!
//! `cargo run --release -p tidegate-audit --example segments -- <directory> <records>`
#![expect(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tidegate_audit::{Entry, Item, Keys, Level, MasterKey, Options, Sealing, Signer, Store};

/// Records of one append.
const BATCH: u64 = 1_024;
/// Bytes of a segment.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn open(dir: &Path) -> Result<Store, Box<dyn Error>> {
    let keys = Keys {
        master: MasterKey::from_bytes([3; 32]),
        signer: Signer::from_bytes(&[4; 32], "tidegate/example"),
    };
    Ok(Store::open(dir, keys, &Options::default())?)
}

fn item(sequence: u64) -> Item {
    let text = format!("{sequence:08} ").repeat(50);
    let payload =
        format!("{{\"labels\":{{\"sensitivity\":\"public\"}},\"input\":{{\"texts\":[\"{text}\"]}}}}");
    Item::Message(Entry {
        stream: "TASKS_acme".to_owned(),
        sequence,
        subject: "task.acme.bot.embed".to_owned(),
        time: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000),
        headers: Vec::new(),
        payload: payload.into(),
    })
}

fn megabytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len() / 1_000_000)
}

/// Grows a record. Returns the longest append, and the longest step of a segment's that an append waits for.
fn grow(dir: &Path, records: u64, seal: bool) -> Result<(Duration, Duration), Box<dyn Error>> {
    let mut store = open(dir)?;
    let sealing = Sealing { bytes: SEGMENT_BYTES, age: SignedDuration::MAX };
    let (mut append, mut step, mut files, mut made) = (Duration::ZERO, Duration::ZERO, 0, Duration::ZERO);
    while store.records() < records {
        let next = store.next_sequence("TASKS_acme");
        let items: Vec<Item> = (next..next + BATCH).map(item).collect();
        let begun = Instant::now();
        store.append(&items)?;
        append = append.max(begun.elapsed());
        if !seal || !(store.records() / BATCH).is_multiple_of(16) {
            continue;
        }
        store.checkpoint()?;
        let begun = Instant::now();
        let Some(sealed) = store.reader().seal(&sealing, Timestamp::now())? else { continue };
        (files, made) = (files + 1, made + begun.elapsed());
        store.name(&sealed)?;
        loop {
            let begun = Instant::now();
            if !store.tidy()? {
                break;
            }
            step = step.max(begun.elapsed());
        }
        println!(
            "  segment {files}: {} records, live {} MB",
            sealed.range().end - sealed.range().start,
            megabytes(&dir.join("seg-0.redb"))
        );
    }
    println!("  {files} segments made beside the writer in {made:?}");
    Ok((append, step))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a directory")?;
    let records = args.next().map_or(Ok(200_000), |count| count.parse())?;
    for (name, seal) in [("one file", false), ("segments", true)] {
        let dir = Path::new(&dir).join(name.replace(' ', "-"));
        println!("{name}:");
        let (append, step) = grow(&dir, records, seal)?;
        let begun = Instant::now();
        let store = open(&dir)?;
        let reopened = begun.elapsed();
        let begun = Instant::now();
        let report = store.reader().verify(Level::Full, &mut |_, _| {})?;
        let live = megabytes(&dir.join("seg-0.redb"));
        println!(
            "  {records} records: live file {live} MB, longest append {append:?}, longest step {step:?}"
        );
        println!(
            "  reopened in {reopened:?}, verified in {:?}, {} problems",
            begun.elapsed(),
            report.problems.len()
        );
    }
    Ok(())
}
