//! What the request's bytes say of themselves. They are sent as they are; this only reads.

use serde::Deserialize;
use tidegate_schemas::ticket::Cleared;

use crate::error::Failure;

/// The name of the tool that a request for JSON forces (see `tidegate_schemas::render`).
const ANSWER: &str = "answer";

/// What the call must know of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Whether the answer comes as a stream.
    pub(crate) stream: bool,
    /// Whether the answer is the forced tool's input.
    pub(crate) forced: bool,
}

#[derive(Deserialize)]
struct Request {
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    tool_choice: Option<Choice>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Tool { name: String },
    // OpenAI's `auto`, `none`, `required` and its own form of a named tool.
    Other(serde::de::IgnoredAny),
}

/// Reads the request, and checks it against the ticket once more: the signature covers both, so a difference is a defect of
/// whoever signed, and nothing leaves.
pub(crate) fn probe(cleared: &Cleared) -> Result<Probe, Failure> {
    let claims = cleared.claims();
    let request: Request = serde_json::from_slice(cleared.bytes())
        .map_err(|_| Failure::NotPermitted("the request is not of the protocol's form"))?;
    if request.model != claims.model {
        return Err(Failure::NotPermitted("the request names another model than the ticket"));
    }
    match request.max_tokens.or(request.max_completion_tokens) {
        Some(tokens) if tokens <= claims.output_tokens_max => {}
        _ => return Err(Failure::NotPermitted("the request permits more tokens than the ticket")),
    }
    let forced = matches!(request.tool_choice, Some(Choice::Tool { name }) if name == ANSWER);
    Ok(Probe { stream: request.stream, forced })
}

/// Tokens that a provider may add to a request that offers tools, count: a prompt of its own, which it tells and charges for.
/// Anthropic's takes up to some 530 by model (its documentation of tool use, "Pricing"); this is twice that.
const TOOL_TOKENS_MAX: u64 = 1_024;

#[derive(Deserialize)]
struct Tools {
    #[serde(default)]
    tools: Option<serde::de::IgnoredAny>,
}

/// The most tokens that a request has when it is read, count. A token is a byte at least, so it is as many as its bytes and what a
/// provider may add.
#[must_use]
pub fn input_tokens_max(cleared: &Cleared) -> u64 {
    // What cannot be read is not sent.
    let offers = serde_json::from_slice(cleared.bytes()).is_ok_and(|Tools { tools }| tools.is_some());
    let bytes = cleared.claims().content_bytes;
    if offers { bytes.saturating_add(TOOL_TOKENS_MAX) } else { bytes }
}
