//! Redaction: what was found in a text is replaced by tokens before the text leaves, and put back into what comes home.
//!
//! Pure: which values belong to which tokens is the vault's to know ([`crate::vault`]). Nothing here says what may leave.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Name;

pub use input::{is_redaction_of, redact};
pub use restore::{Restored, Restorer, restore_output};
pub use token::{Token, tokens_in};

mod input;
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
