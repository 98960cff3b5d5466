//! What the engine is asked and what it answers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::ModelInfo;
use crate::error::EngineError;
use crate::scan::TextScan;

/// The ceilings on one job. A job beyond one fails with [`EngineError::InvalidInput`] naming it.
pub mod limits {
    /// Messages in one conversation.
    pub const MAX_MESSAGES: usize = 512;
    /// Bytes of all message contents together, before they are tokenised.
    pub const MAX_PROMPT_BYTES: usize = 1024 * 1024;
    /// Stop strings in one request.
    pub const MAX_STOP_STRINGS: usize = 16;
    /// Bytes of one stop string.
    pub const MAX_STOP_BYTES: usize = 256;
    /// Bytes of a JSON Schema as compact JSON.
    pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
    /// Texts in one embedding request.
    pub const MAX_EMBED_TEXTS: usize = 256;
    /// Bytes of one text to embed; what lies beyond the model's window of tokens is not read.
    pub const MAX_EMBED_TEXT_BYTES: usize = 64 * 1024;
    /// Texts in one request to scan.
    pub const MAX_SCAN_TEXTS: usize = 4_096;
    /// Bytes of all texts to scan together: about 160 windows.
    pub const MAX_SCAN_BYTES: usize = 64 * 1024;
}

/// One unit of work for the engine.
pub struct Job {
    /// The caller's number, for logs only.
    pub id: u64,
    /// What to do.
    pub input: JobInput,
    /// When the job fails with [`EngineError::DeadlineExceeded`]; looked at before each step, queued or running.
    pub deadline: Option<Instant>,
    /// Set by the caller to withdraw the job; looked at before each step, queued or running.
    pub cancel: CancelFlag,
    /// Called on the engine's thread with each event; it must not block (send into a channel). A panic in it
    /// fails this job alone.
    pub events: Box<dyn FnMut(JobEvent) + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Job {
    /// The error the job ends with now, if it is withdrawn or late.
    pub(crate) fn is_over(&self, now: Instant) -> Option<EngineError> {
        is_over(&self.cancel, self.deadline, now)
    }
}

pub(crate) fn is_over(cancel: &CancelFlag, deadline: Option<Instant>, now: Instant) -> Option<EngineError> {
    if cancel.is_canceled() {
        return Some(EngineError::Canceled);
    }
    deadline.is_some_and(|deadline| deadline <= now).then_some(EngineError::DeadlineExceeded)
}

/// What a job asks for. No `Debug`: it holds content.
pub enum JobInput {
    /// Continue a conversation; with a schema the answer is JSON of that shape.
    Chat(ChatRequest),
    /// One vector a text, each of length 1 (L2).
    Embed {
        /// The texts, at most [`limits::MAX_EMBED_TEXTS`].
        texts: Vec<String>,
    },
    /// What stands in each text, by the token classifier.
    Scan {
        /// The texts, at most [`limits::MAX_SCAN_TEXTS`] with [`limits::MAX_SCAN_BYTES`] together.
        texts: Vec<String>,
    },
}

/// A conversation to continue.
pub struct ChatRequest {
    /// The conversation so far, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tool definitions for the model's chat template, passed through as they are.
    pub tools: Option<serde_json::Value>,
    /// How tokens are chosen and when to stop.
    pub params: SamplingParams,
    /// A JSON Schema the answer must satisfy; enforced on each token. An answer cut by `max_tokens`
    /// ([`FinishReason::Length`]) is an incomplete JSON text.
    pub schema: Option<serde_json::Value>,
}

/// One message of a conversation.
#[derive(Clone, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`, as the model's template knows them.
    pub role: String,
    /// The text.
    pub content: String,
}

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the most likely token each time; otherwise at most 2.
    pub temperature: f64,
    /// Mass of the most likely tokens to choose among, in (0, 1].
    pub top_p: f64,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Seed of the choice: same seed, model, machine and `max_sequences = 1` give the same text.
    pub seed: u64,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, max_tokens: 256, seed: 0, stop: Vec::new() }
    }
}

/// A shared switch that withdraws a job.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// A switch that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Withdraws the job: it fails with [`EngineError::Canceled`] before its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What happened to a job. `Done` or `Failed` comes exactly once and last.
pub enum JobEvent {
    /// A piece of the answer, whole characters only.
    Token {
        /// Counts the pieces of this job from 0.
        index: u32,
        /// The piece; the concatenation of all pieces is the answer.
        text: String,
    },
    /// The job is finished.
    Done(Output),
    /// The job ended without a result; what it cost, where it had begun.
    Failed(EngineError, Option<Box<Spent>>),
}

