//! What the oracle is told: where work may run, who there is, one task, and what is known beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::{Set, Words};

/// So many words of source code are a finding.
const CODE_WORDS_FOUND: usize = 3;

/// Inside or outside the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Local,
    Cloud,
}

/// Kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Extract,
    Classify,
    Embed,
}

/// What looked at texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looked {
    Nothing,
    Recognisers,
    Model,
}

/// Where work may run: facts of the bundle, no rules.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) lane: Lane,
    /// Its provider or pool.
    pub(crate) target: String,
    pub(crate) model: String,
    pub(crate) region: String,
    pub(crate) kinds: BTreeSet<&'static str>,
    pub(crate) tools: bool,
    pub(crate) schema: bool,
    pub(crate) streams: bool,
    pub(crate) context_tokens: u64,
    /// Millionths of a US dollar per million tokens.
    pub(crate) price_in: u64,
    pub(crate) price_out: u64,
    pub(crate) latency_ms: u64,
    pub(crate) rank: u32,
    pub(crate) certified: BTreeSet<String>,
    pub(crate) keeps_nothing: bool,
    pub(crate) trains: bool,
}

/// What holds for every task of a bundle.
pub(crate) struct Terms {
    /// By name.
    pub(crate) places: Vec<Place>,
    pub(crate) looked: Looked,
    /// The model that the bundle believes, by its weights; empty: none.
    pub(crate) model: String,
}

/// Tenants by name.
pub(crate) type World = BTreeMap<&'static str, Tenant>;

/// Who owns tasks.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) residency: Set,
    pub(crate) providers: Option<Set>,
    pub(crate) in_flight_max: u64,
    /// Agents with their roles.
    pub(crate) agents: BTreeMap<&'static str, Set>,
}

/// One task, and what is known beside it.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Who asks, as the subject says.
    pub(crate) tenant: &'static str,
    pub(crate) agent: &'static str,
    /// The tenant that the body names.
    pub(crate) body_tenant: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) batch: bool,
    pub(crate) work: Work,
    pub(crate) declared: Words,
    pub(crate) inherited: Option<Words>,
    pub(crate) cost_max: Option<u64>,
    pub(crate) latency_max: Option<u64>,
    /// Milliseconds from submission.
    pub(crate) deadline_ms: u64,
    pub(crate) known: Known,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// What somebody put into the text.
    pub(crate) planted: Vec<Planted>,
    /// Whether that stands elsewhere than in the first text: in a tool's call, a schema, a class, a later text.
    pub(crate) hidden: bool,
    /// Bytes of words that mean nothing.
    pub(crate) filler: usize,
    pub(crate) tools: bool,
    pub(crate) stream: bool,
    pub(crate) tokens_max: Option<u32>,
    /// All texts together.
    pub(crate) bytes: usize,
}

/// A phrase, and the category of data that it is; none: it only looks like one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planted {
    pub(crate) category: Option<&'static str>,
    /// Words of source code in it.
    pub(crate) code_words: usize,
    pub(crate) text: &'static str,
}

/// What is known beside the task.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Milliseconds since submission.
    pub(crate) now_ms: i64,
    pub(crate) hop: u32,
    pub(crate) lane_max: Option<Lane>,
    /// Names of places.
    pub(crate) tried: BTreeSet<String>,
    pub(crate) off: Vec<Off>,
    pub(crate) approved: bool,
    /// By provider or pool, milliseconds.
    pub(crate) waits: BTreeMap<String, u64>,
    pub(crate) in_flight: u64,
    /// Whether clock, signer and record are not well.
    pub(crate) unwell: bool,
    /// Flags that are on.
    pub(crate) flags: Set,
    /// What a model found, where one has scanned the text.
    pub(crate) scanned: Option<Set>,
    /// What the task's session held before.
    pub(crate) session: Option<Words>,
    /// Where what was found was replaced by tokens: the kinds of data that are found still.
    pub(crate) redacted: Option<Set>,
}

/// Something that is switched off; what is not given means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Off {
    pub(crate) lane: Option<Lane>,
    pub(crate) tenant: Option<&'static str>,
    pub(crate) target: Option<String>,
    pub(crate) model: Option<String>,
}

// === impl Kind ===

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Extract => "extract",
            Self::Classify => "classify",
            Self::Embed => "embed",
        }
    }
}

// === impl Scene ===

impl Scene {
    /// What looked at the text.
    pub(crate) fn looked(&self, terms: &Terms) -> Looked {
        if self.known.scanned.is_some() { Looked::Model } else { terms.looked }
    }

    /// Categories of what a model found. A town and a web address are none, and what is not listed is of no known kind.
    pub(crate) fn scanned(&self) -> Set {
        let category = |entity: &&'static str| match *entity {
            "place" | "url" => None,
            "person" | "address" | "email" | "phone" => Some("personal"),
            "bank_account" | "routing_number" => Some("bank_account"),
            "tax_id" | "government_id" | "passport" | "drivers_license" => Some("national_id"),
            _ => Some("unknown"),
        };
        self.known.scanned.iter().flatten().filter_map(category).collect()
    }

    /// Categories of what was put into the text.
    pub(crate) fn found(&self) -> Set {
        let planted = &self.work.planted;
        let code_words: usize = planted.iter().map(|planted| planted.code_words).sum();
        let code = (code_words >= CODE_WORDS_FOUND).then_some("source_code");
        planted.iter().filter_map(|planted| planted.category).chain(code).collect()
    }

    /// Whether something was found that a token can stand for: a value, and no key word.
    pub(crate) fn has_values(&self) -> bool {
        let values =
            ["personal", "network", "card", "bank_account", "national_id", "credentials", "secret", "opaque"];
        self.found().iter().any(|category| values.contains(category))
    }

    /// Tokens in and out.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        let input = self.work.bytes as u64 / 4 + 1;
        let output = match self.kind {
            Kind::Chat | Kind::Extract => self.work.tokens_max.map_or(256, u64::from),
            Kind::Classify => 64,
            Kind::Embed => 0,
        };
        (input, output)
    }

    /// The most that it costs there, millionths of a US dollar.
    pub(crate) fn cost(&self, place: &Place) -> u64 {
        let (input, output) = self.tokens();
        (input * place.price_in + output * place.price_out).div_ceil(1_000_000)
    }

    /// How long its queue is, milliseconds.
    pub(crate) fn wait(&self, place: &Place) -> u64 {
        self.known.waits.get(&place.target).copied().unwrap_or_default()
    }

    /// Until it is done there, milliseconds.
    pub(crate) fn expected(&self, place: &Place) -> u64 {
        self.wait(place) + place.latency_ms
    }

    /// Whether somebody switched this place off for it.
    pub(crate) fn is_off(&self, place: &Place) -> bool {
        self.known.off.iter().any(|off| {
            off.lane.is_none_or(|lane| lane == place.lane)
                && off.tenant.is_none_or(|tenant| tenant == self.tenant)
                && off.target.as_ref().is_none_or(|target| *target == place.target)
                && off.model.as_ref().is_none_or(|model| *model == place.model)
        })
    }
}
