//! What cases of prompts expect of an answer, asked of a local model: the likeliest words, so the same each time.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tidegate_engine::{
    CancelFlag, Engine, EngineConfig, Job, JobEvent, JobInput, OutputContent, SamplingParams,
};
use tidegate_policies::cases::{self, PromptCase};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Kind;

use crate::{launch, models, output};

/// Seed of every answer.
const SEED: u64 = 0;

/// Which model is wanted.
#[derive(Debug, Clone)]
pub(super) enum Wanted<'a> {
    /// One of the set-up by its name, or a file; and an adapter that is merged into it.
    Named(&'a str, Option<PathBuf>),
    /// The one that the bundle pins.
    Pinned,
    /// None.
    Nobody,
}

/// A model that is to be asked.
#[derive(Debug)]
pub(super) struct Model {
    file: PathBuf,
    sha256: Option<String>,
    adapter: Option<PathBuf>,
}

/// Who is asked.
#[derive(Debug)]
pub(super) enum Choice {
    /// This model.
    Ask(Model),
    /// Nobody, as it was wanted, or as there is nothing to ask.
    Nobody,
    /// Nobody, though somebody should be: why.
    Missing(String),
}

/// What came of the answers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answers {
    /// Cases that expect something of an answer, count.
    expected: usize,
    /// Cases that were asked, count.
    run: usize,
    /// Who was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Asked>,
    /// Why nobody was asked, where somebody should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    unasked: Option<String>,
    /// What was not as expected.
    failed: Vec<Failed>,
}

/// A model that was asked.
#[derive(Debug, Serialize)]
struct Asked {
    name: String,
    sha256: String,
    /// Whether it may answer at a local destination of the bundle: one pins it, or one pins none.
    may_answer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter_sha256: Option<String>,
}

/// An answer that is not as expected.
#[derive(Debug, Serialize)]
struct Failed {
    case: String,
    why: Vec<String>,
}

/// A model by its name among those of the set-up, or by its file. A process that runs it has its threads from its launch.
fn named(word: &str, adapter: Option<PathBuf>) -> Result<Model> {
    let found = chat_models()?.find(|model| model.name == word);
    match (found, Path::new(word)) {
        (Some(model), _) => Ok(Model { adapter, ..verified(&model)? }),
        (None, path) if path.is_file() => Ok(Model { file: path.to_owned(), sha256: None, adapter }),
        (None, _) => bail!("`{word}` is neither a chat model of `tidegate model list` nor a file"),
    }
}

fn chat_models() -> Result<impl Iterator<Item = models::Model>> {
    Ok(models::manifest()?.model.into_iter().filter(|model| model.kind == "chat"))
}

fn verified(model: &models::Model) -> Result<Model> {
    let file = model.files.first().context("the model has no file")?;
    model.verify(file)?;
    Ok(Model { file: model.directory().join(&file.path), sha256: Some(file.sha256.clone()), adapter: None })
}

/// Whether weights may answer chats at a local destination of the bundle: one pins them, or one pins none.
fn may_answer(bundle: &Bundle, sha256: &str, adapter: Option<&str>) -> bool {
    let mut local = bundle
        .destinations()
        .iter()
        .filter(|spec| spec.lane == Lane::Local && spec.kinds.contains(&Kind::Chat));
    local.any(|spec| {
        let pinned = spec.adapters.first().map(|adapter| adapter.sha256.to_string());
        spec.model_sha256.is_none_or(|pin| pin.to_string() == sha256) && pinned.as_deref() == adapter
    })
}

impl Choice {
    /// Who is asked about this bundle's cases. A process that runs a model has its threads from its launch.
    pub(super) fn of(wanted: Wanted<'_>, bundle: &Bundle) -> Result<Self> {
        let choice = match wanted {
            Wanted::Nobody => Self::Nobody,
            Wanted::Named(word, adapter) => Self::Ask(named(word, adapter)?),
            Wanted::Pinned if bundle.cases().prompts.iter().all(|case| case.answer.is_none()) => Self::Nobody,
            Wanted::Pinned => pinned(bundle)?,
        };
        if let Self::Ask(_) = choice {
            launch::with_threads(EngineConfig::default().threads);
        }
        Ok(choice)
    }
}

fn pinned(bundle: &Bundle) -> Result<Choice> {
    let pins = |model: &models::Model| {
        model.files.first().is_some_and(|file| may_answer(bundle, &file.sha256, None))
    };
    Ok(match chat_models()?.find(pins) {
        None => Choice::Missing(
            "no chat model of `tidegate model list` is one that a local destination pins; name its file with --model"
                .to_owned(),
        ),
        Some(model) => verified(&model).map_or_else(
            |error| Choice::Missing(output::sentence(&error)),
            Choice::Ask,
        ),
    })
}

