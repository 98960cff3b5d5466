//! The token classifier on one thread, reading a short text, beside onnxruntime on the file that its weights come from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tidegate_engine::{
    CancelFlag, Engine, EngineConfig, Job, JobEvent, JobInput, TextScan, launch_environment,
};

use crate::row::{Row, Table, Target, median};
use crate::{engine, say};

/// Directory of the default classifier, in the directory of models.
pub(crate) const MODEL: &str = "rampart";
/// Variable that names a Python that has onnxruntime, numpy and tokenizers.
const ONNX: &str = "TIDEGATE_BENCH_ONNX";
/// Variable that names the model to a probe.
const PROBE: &str = "TIDEGATE_BENCH_SCAN";
/// The text that the peer (`workers/engine/fixtures/make_labels.py --speed`) reads as well.
const SHORT: &str = "Please ask Maria Fernandez at 12 Harbour Street, Dublin, whether the parcel that we sent on Monday has arrived.";
/// Times that it is read; the median counts.
const TIMES: usize = 200;
/// Rounds of ours and the peer in turn; an odd number has a median.
const ROUNDS: usize = 3;
/// Most that a short text may take, milliseconds.
const MS_MAX: f64 = 10.0;
/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one side takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Took {
    ms: f64,
}

pub(crate) fn run(table: &mut Table, chat: &Path) -> Result<()> {
    say("scan");
    let models = chat.parent().and_then(Path::parent).context("the directory of models")?;
    let model = models.join(MODEL);
    ensure!(model.is_dir(), "there is no `{}`; run `deploy/fetch models`", model.display());
    let python = std::env::var_os(ONNX).filter(|python| !python.is_empty());
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ours = ours(&model)?;
        let peer = python.as_ref().map(|python| peer(Path::new(python), &model)).transpose()?;
        rounds.push((ours.ms, peer.map(|peer| peer.ms)));
    }
    let pairs: Option<Vec<_>> = rounds.iter().map(|(ours, peer)| Some((*ours, (*peer)?))).collect();
    let name = "scan of 110 B, 1 thread";
    let row = match pairs.map(median) {
        Some((ours, peer)) => Row::new(name, ours, "ms", peer, "onnxruntime, the 4-bit file"),
        None => {
            let best = rounds.iter().map(|(ours, _)| *ours).fold(f64::INFINITY, f64::min);
            Row::alone(name, best, "ms", "no onnxruntime at hand")
        }
    };
    table.add(row.target(Target::AtMost(MS_MAX)))
}

fn ours(model: &Path) -> Result<Took> {
    let mut probe = Command::new(std::env::current_exe().context("finding this program")?);
    probe.arg("probe").env(PROBE, model).envs(launch_environment(1));
    engine::printed(&mut probe)
}

fn peer(python: &Path, model: &Path) -> Result<Took> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workers/engine/fixtures/make_labels.py");
    engine::printed(Command::new(python).arg(script).arg(model).arg("--speed"))
}

/// Our side, where this process was started for it: reads the text again and again, and prints how long that took.
pub(crate) fn probe() -> Option<Result<()>> {
    std::env::var_os(PROBE).map(|model| read(PathBuf::from(model)))
}

fn read(model: PathBuf) -> Result<()> {
    use std::io::Write as _;
    let config = EngineConfig { scan: Some(model), threads: 1, ..EngineConfig::default() };
    let (engine, thread) = Engine::start(config)?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        let TextScan::Read(found) = scanned(&engine, SHORT)? else { bail!("a text could not be read") };
        ensure!(!found.is_empty(), "nothing was found in a text with a name");
        times.push(1e3 * begun.elapsed().as_secs_f64());
    }
    drop(engine);
    thread.join();
    times.sort_by(f64::total_cmp);
    let ms = times.get(TIMES / 2).copied().unwrap_or_default();
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&Took { ms })?)?;
    Ok(())
}

/// Reads a text.
pub(crate) fn scanned(engine: &Engine, text: &str) -> Result<TextScan> {
    let (sender, events) = mpsc::channel();
    engine.submit(Job {
        id: 1,
        input: JobInput::Scan { texts: vec![text.to_owned()] },
        deadline: None,
        cancel: CancelFlag::new(),
        events: Box::new(move |event| drop(sender.send(event))),
    })?;
    match events.recv_timeout(PATIENCE).context("the engine says nothing")? {
        JobEvent::Done(output) => match output.content {
            tidegate_engine::OutputContent::Scanned(texts) => {
                texts.into_iter().next().context("the classifier read no text")
            }
            _ => bail!("the engine answered something else"),
        },
        JobEvent::Failed(error, _) => Err(error.into()),
        JobEvent::Token { .. } => bail!("the engine answered in pieces"),
    }
}
