//! The judge alone, one thread: parts of a decision, each beside the least that it could cost.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::Signer as _;
use regex::Regex;
use tidegate_policies::Judge;
use tidegate_schemas::task::Task;

use crate::row::{Row, Table, Target, median};
use crate::task::{self, Sample};
use crate::{machine, say};

/// Time for one figure of one round.
const SPAN: Duration = Duration::from_millis(250);
/// Rounds of value and ceiling in turn; an odd number has a median.
const ROUNDS: usize = 5;
/// Rules of other tenants that must not count.
const LINKS: usize = 10_000;
/// Decisions after which a judge has prepared what it prepares.
const WARM: usize = 64;

/// Microseconds of a value and of its ceiling, taken in turn.
fn pair(mut value: impl FnMut(), mut ceiling: impl FnMut()) -> (f64, f64) {
    median(
        (0..ROUNDS)
            .map(|_| (machine::median_us(SPAN, &mut value), machine::median_us(SPAN, &mut ceiling)))
            .collect(),
    )
}

pub(crate) fn run(table: &mut Table) -> Result<()> {
    say("judge");
    let (small, large) = (Sample::new(512)?, Sample::new(4_096)?);
    decide(table, &small)?;
    classify(table, "512B", &small)?;
    classify(table, "4KiB", &large)?;
    whole(table, &large)?;
    again(table, &large)?;
    let (value, ceiling) = pair(
        || drop(black_box(task::rendered(&large.task))),
        || drop(black_box(serde_json::to_vec(&large.task.input))),
    );
    table.add(Row::new("render 4KiB", value, "us", ceiling, "writing the input as JSON"))?;
    let (key, claims) = (task::key(), small.claims.to_cbor());
    let (value, ceiling) = pair(
        || drop(black_box(small.signer.sign(&small.claims))),
        || {
            black_box(key.sign(&claims));
        },
    );
    table.add(Row::new("sign", value, "us", ceiling, "Ed25519 of the same bytes"))
}

fn decide(table: &mut Table, sample: &Sample) -> Result<()> {
    let bare = sample.judge.bare(&sample.task, &sample.directory, &sample.facts);
    let bare = bare.context("the sample cannot be asked about")?;
    ensure!(bare.requests() >= 6, "fewer than six destinations are asked about");
    let (value, ceiling) = pair(
        || drop(black_box(sample.decide())),
        || {
            black_box(bare.authorise());
        },
    );
    let row = Row::new("decide 6 destinations", value, "us", ceiling, "bare Cedar, same requests");
    table.add(row.target(Target::AtMost(5.0)))?;
    // A limit that no task had before: nothing of what was answered earlier serves.
    let (mut fresh, mut limit) = (sample.task.clone(), 1_000_000);
    let (value, ceiling) = pair(
        || {
            limit += 1;
            fresh.limits.cost_usd_micros_max = Some(limit);
            drop(black_box(sample.judge.decide(&fresh, &sample.directory, &sample.facts)));
        },
        || {
            black_box(bare.authorise());
        },
    );
    let row = Row::new("decide 6 destinations, unlike any before", value, "us", ceiling, "bare Cedar");
    table.add(row.target(Target::AtMost(60.0)))?;
    crowded(table, sample)
}

/// The same among rules of other tenants: what was answered before, and what was not.
fn crowded(table: &mut Table, sample: &Sample) -> Result<()> {
    let crowded = Judge::new(task::bundle_with_links(LINKS)?)?;
    let (value, ceiling) = pair(
        || drop(black_box(crowded.decide(&sample.task, &sample.directory, &sample.facts))),
        || drop(black_box(sample.decide())),
    );
    let name = format!("decide 6 destinations, {LINKS} more rules");
    table.add(Row::new(name, value, "us", ceiling, "the same without them").target(Target::Ratio(0.8)))?;
    let unlike = |judge: &Judge, fresh: &mut Task, limit: &mut u64| {
        *limit += 1;
        fresh.limits.cost_usd_micros_max = Some(*limit);
        drop(black_box(judge.decide(fresh, &sample.directory, &sample.facts)));
    };
    let (mut one, mut other) = ((sample.task.clone(), 1_000_000), (sample.task.clone(), 1_000_000));
    // Apart from the row before, which has seen such limits.
    let alone = sample.judge.for_thread()?;
    for _ in 0..WARM {
        drop(black_box(alone.decide(&sample.task, &sample.directory, &sample.facts)));
    }
    let (value, ceiling) =
        pair(|| unlike(&crowded, &mut one.0, &mut one.1), || unlike(&alone, &mut other.0, &mut other.1));
    let name = format!("decide 6 destinations, unlike any before, {LINKS} more rules");
    table.add(Row::new(name, value, "us", ceiling, "the same without them").target(Target::Ratio(0.8)))
}

/// One pass of a finite automaton over each byte of the text. So long a word is never there, and no literal helps to skip.
fn pass() -> Result<Regex> {
    Ok(Regex::new("[a-z]{24}")?)
}

fn classify(table: &mut Table, size: &str, sample: &Sample) -> Result<()> {
    let (automaton, texts) = (pass()?, sample.task.input.texts());
    let (value, ceiling) = pair(
        || drop(black_box(sample.judge.labels(&sample.task))),
        || {
            black_box(texts.iter().any(|text| automaton.is_match(text)));
        },
    );
    table.add(Row::new(format!("classify {size}"), value, "us", ceiling, "one pass of a plain regex"))
}

/// From the bytes of a task to its decision.
fn whole(table: &mut Table, sample: &Sample) -> Result<()> {
    let bare = sample.judge.bare(&sample.task, &sample.directory, &sample.facts);
    let bare = bare.context("the sample cannot be asked about")?;
    let (automaton, texts) = (pass()?, sample.task.input.texts());
    let (value, ceiling) = pair(
        || {
            if let Ok(task) = sample.read() {
                black_box(sample.judge.decide(&task, &sample.directory, &sample.facts));
            }
        },
        || {
            drop(black_box(serde_json::from_str::<serde_json::Value>(&sample.payload)));
            black_box(texts.iter().any(|text| automaton.is_match(text)));
            black_box(bare.authorise());
        },
    );
    let row = Row::new("whole decision 4KiB", value, "us", ceiling, "JSON + one pass + bare Cedar");
    table.add(row.target(Target::AtMost(150.0)))
}

/// What a backtest does with each recorded decision, without reading it.
fn again(table: &mut Table, sample: &Sample) -> Result<()> {
    let recorded = sample.decide();
    let (value, ceiling) = pair(
        || drop(black_box(sample.judge.decide_as_found(&sample.task, &sample.directory, &recorded))),
        || drop(black_box(sample.decide())),
    );
    let row = Row::new("judge again 4KiB, as found then", value, "us", ceiling, "the same with a scan");
    table.add(row.target(Target::AtMost(50.0)))
}
