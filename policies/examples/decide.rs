//! How long a decision takes: `cargo run --release -p tidegate-policies --example decide [rules of other tenants]`.
//!
//! Prints p50 and p99 of single calls on one thread, of a bundle that is `default`, with that many links added.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tidegate_policies::{Bundle, Judge};

const ROUNDS: usize = 5_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let links: usize = std::env::args().nth(1).map_or(Ok(0), |count| count.parse())?;
    let bundle = Bundle::from_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default"))?;
    let mut archive: serde_json::Value = serde_json::from_str(bundle.archive())?;
    let more = archive.get_mut("links").and_then(|links| links.as_array_mut()).ok_or("no links")?;
    more.extend((0..links).map(|at| {
        serde_json::json!({ "id": format!("more-{at}"), "template": "tenant-local-only",
            "principal": format!("Tenant::\"t{at}\""), "owner": "o" })
    }));
    let judge = Judge::new(Arc::new(Bundle::from_archive(&archive.to_string())?))?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} policies, {} destinations",
        judge.bundle().policy_ids().len(),
        judge.bundle().destinations().len()
    )?;
    let wanted = [
        "public question leaves",
        "internal text stays local",
        "high stakes wait for a person",
        "residency in Switzerland is nowhere",
        "a long public text leaves",
    ];
    let cases = judge.bundle().cases();
    for case in cases.rows.iter().filter(|case| wanted.contains(&case.name.as_str())) {
        let (task, facts) = case.request(&cases.directory)?;
        let (p50, p99) = timed(|| {
            std::hint::black_box(judge.decide(&task, &cases.directory, &facts));
        });
        writeln!(
            out,
            "decide   {:<40} {:>6} bytes  p50 {p50:7.1} µs  p99 {p99:7.1} µs",
            case.name,
            task.input.bytes()
        )?;
        let (p50, p99) = timed(|| {
            std::hint::black_box(judge.labels(&task));
        });
        writeln!(out, "  labels {:<40}               p50 {p50:7.1} µs  p99 {p99:7.1} µs", "")?;
    }
    let prose =
        "The tide rose over the harbour wall at 6 in the morning, and 14 boats left for the open sea. "
            .repeat(88);
    let dense = "Order 4711-0815 of 2026-11-23 at 12:30 cost 1,234.56; see https://example.org/a/b?c=12&d=34 (page 5). ".repeat(81);
    for (what, text) in [("prose", prose), ("numbers and links", dense)] {
        let mut case = cases.rows.first().ok_or("no cases")?.clone();
        case.kind = tidegate_schemas::task::Kind::Chat;
        case.input = None;
        case.text = text.get(..8_192).map(str::to_owned);
        let (task, _) = case.request(&cases.directory)?;
        let (p50, p99) = timed(|| {
            std::hint::black_box(judge.labels(&task));
        });
        writeln!(
            out,
            "scan     {what:<40} {:>6} bytes  p50 {p50:7.1} µs  p99 {p99:7.1} µs",
            task.input.bytes()
        )?;
    }
    Ok(())
}

fn timed(mut call: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            call();
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    times.sort_unstable();
    let at = |share: usize| times.get(ROUNDS * share / 100).map_or(0.0, |nanos| *nanos as f64 / 1_000.0);
    (at(50), at(99))
}
