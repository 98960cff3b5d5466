//! Identifiers. Each is parsed once; past that line it is known to fit a subject, a key and a log line.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX, REPLY_TOKEN_BYTES_MAX, TOKEN_BYTES_MAX};

/// Why a text is not an identifier. Carries the rule, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct BadId {
    /// Which identifier was being read.
    pub what: &'static str,
    /// What it must look like.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
        #[serde(try_from = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl $name {
            /// Reads the identifier.
            ///
            /// # Errors
            /// [`BadId`] with the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(BadId { what: $what, rule: $rule }) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_subject_token(text: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&text.len())
        && !text.contains(|c: char| matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control())
}

fn is_token(text: &str) -> bool {
    (1..=REPLY_TOKEN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

text_id!(
    /// A name that is one subject token: tenant, agent, pool, provider, queue, reviewer, operator.
    Name,
    "a name",
    "1 to 64 characters of a-z, 0-9, `-` and `_`, starting with a letter or digit",
    is_name
);
text_id!(
    /// A word of a producer that is one subject token, whatever it says.
    Token,
    "a subject token",
    "1 to 4,096 bytes without spaces, `.`, `*` and `>`",
    is_subject_token
);
text_id!(
    /// An opaque identifier of a producer: workflow, session, external task id, data subject.
    Identifier,
    "an identifier",
    "1 to 128 printable ASCII characters without spaces",
    is_identifier
);
text_id!(
    /// The last token of a reply subject, chosen by the producer.
    ReplyToken,
    "a reply token",
    "1 to 64 characters of A-Z, a-z, 0-9, `-` and `_`",
    is_token
);

/// Names a task within its tenant; an idempotency key for as long as the record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// Name space of ids derived from a producer's own ids (UUIDv5, RFC 9562 §5.5).
    const DERIVED: Uuid = Uuid::from_u128(0x7469_6465_6761_7465_8000_7461_736b_6964);

    /// The id for a producer's external id, the same each time.
    #[must_use]
    pub fn from_external(tenant: &Name, agent: &Name, external: &Identifier) -> Self {
        Self(Uuid::new_v5(&Self::DERIVED, format!("external {tenant} {agent} {external}").as_bytes()))
    }

    /// The id for what a producer calls its task: a UUID is the id; another identifier is kept, and the id derived from it.
    ///
    /// # Errors
    /// [`BadId`] when it is neither.
    pub fn named(tenant: &Name, agent: &Name, text: &str) -> Result<(Self, Option<Identifier>), BadId> {
        if let Ok(id) = text.parse() {
            return Ok((id, None));
        }
        let external = Identifier::new(text)?;
        Ok((Self::from_external(tenant, agent, &external), Some(external)))
    }

    /// The id for a task that names none, from where its message stands.
    #[must_use]
    pub fn from_position(position: &Position) -> Self {
        Self(Uuid::new_v5(&Self::DERIVED, format!("position {position}").as_bytes()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text).map(Self).map_err(|_| BadId { what: "a task id", rule: "a UUID" })
    }
}

/// Where a message stands: its stream and sequence. Written `<stream>:<sequence>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Position {
    /// Stream name.
    pub stream: String,
    /// Sequence in the stream, from 1.
    pub sequence: u64,
}

impl Position {
    const RULE: BadId = BadId { what: "a position", rule: "`<stream>:<sequence>`" };

    /// A position.
    #[must_use]
    pub fn new(stream: impl Into<String>, sequence: u64) -> Self {
        Self { stream: stream.into(), sequence }
    }
}

impl FromStr for Position {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let (stream, sequence) = text.rsplit_once(':').ok_or(Self::RULE)?;
        let fits = (1..=128).contains(&stream.len())
            && stream.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        match sequence.parse() {
            Ok(sequence) if fits && sequence > 0 => Ok(Self::new(stream, sequence)),
            _ => Err(Self::RULE),
        }
    }
}

impl TryFrom<String> for Position {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.sequence)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
