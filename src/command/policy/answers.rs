//! What cases of prompts expect of an answer, asked of a local model: the likeliest words, so the same each time.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tidegate_engine::{
    CancelFlag, Engine, EngineConfig, Job, JobEvent, JobInput, OutputContent, SamplingParams,
};
use tidegate_policies::Judge;
use tidegate_policies::cases::{self, PromptCase};

use crate::{launch, models, output};

/// Seed of every answer.
const SEED: u64 = 0;

/// A model that is to be asked.
pub(super) struct Model {
    file: PathBuf,
    sha256: Option<String>,
    adapter: Option<PathBuf>,
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
    /// What was not as expected.
    failed: Vec<Failed>,
}

/// A model that was asked.
#[derive(Debug, Serialize)]
struct Asked {
    name: String,
    sha256: String,
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
pub(super) fn model(word: &str, adapter: Option<PathBuf>) -> Result<Model> {
    let chat = |model: &models::Model| model.kind == "chat" && model.name == word;
    let found = models::manifest()?.model.into_iter().find(chat);
    let model = match (found, Path::new(word)) {
        (Some(model), _) => {
            let file = model.files.first().context("the model has no file")?;
            model.verify(file)?;
            Model { file: model.directory().join(&file.path), sha256: Some(file.sha256.clone()), adapter }
        }
        (None, path) if path.is_file() => Model { file: path.to_owned(), sha256: None, adapter },
        (None, _) => bail!("`{word}` is neither a chat model of `tidegate model list` nor a file"),
    };
    launch::with_threads(EngineConfig::default().threads);
    Ok(model)
}

impl Answers {
    /// Asks the model each case that expects something of an answer; without a model nothing is run, and that is told.
    pub(super) fn ask(judge: &Judge, model: Option<Model>, quiet: bool) -> Result<Self> {
        let all = judge.bundle().cases().prompts.iter();
        let asked: Vec<&PromptCase> = all.filter(|case| case.answer.is_some()).collect();
        let mut found = Self { expected: asked.len(), ..Self::default() };
        let Some(model) = model else { return Ok(found) };
        let config = EngineConfig {
            chat: Some(model.file),
            chat_sha256: model.sha256,
            chat_adapter: model.adapter,
            ..EngineConfig::default()
        };
        let (engine, thread) = Engine::start(config).context("loading the model")?;
        let info = engine.models().iter().find(|info| info.kind == "chat").context("a chat model")?;
        found.model = Some(Asked {
            name: info.name.clone(),
            sha256: info.sha256.clone(),
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

    /// Whether an answer is not as expected.
    pub(super) fn failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Says it for people. What was not run is not said to be well.
    pub(super) fn tell(&self) {
        for Failed { case, why } in &self.failed {
            output::line(format!("FAILED {case}: {}", why.join("; ")));
        }
        match &self.model {
            Some(Asked { name, sha256, adapter_sha256 }) => {
                let with =
                    adapter_sha256.as_ref().map(|hash| format!(", adapter {hash}")).unwrap_or_default();
                output::line(format!(
                    "{} answers as expected, {} not, by {name} (sha256 {sha256}{with})",
                    self.run - self.failed.len(),
                    self.failed.len()
                ));
            }
            None if self.expected > 0 => output::line(format!(
                "{} answers NOT RUN: name a model with --model to ask it",
                self.expected
            )),
            None => {}
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
