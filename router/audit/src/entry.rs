//! What goes into the record: messages as the streams stored them, and the gaps between them.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Position;

/// One stored message, exactly as its stream holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Stream that holds it.
    pub stream: String,
    /// Its sequence in that stream, from 1.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// When the server stored it.
    pub time: Timestamp,
    /// Names and values in their order, in their case, duplicates and all.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Bytes,
}

/// Sequences of a stream that hold no message any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: String,
    /// First missing sequence.
    pub from: u64,
    /// Last missing sequence.
    pub to: u64,
    /// Why they are missing.
    pub reason: GapReason,
    /// When that was noticed.
    pub time: Timestamp,
}

/// Why sequences are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They lie before the stream's first message, as recorders before called that. Nothing on record says who took them: an
    /// anomaly.
    Trimmed,
    /// The server holds them no more: somebody deleted them, or it lost them. An anomaly.
    Deleted,
    /// The recorder deleted them, and said so on record: their data subject was erased.
    Erased,
    /// They may have been recorded in a history that the record broke with, and trimmed since: it was restored from an older
    /// copy, or begun anew, and an operator accepted that.
    Break,
    /// Nobody knows; an anomaly.
    Unexplained,
}

impl GapReason {
    /// Whether something on record says why the messages are gone: an act on record erased them, or an accepted break left them
    /// behind. That the server holds a message no more does not say by whom, or whether it lost it; also not of those before the
    /// first one that it holds, for only the recorder trims, and only what is recorded.
    #[must_use]
    pub fn is_explained(self) -> bool {
        matches!(self, Self::Erased | Self::Break)
    }
}

/// One thing to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Entry),
    /// Missing messages.
    Gap(Gap),
}

impl Entry {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.stream.clone(), self.sequence)
    }

    /// The first value of a header, whatever the case of `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The headers as roles write them; of duplicates the last one stays.
    #[must_use]
    pub fn trusted_headers(&self) -> Headers {
        Headers::trusted(self.headers.iter().cloned())
    }

    /// Bytes it weighs in a batch: subject, headers and payload.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.subject.len() + headers + self.payload.len()
    }
}

/// Shows where it stands and how long it is; never what it says.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("stream", &self.stream)
            .field("sequence", &self.sequence)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl Gap {
    /// Missing messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }
}

impl Item {
    /// The stream that it is about.
    #[must_use]
    pub fn stream(&self) -> &str {
        match self {
            Self::Message(entry) => &entry.stream,
            Self::Gap(gap) => &gap.stream,
        }
    }

    /// First sequence that it accounts for.
    #[must_use]
    pub fn first(&self) -> u64 {
        match self {
            Self::Message(entry) => entry.sequence,
            Self::Gap(gap) => gap.from,
        }
    }

    /// Last sequence that it accounts for.
    #[must_use]
    pub fn last(&self) -> u64 {
        match self {
            Self::Message(entry) => entry.sequence,
            Self::Gap(gap) => gap.to,
        }
    }
}