/// What a job cost.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Tokens read and written.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// What it ran on.
    pub model: Arc<ModelInfo>,
}

/// The result of a job.
pub struct Output {
    /// What was made.
    pub content: OutputContent,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens read and written.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// What made it: enough to name the exact weights and arithmetic.
    pub model: Arc<ModelInfo>,
}

/// What a job made.
pub enum OutputContent {
    /// The whole answer, also when its pieces were sent before.
    Text(String),
    /// One vector a text, in order, each of length 1 (L2).
    Embeddings(Vec<Vec<f32>>),
    /// What was found in each text, in order.
    Scanned(Vec<TextScan>),
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model, a stop string or the schema ended the answer.
    Stop,
    /// `max_tokens` or the context's end cut the answer.
    Length,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt, or of all texts to embed.
    pub input_tokens: u32,
    /// Tokens generated, the one that ended the answer included.
    pub output_tokens: u32,
}

/// Where a job's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From `submit` to the first step.
    pub queued: Duration,
    /// Reading the prompt, up to the first token's choice; for embeddings, all of it.
    pub prompt: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

// === checks ===

impl JobInput {
    /// Holds the request to [`limits`].
    pub(crate) fn validate(&self) -> Result<(), EngineError> {
        let reason = match self {
            Self::Chat(request) => request.fault(),
            Self::Embed { texts } => embed_fault(texts),
            Self::Scan { texts } => scan_fault(texts),
        };
        reason.map_or(Ok(()), |reason| Err(EngineError::InvalidInput { reason }))
    }
}

impl ChatRequest {
    fn fault(&self) -> Option<&'static str> {
        let is_role = |role: &str| {
            (1..=32).contains(&role.len())
                && role.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let prompt_bytes: usize = self.messages.iter().map(|message| message.content.len()).sum();
        let json_bytes =
            |value: &serde_json::Value| serde_json::to_vec(value).map_or(usize::MAX, |v| v.len());
        if self.messages.is_empty() || self.messages.len() > limits::MAX_MESSAGES {
            Some("a conversation has 1 to 512 messages")
        } else if prompt_bytes > limits::MAX_PROMPT_BYTES {
            Some("the messages are longer than 1 MiB together")
        } else if !self.messages.iter().all(|message| is_role(&message.role)) {
            Some("a role is 1 to 32 lower-case letters")
        } else if self.tools.as_ref().is_some_and(|tools| json_bytes(tools) > limits::MAX_PROMPT_BYTES) {
            Some("the tool definitions are longer than 1 MiB")
        } else if self.schema.as_ref().is_some_and(|schema| json_bytes(schema) > limits::MAX_SCHEMA_BYTES) {
            Some("the schema is longer than 64 KiB")
        } else {
            self.params.fault()
        }
    }
}

impl SamplingParams {
    fn fault(&self) -> Option<&'static str> {
        let is_stop = |stop: &String| (1..=limits::MAX_STOP_BYTES).contains(&stop.len());
        if !(0.0..=2.0).contains(&self.temperature) {
            Some("temperature is between 0 and 2")
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            Some("top_p is above 0 and at most 1")
        } else if self.max_tokens == 0 {
            Some("max_tokens is at least 1")
        } else if self.stop.len() > limits::MAX_STOP_STRINGS || !self.stop.iter().all(is_stop) {
            Some("there are at most 16 stop strings of 1 to 256 bytes")
        } else {
            None
        }
    }
}

fn embed_fault(texts: &[String]) -> Option<&'static str> {
    if texts.is_empty() || texts.len() > limits::MAX_EMBED_TEXTS {
        Some("an embedding request has 1 to 256 texts")
    } else if texts.iter().any(|text| text.len() > limits::MAX_EMBED_TEXT_BYTES) {
        Some("a text to embed has at most 64 KiB")
    } else {
        None
    }
}

fn scan_fault(texts: &[String]) -> Option<&'static str> {
    if texts.is_empty() || texts.len() > limits::MAX_SCAN_TEXTS {
        Some("a request to scan has 1 to 4,096 texts")
    } else if texts.iter().map(String::len).sum::<usize>() > limits::MAX_SCAN_BYTES {
        Some("the texts to scan are longer than 64 KiB together")
    } else {
        None
    }
}
