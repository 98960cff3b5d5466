//! The terminal result of a task: `result.<tenant>.<agent>.<task>`, exactly one a task.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::code::Code;
use crate::decision::{Decision, Destination, PromptUsed};
use crate::digest::Digest;
use crate::header::{self, Headers};
use crate::ids::{Identifier, Name, TaskId};
use crate::labels::Labels;
use crate::redact::Restored;
use crate::sensitive::Sensitive;

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskResult {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// The task.
    pub task: TaskId,
    /// The producer's own id where it gave one that is no UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<Identifier>,
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// How it ended.
    pub state: State,
    /// Why, where it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ResultError>,
    /// What came out, where it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// What ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUsed>,
    /// Tokens.
    #[serde(default)]
    pub usage: Usage,
    /// Millionths of a US dollar; null when the price is not known, 0 for local work.
    #[serde(default)]
    pub cost_usd_micros: Option<u64>,
    /// How long it took.
    #[serde(default)]
    pub timings: Timings,
    /// The bundle's prompt that the task was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptUsed>,
    /// The decision behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Uuid>,
    /// The bundle that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// Times it was sent or run.
    #[serde(default)]
    pub attempts: u32,
    /// What became of the tokens that left in the place of values, where any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction: Option<Restored>,
}

/// How a task ended, in A2A's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted.
    Submitted,
    /// Dispatched.
    Working,
    /// Held for a person.
    InputRequired,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Withdrawn.
    Canceled,
    /// Not permitted.
    Rejected,
}

impl State {
    /// The state as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Rejected => "rejected",
        }
    }

    /// The state that a word names.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [
            Self::Submitted,
            Self::Working,
            Self::InputRequired,
            Self::Completed,
            Self::Failed,
            Self::Canceled,
            Self::Rejected,
        ];
        all.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::Rejected)
    }
}

/// Why a task did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResultError {
    /// Stable code.
    pub code: Code,
    /// One plain sentence: what is wrong and what to do.
    pub message: String,
    /// When a new try makes sense, milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Output {
    /// A message.
    Text {
        /// The text.
        text: Sensitive<String>,
        /// Tool calls in OpenAI's form.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Sensitive<Value>>,
        /// Why the model stopped.
        finish: Finish,
    },
    /// JSON by the schema that was asked for.
    Json {
        /// The value.
        value: Sensitive<Value>,
    },
    /// One of the labels that were given.
    Class {
        /// The label.
        class: Sensitive<String>,
    },
    /// Vectors, one a text, in order.
    Embeddings {
        /// The vectors; unit length.
        vectors: Vec<Vec<f32>>,
    },
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It had finished, or met a stop text.
    Stop,
    /// The token limit.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The provider filtered the content.
    ContentFilter,
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUsed {
    /// The model that was asked for.
    pub requested: String,
    /// The model that answered, as it says.
    pub answered: String,
    /// SHA-256 of the model file, where it is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// SHA-256 of the adapter that was merged into it, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<Digest>,
    /// Quantisation of the weights as they ran, where it is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<String>,
    /// Instruction set of its arithmetic, where it is ours: answers are bit-equal only within one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
}

/// Tokens, as the model counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Read.
    pub input_tokens: u64,
    /// Written.
    pub output_tokens: u64,
    /// Read from a cache, among those read.
    #[serde(default)]
    pub cached_tokens: u64,
}

/// How long it took, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// From submission to result.
    pub total_ms: u64,
    /// In queues.
    pub queued_ms: u64,
    /// Until the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// In the model or at the provider.
    pub run_ms: u64,
}

impl TaskResult {
    /// Headers that tell of a result without its content, for those who may not read it.
    #[must_use]
    pub fn headers(&self, base: Headers, labels: Option<&Labels>) -> Headers {
        base.with(header::STATE, self.state.as_str())
            .with_some(header::CODE, self.error.as_ref().map(|error| error.code.as_str()))
            .with_some(header::SENSITIVITY, labels.map(|labels| labels.sensitivity.as_str()))
            .with_some(header::LABELS, labels.and_then(|labels| serde_json::to_string(labels).ok()))
            .with_some(header::DESTINATION, self.destination.as_ref().map(|d| d.name.as_str()))
            .with_some(header::DECISION_ID, self.decision.map(|id| id.to_string()))
            .with_some(
                header::PROMPT,
                self.prompt.as_ref().map(|used| format!("{} {}", used.name, used.hash)),
            )
            .with_some(header::COST, self.cost_usd_micros.map(|cost| cost.to_string()))
            .with(header::LATENCY, self.timings.total_ms.to_string())
    }

    /// A result without output.
    #[must_use]
    pub fn ended(tenant: Name, agent: Name, task: TaskId, state: State, error: ResultError) -> Self {
        Self {
            schema_version: 1,
            task,
            external_id: None,
            tenant,
            agent,
            state,
            error: Some(error),
            output: None,
            destination: None,
            model: None,
            usage: Usage::default(),
            cost_usd_micros: Some(0),
            timings: Timings::default(),
            prompt: None,
            decision: None,
            bundle: None,
            attempts: 0,
            redaction: None,
        }
    }

    /// The result with the time since submission filled in.
    #[must_use]
    pub fn timed(mut self, submitted: Timestamp, now: Timestamp) -> Self {
        let span = now.duration_since(submitted).as_millis();
        self.timings.total_ms = u64::try_from(span).unwrap_or(0);
        self
    }

    /// The result with the decision that caused it.
    #[must_use]
    pub fn decided(mut self, decision: &Decision) -> Self {
        self.decision = Some(decision.id);
        self.bundle = Some(decision.bundle);
        self.prompt.clone_from(&decision.prompt);
        self
    }
}
