//! Destinations: where work may run, as the bundle describes them (`destinations.toml`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_schemas::decision::Destination;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::render::{Dialect, Protocol};
use tidegate_schemas::scan::SCAN_POOL;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::{Input, Kind};
use tidegate_schemas::vault::{REDACT_POOL, RESTORE_POOL};

use crate::bundle::canonical_text;

/// Highest price that a destination may state, millionths of a US dollar per million tokens. Keeps sums far inside 64 bits.
pub const PRICE_MAX: u64 = 1_000_000_000;
/// Largest context that a destination may state, tokens.
pub const CONTEXT_TOKENS_MAX: u64 = 10_000_000;
/// Largest cost that a task's limit can state, millionths of a US dollar; what is above counts as this.
pub const COST_USD_MICROS_MAX: u64 = 1_000_000_000_000;
/// Longest latency that a destination may state, milliseconds.
pub const LATENCY_MS_MAX: u64 = 3_600_000;
/// Bytes of text that make about one token.
const BYTES_PER_TOKEN: u64 = 4;

/// Pools for the cell's own work.
const OWN_POOLS: [&str; 3] = [SCAN_POOL, REDACT_POOL, RESTORE_POOL];

/// A place where work may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// Its name in the bundle.
    pub name: Name,
    /// Inside or outside the boundary.
    pub lane: Lane,
    /// The pool (local) or provider (cloud) whose queue it is.
    pub target: Name,
    /// The model there, as the worker or provider names it.
    pub model: String,
    /// SHA-256 of the model's file, or of its weights where it has several; only of a local model. A worker that has loaded
    /// another answers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<Digest>,
    /// The adapter (LoRA) that is merged into the model, one at most; only of a local chat model. A worker that has merged another,
    /// or none, answers nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Adapter>,
    /// The region it runs in; one that the taxonomy knows.
    pub region: Name,
    /// Whom to ask about the destination.
    pub owner: String,
    /// Whom to ask about the model.
    pub model_owner: String,
    /// The provider's wire protocol; given exactly on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Whether its model reasons first, and so takes `max_completion_tokens` and no sampling (`openai_chat`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reasoning: bool,
    /// Which base URL of the cloud worker's allow-list it is reached by; given exactly on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<Name>,
    /// Kinds of work it can do.
    pub kinds: BTreeSet<Kind>,
    /// Whether it can be offered tools.
    #[serde(default)]
    pub tools: bool,
    /// Whether its answer can be held to a JSON Schema.
    #[serde(default)]
    pub schema: bool,
    /// Whether it can stream tokens.
    #[serde(default)]
    pub streams: bool,
    /// Input and output that fit, tokens.
    pub context_tokens: u64,
    /// Price of input, millionths of a US dollar per million tokens.
    #[serde(default)]
    pub price_in: u64,
    /// Price of output, millionths of a US dollar per million tokens.
    #[serde(default)]
    pub price_out: u64,
    /// How long an answer usually takes once it runs, milliseconds.
    pub latency_ms: u64,
    /// Which is preferred among the permitted: the lowest; equal ranks are ordered by cost, latency and name.
    #[serde(default)]
    pub rank: u32,
    /// Certifications it holds; ones that the taxonomy knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub certifications: BTreeSet<Name>,
    /// Whether it keeps nothing of what it is sent.
    #[serde(default)]
    pub zero_retention: bool,
    /// Whether what it is sent may train models.
    #[serde(default)]
    pub trains_on_data: bool,
}

/// An adapter of a model, by its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// Its name.
    pub name: Name,
    /// SHA-256 of its files, `adapter_config.json` and then `adapter_model.safetensors`, as one text.
    pub sha256: Digest,
}

/// How many tokens a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Input, estimated from its bytes.
    pub input: u64,
    /// The most that may be generated.
    pub output: u64,
}

impl Tokens {
    /// What this input needs.
    #[must_use]
    pub fn of(input: &Input) -> Self {
        let bytes = u64::try_from(input.bytes()).unwrap_or(u64::MAX);
        let output = u64::from(tidegate_schemas::limits::OUTPUT_TOKENS_DEFAULT);
        let output = match input {
            Input::Chat(chat) => chat.sampling.max_tokens.map_or(output, u64::from),
            Input::Extract(extract) => extract.max_tokens.map_or(output, u64::from),
            Input::Classify(_) => 64,
            Input::Embed(_) => 0,
            Input::Prompt(prompted) => prompted.max_tokens.map_or(output, u64::from),
        };
        Self { input: bytes / BYTES_PER_TOKEN + 1, output }
    }
}

