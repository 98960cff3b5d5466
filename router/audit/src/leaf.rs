//! The leaf: what the record says of a message in the open, as exact JSON bytes in fixed field order.
//!
//! An allow-list: ids, enums, hashes, numbers and names that bundles and the directory give. Nothing that a producer, a
//! model, a reviewer or an operator wrote stands in a leaf; that is in the sealed body. An exported line equals the leaf,
//! so `sha256(0x00 ‖ line)` (RFC 6962 §2.1) checks it with nothing but coreutils.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Outcome, PromptUsed, Scan, Shadow};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{KnownLabels, Sensitivity, Stakes};
use tidegate_schemas::result::State;
use tidegate_schemas::task::Kind;
use uuid::Uuid;

pub use detail::{ActWord, Detail, PhaseWord, RANGES_MAX, StepWord, VerdictWord};

mod detail;

/// Longest leaf, bytes: an entry of a C2SP tile bundle has a 16-bit length.
pub const LEAF_BYTES_MAX: usize = 65_535;

/// What the record says of one message or gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    /// Version of this form; 1.
    pub v: u32,
    /// The record's id: a UUIDv7 made from the message's time, stream and sequence, the same each time.
    pub id: Uuid,
    /// Its place in the record, from 0.
    pub index: u64,
    /// When the server stored the message.
    pub time: Timestamp,
    /// What it is.
    pub kind: RecordKind,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Keyed digest of the workflow's name, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The task that caused the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// Data subjects, each an HMAC under the subject's own key, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// W3C trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Where the message stands.
    pub source: Source,
    /// Where the message that caused it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Position>,
    /// What is odd about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// State of the task after a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Code of a result, attempt, step or dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The decision behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionLeaf>,
    /// What only this kind of record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// The sealed message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Commitment>,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A task was submitted.
    Task,
    /// A task was withdrawn.
    Cancel,
    /// Work came back to the router.
    Step,
    /// Work was dispatched.
    Work,
    /// A task ended.
    Result,
    /// An attempt began or ended.
    Attempt,
    /// A task waits for a person.
    Review,
    /// A person decided.
    Verdict,
    /// A message was given up.
    Dead,
    /// An operator acted.
    Control,
    /// A signed tree head.
    Checkpoint,
    /// Sequences of a stream are missing.
    Gap,
    /// A message on no subject of the cell, or whose payload is not what its subject says.
    Unparsable,
}

impl RecordKind {
    /// The word that stands in a leaf.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Cancel => "cancel",
            Self::Step => "step",
            Self::Work => "work",
            Self::Result => "result",
            Self::Attempt => "attempt",
            Self::Review => "review",
            Self::Verdict => "verdict",
            Self::Dead => "dead",
            Self::Control => "control",
            Self::Checkpoint => "checkpoint",
            Self::Gap => "gap",
            Self::Unparsable => "unparsable",
        }
    }
}

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its stream.
    pub stream: String,
    /// Its sequence, or the first missing one.
    pub sequence: u64,
    /// Its subject, where each token is a name of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What is odd about a record. Each is an anomaly but [`Flag::Repeat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Its cause is not in the record.
    CauseMissing,
    /// A task's second terminal result.
    SecondTerminal,
    /// A task id that the record knows.
    Repeat,
    /// It names a task that the record does not know.
    Orphan,
    /// Sequences are missing and nobody knows why.
    Unexplained,
    /// A part of it is not what its subject says.
    Malformed,
}

impl Flag {
    /// Whether somebody must look at it.
    #[must_use]
    pub fn is_anomaly(self) -> bool {
        self != Self::Repeat
    }

    /// The flag as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CauseMissing => "cause_missing",
            Self::SecondTerminal => "second_terminal",
            Self::Repeat => "repeat",
            Self::Orphan => "orphan",
            Self::Unexplained => "unexplained",
            Self::Malformed => "malformed",
        }
    }
}

/// A decision, without what explains it in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionLeaf {
    /// Its id.
    pub id: Uuid,
    /// What happens to the task.
    pub outcome: Outcome,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// The model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The region it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Effective sensitivity.
    pub sensitivity: Sensitivity,
    /// What is at stake.
    pub stakes: Stakes,
    /// Names among its effective labels, in the words of the bundle that judged: never a producer's own. Decisions from
    /// before a router wrote them have none.
    #[serde(default, skip_serializing_if = "KnownLabels::is_empty")]
    pub labels: KnownLabels,
    /// Policies that determined it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// What looked for personal data.
    pub scan: Scan,
    /// Decisions of the task before it.
    pub hop: u32,
    /// The bundle that judged.
    pub bundle: Digest,
    /// The directory that was asked.
    pub directory: Digest,
    /// The bundle's prompt that the task was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptUsed>,
    /// Salted digest of what was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// What a bundle that was judged beside would have decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// What the leaf says of the sealed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// How it is sealed.
    pub alg: Seal,
    /// Which key, by its number in the record.
    pub key: u64,
    /// Length of what is sealed, bytes.
    pub length: u64,
    /// SHA-256 of nonce and ciphertext.
    pub sha256: Digest,
}

/// How a body is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seal {
    /// XChaCha20-Poly1305 with a random nonce (draft-irtf-cfrg-xchacha).
    #[serde(rename = "xc20p")]
    XChaCha20Poly1305,
}

/// `SHA-256(0x00 ‖ leaf)`, the leaf hash of RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(leaf);
    hash.finalize().into()
}

impl Leaf {
    /// Where its message stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.source.stream.clone(), self.source.sequence)
    }

    /// Kind of work, of a task.
    #[must_use]
    pub fn task_kind(&self) -> Option<Kind> {
        match self.detail {
            Some(Detail::Task { kind, .. }) => kind,
            _ => None,
        }
    }

    /// Where it was decided to go, or where it ran.
    #[must_use]
    pub fn destination(&self) -> Option<&Name> {
        let decided = self.decision.as_ref().and_then(|decision| decision.destination.as_ref());
        decided.or(match &self.detail {
            Some(Detail::Result { destination, .. }) => destination.as_ref(),
            Some(Detail::Step { destination, .. }) => Some(destination),
            _ => None,
        })
    }

    /// Sensitivity: the effective one of its decision, the declared one of a task.
    #[must_use]
    pub fn sensitivity(&self) -> Option<Sensitivity> {
        self.decision.as_ref().map(|decision| decision.sensitivity).or(match self.detail {
            Some(Detail::Task { sensitivity, .. }) => Some(sensitivity),
            _ => None,
        })
    }

    /// What is at stake: by its decision, as declared of a task.
    #[must_use]
    pub fn stakes(&self) -> Option<Stakes> {
        self.decision.as_ref().map(|decision| decision.stakes).or(match self.detail {
            Some(Detail::Task { stakes, .. }) => Some(stakes),
            _ => None,
        })
    }

    /// Whether somebody must look at it.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        self.flags.iter().any(|flag| flag.is_anomaly())
    }
}
