//! What one cloud worker takes on.

use std::path::PathBuf;

use tidegate_bus::{ConsumerSpec, PullOptions, topology};
use tidegate_providers::ProviderConfig;
use tidegate_schemas::ids::Name;
use tidegate_schemas::ticket::Verifier;

/// A worker's providers, the tickets that it trusts, and its limits.
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Checks tickets: this cell's name and the routers' public keys.
    pub verifier: Verifier,
    /// The file that those public keys stand in; read again when it changes. None: they stay as they are.
    pub ticket_keys_file: Option<PathBuf>,
    /// The providers that it calls; each has its own queue.
    pub providers: Vec<ProviderConfig>,
    /// Calls to one provider at once, count.
    pub in_flight: usize,
    /// Messages of one provider held besides, count. Few: a ticket runs out while its message waits here.
    pub ahead: usize,
    /// How long calls under way may take to end on shutdown, milliseconds; the rest is given back.
    pub drain_ms: u64,
    /// How long an attempt or a step that the bus does not take is tried again before its work is put off, milliseconds. A
    /// result is tried until it is taken.
    pub patience_ms: u64,
}

// === impl CloudConfig ===

impl CloudConfig {
    /// Defaults: 32 calls to a provider at once, 8 held besides, 8 s to drain, a minute of patience.
    #[must_use]
    pub fn new(verifier: Verifier, providers: Vec<ProviderConfig>) -> Self {
        Self {
            verifier,
            ticket_keys_file: None,
            providers,
            in_flight: 32,
            ahead: 8,
            drain_ms: 8_000,
            patience_ms: 60_000,
        }
    }

    pub(crate) fn options(&self, provider: &Name) -> PullOptions {
        let options = PullOptions::new(consumer(provider)).with_in_flight(self.in_flight, self.ahead);
        PullOptions { drain_ms: self.drain_ms, ..options }
    }
}

pub(crate) fn consumer(provider: &Name) -> ConsumerSpec {
    topology::provider_consumer(provider)
}