impl DestinationSpec {
    /// The part of it that a decision names.
    #[must_use]
    pub fn chosen(&self) -> Destination {
        Destination {
            name: self.name.clone(),
            lane: self.lane,
            target: self.target.clone(),
            model: self.model.clone(),
            model_sha256: self.model_sha256,
            adapter_sha256: self.adapters.first().map(|adapter| adapter.sha256),
            region: self.region.clone(),
            owner: self.owner.clone(),
            model_owner: self.model_owner.clone(),
        }
    }

    /// What it is as a place for data to go: whom to ask about it, what it costs, how quick it is, what it can do and how it is
    /// preferred are left out. Two places with the same terms are one.
    #[must_use]
    pub fn terms(&self) -> Self {
        Self {
            owner: String::new(),
            model_owner: String::new(),
            kinds: BTreeSet::new(),
            tools: false,
            schema: false,
            streams: false,
            context_tokens: 0,
            price_in: 0,
            price_out: 0,
            latency_ms: 0,
            rank: 0,
            ..self.clone()
        }
    }

    /// SHA-256 of [`Self::terms`] as JSON in one form. An agreement names it, so that it is for no other place of the same name.
    #[must_use]
    pub fn terms_hash(&self) -> Digest {
        // Names, numbers and words: always JSON.
        let terms = serde_json::to_value(self.terms()).unwrap_or_default();
        Digest::plain(canonical_text(&terms).as_bytes())
    }

    /// Whether it can do this work at all.
    #[must_use]
    pub fn can(&self, input: &Input, tokens: Tokens) -> bool {
        self.kinds.contains(&input.kind())
            && (self.tools || !input.uses_tools())
            && (self.schema || !input.wants_schema())
            && (self.streams || !input.wants_stream())
            && tokens.input.saturating_add(tokens.output) <= self.context_tokens
    }

    /// The most that the work costs here, millionths of a US dollar, rounded up.
    #[must_use]
    pub fn cost_usd_micros(&self, tokens: Tokens) -> u64 {
        let input = u128::from(tokens.input) * u128::from(self.price_in);
        let output = u128::from(tokens.output) * u128::from(self.price_out);
        u64::try_from((input + output).div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// How it is spoken to.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect { protocol: self.protocol.unwrap_or(Protocol::OpenaiChat), reasoning: self.reasoning }
    }

    /// The rule that its description breaks, if one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let cloud = self.lane == Lane::Cloud;
        let rules = [
            (self.owner.is_empty() || self.model_owner.is_empty(), "needs `owner` and `model_owner`"),
            (self.model.is_empty(), "needs a `model`"),
            (
                cloud && self.model_sha256.is_some(),
                "pins `model_sha256`, which only a local model can be held to; leave it out",
            ),
            (
                cloud && !self.adapters.is_empty(),
                "pins `adapters`, which only a local model can be held to; leave them out",
            ),
            (
                self.adapters.len() > 1,
                "pins more than one of `adapters`, and one is merged into a model; make one of them, or merge them into the model and pin that by `model_sha256`",
            ),
            (
                !self.adapters.is_empty() && self.model_sha256.is_none(),
                "pins `adapters` and not the model that they are of; pin that by `model_sha256`, too",
            ),
            (
                !self.adapters.is_empty() && self.kinds.contains(&Kind::Embed),
                "pins `adapters` and embeds, and only a chat model has one; name a destination of its own for embeddings",
            ),
            (self.kinds.is_empty(), "needs at least one of `kinds`"),
            (cloud != self.protocol.is_some(), "needs `protocol` exactly when it is on the cloud lane"),
            (
                self.reasoning && self.protocol != Some(Protocol::OpenaiChat),
                "is `reasoning`, which only `openai_chat` has a form for; leave it out",
            ),
            (cloud != self.base_url.is_some(), "needs `base_url` exactly when it is on the cloud lane"),
            (
                self.lane == Lane::Local && OWN_POOLS.contains(&self.target.as_str()),
                "is in a pool of the cell's own (`scan`, `redact`, `restore`); name another",
            ),
            (cloud && self.kinds.contains(&Kind::Embed), "cannot embed: embeddings are made locally only"),
            (self.price_in.max(self.price_out) > PRICE_MAX, "states a price above the limit"),
            (self.context_tokens > CONTEXT_TOKENS_MAX, "states a context above the limit"),
            (self.latency_ms > LATENCY_MS_MAX, "states a latency above the limit"),
        ];
        rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule))
    }
}
