//! Finding personal data: how much of a marked corpus is found, what of it would leave, and how fast, beside Presidio on the
//! same texts.
//!
//! What counts is what redaction takes out ([`product`]); the recognisers alone and Presidio stand beside it. The corpus stays outside the project: `--data FILE`, in the form of presidio-research.

mod corpus;
mod peer;
mod product;
mod score;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidegate_policies::taxonomy::scan::Scanner;
use tidegate_schemas::redact::Span;

use crate::row::{Row, Table, Target, median};
use crate::{engine, machine, say, scan, task};
use corpus::Text;
pub(crate) use product::probe;
use score::{Found, Score};

/// Name of what redaction does.
const PRODUCT: &str = "redaction";
/// Rounds of value and ceiling in turn; an odd number has a median.
const ROUNDS: usize = 5;
/// Time for one figure of one round.
const SPAN: Duration = Duration::from_millis(250);
/// The text on which recognisers are timed.
const TIMED_BYTES: usize = 8 << 10;

/// What one finder found in each text, and how long a text took, milliseconds.
struct Run {
    name: String,
    found: Vec<Option<Vec<Found>>>,
    ms: f64,
}

pub(crate) fn run(table: &mut Table, data: &Path, misses: Option<&Path>) -> Result<()> {
    say("pii");
    let texts = corpus::read(data)?;
    ensure!(!texts.is_empty(), "`{}` holds no texts", data.display());
    let bundle = task::bundle()?;
    let scanner = Scanner::new(bundle.taxonomy()).map_err(anyhow::Error::msg)?;
    let model = engine::directory().join(scan::MODEL);
    ensure!(model.is_dir(), "there is no `{}`; run `deploy/fetch models`", model.display());
    let (found, ms) = product::run(data, &model, &texts, (&scanner, bundle.taxonomy()))?;
    let mut runs = vec![Run { name: PRODUCT.to_owned(), found, ms }, timed(&scanner, &texts)];
    match peer::run(data)? {
        Some((name, found, ms)) => {
            ensure!(found.len() == texts.len(), "Presidio answered on another number of texts");
            let found =
                texts.iter().zip(found).map(|(text, found)| Some(peer::places(text, found))).collect();
            runs.push(Run { name, found, ms });
        }
        None => table.note("Presidio is not at hand (see --help): no peer"),
    }
    for run in &runs {
        let score = Score::of(&texts, &run.found);
        table.text(score.table(&run.name));
        rows(table, run, &score)?;
    }
    if let (Some(file), Some(run)) = (misses, runs.first()) {
        score::write_misses(file, &texts, &run.found)?;
    }
    speed(table, &scanner, &texts)
}

/// The recognisers alone.
fn timed(scanner: &Scanner, texts: &[Text]) -> Run {
    let begun = Instant::now();
    let spans: Vec<_> = texts.iter().map(|text| scanner.spans(&text.text)).collect();
    let ms = begun.elapsed().as_secs_f64() * 1e3 / texts.len() as f64;
    let of = |span: &Span| Found::new(span.start..span.end, corpus::types(span.entity.as_str()));
    let found = spans.iter().map(|spans| Some(spans.iter().map(of).collect())).collect();
    Run { name: "recognisers".to_owned(), found, ms }
}

fn rows(table: &mut Table, run: &Run, score: &Score) -> Result<()> {
    let name = |what: &str| format!("{} {what}", run.name);
    let share = |what: &str, value: f64, target: Option<Target>| {
        let row = Row::alone(name(what), value, "share", "all of the corpus");
        // Targets are the product's, not its parts' or its peer's.
        match target.filter(|_| run.name == PRODUCT) {
            Some(target) => row.target(target),
            None => row,
        }
    };
    table.add(share("core characters found", score.core_recall, Some(Target::AtLeast(0.92))))?;
    table.add(share("core values covered >= 90 %", score.core_covered, None))?;
    table.add(share("characters rightly taken", score.precision, Some(Target::AtLeast(0.95))))?;
    table.add(share("texts that leak a core value", score.leaks, Some(Target::AtMost(0.05))))?;
    table.add(share("checksum values that leak", score.checksum_leaks, Some(Target::AtMost(0.0))))?;
    table.add(share("texts that stay inside unread", score.kept, None))?;
    table.add(share("F2 over the core types", score.core_f2, None))?;
    table.add(share("F2 over all types", score.f2, Some(Target::AtLeast(0.845))))?;
    table.add(Row::alone(name("a text"), run.ms, "ms", "one thread"))
}

/// Recognisers on texts of 8 KiB: prose without a finding, and the corpus itself.
fn speed(table: &mut Table, scanner: &Scanner, texts: &[Text]) -> Result<()> {
    let dense: String = texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>().join(" ");
    let dense = dense.get(..dense.floor_char_boundary(TIMED_BYTES)).context("cutting the corpus")?;
    let prose = task::prose(TIMED_BYTES);
    for (what, text) in [("prose", prose.as_str()), ("the corpus, dense", dense)] {
        let rounds = (0..ROUNDS).map(|_| {
            let value = machine::median_us(SPAN, || drop(black_box(scanner.scan(&[text]))));
            let ceiling = machine::median_us(SPAN, || {
                black_box(every_byte(black_box(text.as_bytes())));
            });
            (value, ceiling)
        });
        let (value, ceiling) = median(rounds.collect());
        let row =
            Row::new(format!("recognisers, 8 KiB of {what}"), value, "us", ceiling, "a look at each byte");
        table.add(row.target(Target::AtMost(50.0)))?;
    }
    Ok(())
}

/// The least that somebody who looks at every byte in turn does.
fn every_byte(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}