impl Answers {
    /// Asks the model each case that expects something of an answer; without a model nothing is run, and that is told.
    pub(super) fn ask(judge: &Judge, choice: Choice, quiet: bool) -> Result<Self> {
        let all = judge.bundle().cases().prompts.iter();
        let asked: Vec<&PromptCase> = all.filter(|case| case.answer.is_some()).collect();
        let mut found = Self { expected: asked.len(), ..Self::default() };
        let model = match choice {
            Choice::Ask(model) => model,
            Choice::Nobody => return Ok(found),
            Choice::Missing(why) => return Ok(Self { unasked: Some(why), ..found }),
        };
        let config = EngineConfig {
            chat: Some(model.file),
            chat_sha256: model.sha256,
            chat_adapter: model.adapter,
            ..EngineConfig::default()
        };
        let (engine, thread) = Engine::start(config).context("loading the model")?;
        let info = engine.models().iter().find(|info| info.kind == "chat").context("a chat model")?;
        let may_answer = may_answer(judge.bundle(), &info.sha256, info.adapter_sha256.as_deref());
        found.model = Some(Asked {
            name: info.name.clone(),
            sha256: info.sha256.clone(),
            may_answer,
            adapter_sha256: info.adapter_sha256.clone(),
        });
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(asked.len() as u64) };
        bar.set_style(ProgressStyle::with_template("asking {wide_bar} {pos}/{len} answers")?);
        for case in asked {
            let why = match answer(&engine, judge, case) {
                Ok((text, schema)) => case.differs(&text, schema.as_ref()),
                Err(error) => vec![output::sentence(&error)],
            };
            found.run += 1;
            if !why.is_empty() {
                found.failed.push(Failed { case: case.name.clone(), why });
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        engine.shutdown();
        thread.join();
        Ok(found)
    }

    /// Whether an answer is not as expected, or nobody was asked who should have been.
    pub(super) fn failed(&self) -> bool {
        !self.failed.is_empty() || self.unasked.is_some()
    }

    /// Says it for people. What was not run is not said to be well.
    pub(super) fn tell(&self) {
        for Failed { case, why } in &self.failed {
            output::line(format!("FAILED {case}: {}", why.join("; ")));
        }
        match (&self.model, &self.unasked) {
            (Some(Asked { name, sha256, may_answer, adapter_sha256 }), _) => {
                let with =
                    adapter_sha256.as_ref().map(|hash| format!(", adapter {hash}")).unwrap_or_default();
                let others = if *may_answer { "" } else { ", which no local destination of the bundle runs" };
                output::line(format!(
                    "{} answers as expected, {} not, by {name} (sha256 {sha256}{with}){others}",
                    self.run - self.failed.len(),
                    self.failed.len()
                ));
            }
            (None, Some(why)) => output::line(format!("{} answers NOT RUN: {why}", self.expected)),
            (None, None) if self.expected > 0 => {
                output::line(format!("{} answers NOT RUN, by --no-model", self.expected));
            }
            (None, None) => {}
        }
    }
}

/// What the model answers, and the schema that held it.
fn answer(engine: &Engine, judge: &Judge, case: &PromptCase) -> Result<(String, Option<serde_json::Value>)> {
    let (chat, schema) = cases::conversation(case, judge)?;
    let mut request = tidegate_local::chat_request(&chat, schema.clone());
    request.params = SamplingParams { temperature: 0.0, seed: SEED, ..request.params };
    let (sender, receiver) = mpsc::channel();
    let job = Job {
        id: 0,
        input: JobInput::Chat(request),
        deadline: None,
        cancel: CancelFlag::new(),
        events: Box::new(move |event| {
            // Nobody listens any more once the answer was taken.
            let _ = sender.send(event);
        }),
    };
    engine.submit(job).context("asking the model")?;
    loop {
        match receiver.recv().context("the engine ended without an answer")? {
            JobEvent::Token { .. } => {}
            JobEvent::Failed(error, _) => return Err(error).context("the model"),
            JobEvent::Done(made) => match made.content {
                OutputContent::Text(text) => return Ok((text, schema)),
                OutputContent::Embeddings(_) | OutputContent::Scanned(_) => {
                    bail!("the model answered with something else than text")
                }
            },
        }
    }
}
