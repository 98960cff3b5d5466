//! Redaction: what was found in a text is replaced by tokens before the text leaves, and put back into what comes home.
//!
//! Pure: which values belong to which tokens is the vault's to know ([`crate::vault`]). Nothing here says what may leave.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::Name;

pub use input::{is_redaction_of, redact};
pub use join::{are_joined, joined};
pub use restore::{Restored, Restorer, restore_output};
pub use token::{Token, tokens_in};

mod input;
mod join;
mod json;
mod restore;
#[cfg(test)]
mod tests;
mod token;

/// A part of a text that is to be replaced: byte offsets into the text as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last one.
    pub end: usize,
    /// What it is: the finding.
    pub entity: Name,
    /// Kind of data that it is.
    pub category: Name,
}

/// A model whose findings are replaced beside those of the recognisers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByModel {
    /// SHA-256 of its weights; absent: whichever is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its entities that are replaced, and the kind of data that each is.
    pub entities: BTreeMap<Name, Name>,
    /// Whether nothing leaves without it, since what was decided rests on what it found.
    #[serde(default)]
    pub required: bool,
}
