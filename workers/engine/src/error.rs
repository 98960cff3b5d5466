//! What can go wrong, one error an operation. None of them ever holds text of a prompt or an answer.

use std::path::PathBuf;

/// Why a job ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The prompt leaves no room in the model's context.
    #[error(
        "the prompt has {prompt_tokens} tokens and the context of the model holds {context_tokens}; shorten the prompt or use a model with a longer context"
    )]
    ContextTooLong {
        /// Tokens of the rendered prompt.
        prompt_tokens: usize,
        /// Tokens the model holds, prompt and answer together.
        context_tokens: usize,
    },
    /// A text to embed does not fit the window of its model.
    #[error(
        "text {number} has {tokens} tokens and the embedding model reads {window_tokens}; split it, and embed the parts"
    )]
    TextTooLong {
        /// Which of the texts, from 1 on.
        number: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens that the model reads of a text.
        window_tokens: usize,
    },
    /// The deadline passed, in the queue or between two steps.
    #[error("the deadline passed before the job was finished")]
    DeadlineExceeded,
    /// The caller withdrew the job.
    #[error("the job was canceled")]
    Canceled,
    /// The schema cannot be enforced.
    #[error("the schema can't be enforced: {reason}")]
    BadSchema {
        /// What is wrong with it, without its content.
        reason: String,
    },
    /// No model for this kind of job is loaded.
    #[error("no {kind} model is loaded; start the engine with one")]
    UnsupportedKind {
        /// `chat`, `embed` or `scan`.
        kind: &'static str,
    },
    /// The request is outside the limits.
    #[error("the request is not valid: {reason}")]
    InvalidInput {
        /// Which limit or field.
        reason: &'static str,
    },
    /// The chat template refused the conversation.
    #[error(
        "the chat template of the model refused the conversation ({reason}); check the roles and their order"
    )]
    Template {
        /// The kind of refusal, without content.
        reason: String,
    },
    /// The model's arithmetic failed.
    #[error("the model failed while {doing}; see the engine's log, and verify the model file")]
    Model {
        /// What the engine was doing.
        doing: &'static str,
    },
    /// A panic while this job ran; the next jobs are not touched.
    #[error("the engine panicked while it ran this job; other jobs go on")]
    Panicked,
    /// The engine stopped before the job was finished.
    #[error("the engine was shut down before the job was finished")]
    ShutDown,
}

impl EngineError {
    /// A stable code for results and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ContextTooLong { .. } | Self::TextTooLong { .. } => "context_too_long",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Canceled => "canceled",
            Self::BadSchema { .. } => "bad_schema",
            Self::UnsupportedKind { .. } => "unsupported_kind",
            Self::InvalidInput { .. } => "invalid_input",
            Self::Template { .. } => "template_refused",
            Self::Model { .. } => "model_failed",
            Self::Panicked => "engine_panicked",
            Self::ShutDown => "engine_shut_down",
        }
    }

    /// Whether another attempt elsewhere or later could succeed with the same input.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Panicked | Self::ShutDown | Self::Model { .. })
    }
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the engine's queue of {limit} jobs is full; try again later")]
    Overloaded {
        /// The length of the queue, [`crate::EngineConfig::queue`].
        limit: usize,
    },
    /// The engine's thread has ended.
    #[error("the engine has stopped; start it again")]
    Stopped,
}

/// Why a model file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum RefusedModel {
    /// The file can't be read.
    #[error("can't read the model file `{}`; run `deploy/fetch models`, or name another file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is larger than allowed.
    #[error("the model file `{}` has {bytes} bytes and {max_bytes} are allowed; raise the ceiling if that is meant", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The ceiling.
        max_bytes: u64,
    },
    /// The content is not the one that was named.
    #[error("the model file `{}` has SHA-256 {found} and {expected} was expected; fetch it again", path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// The hash that was named, lower-case hex.
        expected: String,
        /// The hash of the file, lower-case hex.
        found: String,
    },
    /// The file is cut, corrupt or of another form than its name says.
    #[error("the model file `{}` is damaged or of another form ({reason}); fetch it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        reason: String,
    },
    /// The architecture has no forward pass here.
    #[error("the architecture `{architecture}` is not supported: {reason}; supported are llama and qwen3")]
    Architecture {
        /// Its name in the file.
        architecture: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The tokenizer is of a kind whose tokens we can't reproduce.
    #[error(
        "the tokenizer `{pre}` of the model file is not known here; put the model's tokenizer.json beside the file"
    )]
    Tokenizer {
        /// The tokenizer's type and `pre` in the file.
        pre: String,
    },
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No model was named.
    #[error("no model is named; name a chat model, an embedding model or a token classifier")]
    NoModel,
    /// A model file is refused.
    #[error(transparent)]
    Refused(#[from] RefusedModel),
    /// The weights can't be brought into memory.
    #[error("can't load the model `{}`: {reason}; fetch it again, or name another", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The adapter can't be merged into the chat model.
    #[error("the adapter `{}` can't be used: {reason}", path.display())]
    Adapter {
        /// Its directory or file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The chat template of the file can't be compiled.
    #[error("the chat template of the model can't be used: {reason}")]
    Template {
        /// What failed.
        reason: String,
    },
    /// The thread can't be started, or died while loading.
    #[error("the engine's thread could not be started or died while loading")]
    Thread,
}
