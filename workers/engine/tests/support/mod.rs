//! An engine on the test models, and a caller that waits for its events.

#![expect(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests; not every file uses all of it")]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tidegate_engine::{
    CancelFlag, ChatMessage, ChatRequest, Engine, EngineConfig, EngineError, EngineThread, Job, JobEvent,
    JobInput, Output, OutputContent, SamplingParams,
};

/// No test waits longer for an event.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const CHAT: &str = "SmolLM2-135M-Instruct/model.gguf";
pub(crate) const EMBED: &str = "all-MiniLM-L6-v2";

pub(crate) fn model(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.models");
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = models.join(name);
    assert!(
        path.exists(),
        "`{}` is missing: run ./tests/run or deploy/fetch models, or set TIDEGATE_MODELS",
        path.display()
    );
    path
}

pub(crate) fn chat_engine(config: EngineConfig) -> (Engine, EngineThread) {
    Engine::start(EngineConfig { chat: Some(model(CHAT)), ..config }).unwrap()
}

pub(crate) fn request(question: &str, max_tokens: u32) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage { role: "user".to_owned(), content: question.to_owned() }],
        tools: None,
        params: SamplingParams { max_tokens, ..SamplingParams::default() },
        schema: None,
    }
}

/// A submitted job.
pub(crate) struct Asked {
    pub(crate) cancel: CancelFlag,
    events: Receiver<JobEvent>,
}

/// All events of a job.
pub(crate) struct Reply {
    pub(crate) pieces: Vec<String>,
    pub(crate) outcome: Result<Output, EngineError>,
}

pub(crate) fn submit(engine: &Engine, input: JobInput, deadline: Option<Instant>) -> Asked {
    let (sender, events) = channel();
    let cancel = CancelFlag::new();
    let job = Job {
        id: 1,
        input,
        deadline,
        cancel: cancel.clone(),
        events: Box::new(move |event| drop(sender.send(event))),
    };
    engine.submit(job).unwrap();
    Asked { cancel, events }
}

pub(crate) fn ask(engine: &Engine, request: ChatRequest) -> Reply {
    submit(engine, JobInput::Chat(request), None).reply()
}

impl Asked {
    /// The next piece of text; waits for it.
    pub(crate) fn piece(&self) -> String {
        match self.events.recv_timeout(PATIENCE).unwrap() {
            JobEvent::Token { text, .. } => text,
            JobEvent::Done(_) => panic!("done before a piece came"),
            JobEvent::Failed(error, _) => panic!("failed before a piece came: {error}"),
        }
    }

    /// Waits for the end; checks that pieces are numbered and nothing comes after the end.
    pub(crate) fn reply(self) -> Reply {
        let mut pieces = Vec::new();
        let mut first = None;
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                JobEvent::Token { index, text } => {
                    let first = *first.get_or_insert(index);
                    assert_eq!(index as usize, first as usize + pieces.len());
                    pieces.push(text);
                }
                JobEvent::Done(output) => return self.ended(pieces, Ok(output)),
                JobEvent::Failed(error, _) => return self.ended(pieces, Err(error)),
            }
        }
    }

    fn ended(&self, pieces: Vec<String>, outcome: Result<Output, EngineError>) -> Reply {
        assert!(self.events.recv_timeout(PATIENCE).is_err(), "an event came after the last one");
        Reply { pieces, outcome }
    }
}

impl Reply {
    pub(crate) fn output(&self) -> &Output {
        self.outcome.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn error(&self) -> &EngineError {
        match &self.outcome {
            Ok(_) => panic!("the job did not fail"),
            Err(error) => error,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match &self.output().content {
            OutputContent::Text(text) => text,
            OutputContent::Embeddings(_) | OutputContent::Scanned(_) => panic!("not a text"),
        }
    }
}
