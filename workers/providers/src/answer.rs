//! A provider's answer, in our words.

use serde_json::Value;
use tidegate_schemas::result::{Finish, Usage};
use tidegate_schemas::sensitive::Sensitive;

/// A whole answer. It exists only when the provider said why it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text; where a tool named `answer` was forced, its arguments as JSON text.
    pub text: Sensitive<String>,
    /// Tool calls in OpenAI's form.
    pub tool_calls: Vec<Sensitive<Value>>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens, where the provider counted them.
    pub usage: Option<Usage>,
    /// Cost, millionths of a US dollar; none when the price or the usage is not known.
    pub cost_usd_micros: Option<u64>,
    /// The model that answered, as it says: at most 128 bytes of printable ASCII, or the model that was asked for.
    pub model: String,
    /// The provider's id of the request: at most 128 bytes of printable ASCII.
    pub request_id: Option<String>,
    /// From the last attempt's beginning to the first text, milliseconds.
    pub first_text_ms: Option<u64>,
    /// Duration of the last attempt, milliseconds.
    pub run_ms: u64,
    /// Attempts that were made.
    pub attempts: u32,
}

/// Tokens as they are priced. `input` counts those read from and written to a cache too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from a cache, among `input`.
    pub cache_read: u64,
    /// Written to a cache, among `input`.
    pub cache_write: u64,
}

impl From<Counted> for Usage {
    fn from(counted: Counted) -> Self {
        Self { input_tokens: counted.input, output_tokens: counted.output, cached_tokens: counted.cache_read }
    }
}

/// An answer as the protocol's reader leaves it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parsed {
    pub(crate) text: String,
    pub(crate) tool_calls: Vec<Value>,
    pub(crate) finish: Option<Finish>,
    pub(crate) counted: Option<Counted>,
    pub(crate) model: Option<String>,
}

/// A provider's identifier, where it is short and printable.
pub(crate) fn identifier(text: &str) -> Option<String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
}
