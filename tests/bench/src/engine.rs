//! The engine on one thread, reading a prompt and writing an answer, beside llama.cpp on the same file and the same words.
//!
//! llama.cpp runs in a Python process of its own (`llama.py`, a pinned wheel). Where it cannot be had, decoding is held
//! against the memory's bandwidth: each token reads all weights once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tidegate_engine::{
    CancelFlag, ChatMessage, ChatRequest, Engine, EngineConfig, Job, JobEvent, JobInput, Output,
    SamplingParams, launch_environment,
};

use crate::row::{Row, Table, median};
use crate::task;
use crate::{machine, say};

/// The default chat model, in the directory of models.
const MODEL: &str = "SmolLM2-135M-Instruct/model.gguf";
/// Variable that names the directory of models.
const MODELS: &str = "TIDEGATE_MODELS";
/// Variable that names a Python that has llama.cpp's bindings.
const LLAMA: &str = "TIDEGATE_BENCH_LLAMA";
/// Variable that names the model to a probe.
const PROBE: &str = "TIDEGATE_BENCH_MODEL";
/// Bytes of the question: about 450 tokens.
const QUESTION_BYTES: usize = 2_200;
/// Tokens of the answer.
const ANSWER_TOKENS: u32 = 96;
/// Answers a process gives; its best counts, since the others were disturbed.
const ANSWERS: usize = 3;
/// Rounds of engine and peer in turn; an odd number has a median.
const ROUNDS: usize = 3;
/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one side reaches.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Speed {
    /// Tokens of the prompt a second.
    prompt: f64,
    /// Tokens of the answer a second.
    decode: f64,
}

/// The default chat model's file.
pub(crate) fn model() -> Result<PathBuf> {
    let path = directory().join(MODEL);
    ensure!(path.is_file(), "there is no `{}`; run `deploy/fetch models`, or set {MODELS}", path.display());
    path.canonicalize().context("finding the model")
}

/// The directory of models.
pub(crate) fn directory() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models");
    std::env::var_os(MODELS).map_or(beside, PathBuf::from)
}

pub(crate) fn run(table: &mut Table, model: &Path) -> Result<()> {
    say("engine");
    let python = std::env::var_os(LLAMA).filter(|python| !python.is_empty());
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ours = ours(model)?;
        let peer = python.as_ref().map(|python| llama(Path::new(python), model)).transpose()?;
        rounds.push((ours, peer));
    }
    let against = |of: fn(&Speed) -> f64| -> Option<(f64, f64)> {
        let pairs: Option<Vec<_>> =
            rounds.iter().map(|(ours, peer)| Some((of(ours), of(peer.as_ref()?)))).collect();
        pairs.map(median)
    };
    let (prompt, decode) = (against(|speed| speed.prompt), against(|speed| speed.decode));
    if let (Some(prompt), Some(decode)) = (prompt, decode) {
        table.add(Row::new("prompt 1 thread", prompt.0, "tokens/s", prompt.1, "llama.cpp, same file"))?;
        return table.add(Row::new(
            "decode 1 thread",
            decode.0,
            "tokens/s",
            decode.1,
            "llama.cpp, same file",
        ));
    }
    say(
        "  llama.cpp is not at hand (see --help): decode is held against memory bandwidth, the prompt against nothing",
    );
    let best = |of: fn(&Speed) -> f64| rounds.iter().map(|(ours, _)| of(ours)).fold(0.0, f64::max);
    let bytes = std::fs::metadata(model).context("reading the model's size")?.len() as f64;
    table.add(Row::alone(
        "prompt 1 thread",
        best(|speed| speed.prompt),
        "tokens/s",
        "no llama.cpp at hand",
    ))?;
    table.add(Row::new(
        "decode 1 thread",
        best(|speed| speed.decode),
        "tokens/s",
        machine::memory_bandwidth() / bytes,
        "memory bandwidth / file",
    ))
}

/// The engine in a process that was started with its environment, which is read once.
fn ours(model: &Path) -> Result<Speed> {
    let mut probe = Command::new(std::env::current_exe().context("finding this program")?);
    probe.arg("probe").env(PROBE, model).envs(launch_environment(1));
    printed(&mut probe)
}

fn llama(python: &Path, model: &Path) -> Result<Speed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("llama.py");
    let mut peer = Command::new(python);
    peer.arg(script).arg(model).arg(task::prose(QUESTION_BYTES));
    peer.arg(ANSWER_TOKENS.to_string()).arg(ANSWERS.to_string());
    printed(&mut peer)
}

/// The last line that a side prints.
pub(crate) fn printed<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("running `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("`{program}` printed no figure"))
}

/// Our side: answers a few times and prints the best.
pub(crate) fn probe() -> Result<()> {
    use std::io::Write as _;
    let model = PathBuf::from(std::env::var_os(PROBE).with_context(|| format!("{PROBE} names no model"))?);
    let config = EngineConfig { chat: Some(model), threads: 1, ..EngineConfig::default() };
    let (engine, thread) = Engine::start(config)?;
    let mut best = Speed { prompt: 0.0, decode: 0.0 };
    for _ in 0..ANSWERS {
        let output = answer(&engine)?;
        let (usage, timings) = (output.usage, output.timings);
        ensure!(usage.output_tokens > 1, "the answer has no second token");
        best.prompt = best.prompt.max(f64::from(usage.input_tokens) / timings.prompt.as_secs_f64());
        best.decode = best.decode.max(f64::from(usage.output_tokens - 1) / timings.decode.as_secs_f64());
    }
    drop(engine);
    thread.join();
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&best)?)?;
    Ok(())
}

fn answer(engine: &Engine) -> Result<Output> {
    let (sender, events) = mpsc::channel();
    let params = SamplingParams { max_tokens: ANSWER_TOKENS, ..SamplingParams::default() };
    let messages = vec![ChatMessage { role: "user".to_owned(), content: task::prose(QUESTION_BYTES) }];
    engine.submit(Job {
        id: 1,
        input: JobInput::Chat(ChatRequest { messages, tools: None, params, schema: None }),
        deadline: None,
        cancel: CancelFlag::new(),
        events: Box::new(move |event| drop(sender.send(event))),
    })?;
    loop {
        match events.recv_timeout(PATIENCE).context("the engine says nothing")? {
            JobEvent::Token { .. } => {}
            JobEvent::Done(output) => return Ok(output),
            JobEvent::Failed(error, _) => return Err(error.into()),
        }
    }
}
