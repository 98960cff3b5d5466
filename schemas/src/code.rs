//! Stable codes of results and dead letters. A code never changes its meaning; a sentence beside it may.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a task was rejected or failed, or a message could not be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The payload is over its size limit.
    TooLarge,
    /// The JSON nests deeper than the limit.
    TooDeep,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// The payload is not JSON, or a JSON object names a key twice.
    InvalidJson,
    /// A header stands twice, or the headers are over their limit.
    InvalidHeaders,
    /// A field is missing or has a value outside its range.
    InvalidField,
    /// The task's kind is not known.
    UnknownKind,
    /// The task declares no labels.
    LabelsMissing,
    /// The body names another tenant, agent or kind than the subject.
    IdentityMismatch,
    /// The directory does not know this tenant or agent.
    UnknownPrincipal,
    /// The id was used before with another body.
    IdConflict,
    /// The deadline had passed when the task was read.
    PastDeadline,
    /// The deadline passed before a result was there.
    DeadlineExceeded,
    /// No destination can do this kind of work with these inputs.
    NoCapableDestination,
    /// Policies permit no destination.
    PolicyDenied,
    /// Policy evaluation failed; nothing is permitted then.
    JudgeFailed,
    /// The wait would be longer than the task's deadline.
    Overloaded,
    /// A budget that it would count in leaves no room until its window ends.
    BudgetSpent,
    /// The lane, provider or model that the task needs is switched off.
    LaneOff,
    /// A reviewer rejected the task.
    ReviewRejected,
    /// No reviewer decided in time.
    ReviewExpired,
    /// The producer withdrew the task.
    Canceled,
    /// The input does not fit the model's context.
    ContextTooLong,
    /// The schema of an extraction cannot be used.
    InvalidSchema,
    /// The model could not finish.
    ModelFailed,
    /// The provider answered with an error that a retry does not cure.
    ProviderFailed,
    /// The provider refused the content.
    ProviderRefused,
    /// The provider could not be reached, or kept failing, within the permitted attempts.
    ProviderUnavailable,
    /// The ticket does not permit this payload at this destination now.
    TicketInvalid,
    /// The message made its handler fail again and again.
    Poison,
    /// The message has no place: its subject, cause or reference leads nowhere.
    Unattributable,
    /// What it was made from has changed since.
    Outdated,
    /// The bundle that decides has no such prompt, or none for this kind of work.
    UnknownPrompt,
    /// A variable of the prompt is missing, unknown or too long.
    InvalidVariables,
    /// The prompt could not be rendered with these variables.
    PromptFailed,
    /// The worker's model is not the one that the bundle pins.
    WrongModel,
    /// A defect of Tidegate itself.
    Internal,
}

impl Code {
    /// The code as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::InvalidHeaders => "invalid_headers",
            Self::InvalidField => "invalid_field",
            Self::UnknownKind => "unknown_kind",
            Self::LabelsMissing => "labels_missing",
            Self::IdentityMismatch => "identity_mismatch",
            Self::UnknownPrincipal => "unknown_principal",
            Self::IdConflict => "id_conflict",
            Self::PastDeadline => "past_deadline",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NoCapableDestination => "no_capable_destination",
            Self::PolicyDenied => "policy_denied",
            Self::JudgeFailed => "judge_failed",
            Self::Overloaded => "overloaded",
            Self::BudgetSpent => "budget_spent",
            Self::LaneOff => "lane_off",
            Self::ReviewRejected => "review_rejected",
            Self::ReviewExpired => "review_expired",
            Self::Canceled => "canceled",
            Self::ContextTooLong => "context_too_long",
            Self::InvalidSchema => "invalid_schema",
            Self::ModelFailed => "model_failed",
            Self::ProviderFailed => "provider_failed",
            Self::ProviderRefused => "provider_refused",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::TicketInvalid => "ticket_invalid",
            Self::Poison => "poison",
            Self::Unattributable => "unattributable",
            Self::Outdated => "outdated",
            Self::UnknownPrompt => "unknown_prompt",
            Self::InvalidVariables => "invalid_variables",
            Self::PromptFailed => "prompt_failed",
            Self::WrongModel => "wrong_model",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An input that was refused: a stable code and one plain sentence that quotes nothing of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refused {
    /// The code.
    pub code: Code,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl Refused {
    /// A refusal.
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}
