//! Content that must not slip into a log line, and content that may leave.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Text or data that a producer or a model wrote. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// Marks a value as content.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, where the content itself is worked on.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value, giving up the mark.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(..)")
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}
