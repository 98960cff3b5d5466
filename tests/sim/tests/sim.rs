//! Seeds, many of them: a cell on a simulated broker while everything around it fails.
//!
//! `TIDEGATE_SEED=N tests/run sim_one_seed` runs one seed and prints what happens in it, line by line;
//! `TIDEGATE_SEEDS=0..100` says which of them `sim_two_thousand_seeds_of_faults` runs.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests that tell their seeds")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_sim::{Cell, Invariant, Mutant, Options, Report, run};

/// Seeds that are always run.
const SEEDS: u64 = 2_000;
/// Tasks of each.
const TASKS: usize = 200;
/// Seeds that a mutant may take to be noticed.
const NOTICED_WITHIN: u64 = 60;

fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/default")
}

fn cell() -> Cell {
    Cell::new(&bundle()).expect("the default bundle")
}

fn options(seed: u64) -> Options {
    Options { seed, tasks: TASKS, mutant: None, traced: false }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seeds that somebody asks for.
fn asked() -> Option<std::ops::Range<u64>> {
    let text = std::env::var("TIDEGATE_SEEDS").ok()?;
    let (first, end) = text.split_once("..")?;
    Some(first.parse().ok()?..end.parse().ok()?)
}

/// Seeds that failed once, and are run each time.
fn kept() -> Vec<u64> {
    let lines = include_str!("seeds").lines();
    lines.filter_map(|line| line.split('#').next()).filter_map(|line| line.trim().parse().ok()).collect()
}

/// Runs these seeds on all cores; what failed, with its seed.
fn failures(seeds: &[u64], total: &Mutex<Totals>) -> Vec<String> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    // One core is for the cells that run beside this.
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let cell = cell();
                loop {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("an index");
                    let Some(seed) = seeds.get(index) else { return };
                    let report = run(&cell, options(*seed));
                    total.lock().expect("totals").add(&report);
                    for breach in &report.breaches {
                        eprintln!("seed {seed}: {breach}");
                    }
                    let breaches = report.breaches.iter().map(|breach| format!("seed {seed}: {breach}"));
                    failed.lock().expect("failures").extend(breaches);
                }
            });
        }
    });
    failed.into_inner().expect("failures")
}

#[derive(Debug, Default)]
struct Totals {
    accepted: usize,
    results: usize,
    received: u64,
    kept_back: u64,
    steps: usize,
    reviews: usize,
    events: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.accepted += report.accepted;
        self.results += report.results;
        self.received += report.received;
        self.kept_back += report.kept_back;
        self.steps += report.steps;
        self.reviews += report.reviews;
        self.events += report.events;
    }
}

#[test]
fn sim_two_thousand_seeds_of_faults() {
    let begun = Instant::now();
    let mut seeds = kept();
    seeds.extend(asked().unwrap_or(0..SEEDS));
    let total = Mutex::new(Totals::default());
    let failed = failures(&seeds, &total);
    let total = total.into_inner().expect("totals");
    eprintln!("{} seeds in {} ms: {total:?}", seeds.len(), begun.elapsed().as_millis());
    let count = failed.len();
    assert!(failed.is_empty(), "{count} breaches; look at one with TIDEGATE_SEED, keep it in tests/seeds");
    // Negative control: the runs did what they are there for.
    let seeds = seeds.len();
    assert!(total.received > 20 * seeds as u64 && total.steps > 2 * seeds && total.reviews > 2 * seeds);
    assert!(total.results > 100 * seeds && total.kept_back > seeds as u64, "{total:?}");
}

#[test]
fn sim_one_seed_gives_one_run() {
    let cell = cell();
    let seed = number("TIDEGATE_SEED");
    let traced = |seed| run(&cell, Options { traced: true, ..options(seed) });
    let report = traced(seed.unwrap_or(1));
    if seed.is_some() {
        report.trace.iter().for_each(|line| eprintln!("{line}"));
        report.breaches.iter().for_each(|breach| eprintln!("{breach}"));
    }
    assert_eq!(report.trace, traced(seed.unwrap_or(1)).trace, "the same each time");
    assert_ne!(report.trace, traced(seed.unwrap_or(1) + 1).trace, "negative control: another seed");
    assert!(report.breaches.is_empty());
}

/// Each guard that is taken away is noticed, and by the check that it is there for.
#[test]
fn sim_each_guard_that_is_taken_away_is_noticed() {
    let cell = cell();
    let noticed = |mutant: Mutant| {
        let mut seen: Vec<Invariant> = Vec::new();
        for seed in 0..NOTICED_WITHIN {
            let report = run(&cell, Options { mutant: Some(mutant), ..options(seed) });
            seen.extend(report.breaches.iter().map(|breach| breach.invariant));
            if seen.contains(&mutant.noticed_by()) {
                eprintln!("{mutant:?}: seed {seed}, {:?}", mutant.noticed_by());
                return Ok(());
            }
        }
        Err(format!("{mutant:?} was not noticed by {:?}, only by {seen:?}", mutant.noticed_by()))
    };
    let missed: Vec<String> = Mutant::ALL.into_iter().filter_map(|mutant| noticed(mutant).err()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
