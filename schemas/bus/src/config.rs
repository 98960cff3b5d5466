//! How a role reaches the bus, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::identity::Identity;

/// How publishes go when many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublishMode {
    /// Singles or atomic batches, whichever takes the server less time as the last ones showed.
    #[default]
    Adaptive,
    /// Singles only, in a wide window.
    Singles,
    /// Atomic batches as soon as enough wait.
    Batches,
}

/// Limits of one connection.
#[derive(Debug, Clone)]
pub struct BusLimits {
    /// Longest wait for the first connection, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for a publish acknowledgement, milliseconds.
    pub publish_timeout_ms: u64,
    /// Longest wait for an answer of the JetStream API, milliseconds.
    pub request_timeout_ms: u64,
    /// How publishes go when many wait; other than adaptive for measurements.
    pub publish_mode: PublishMode,
    /// Publishes that wait for room at once before callers wait, count.
    pub publish_queue_max: usize,
    /// Messages a core subscription buffers before the oldest are lost, count.
    pub subscription_capacity: usize,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            publish_timeout_ms: 10_000,
            request_timeout_ms: 5_000,
            publish_mode: PublishMode::Adaptive,
            publish_queue_max: 8_192,
            subscription_capacity: 65_536,
        }
    }
}

impl BusLimits {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn publish_timeout(&self) -> Duration {
        Duration::from_millis(self.publish_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// Where the server is and who connects.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Server, `nats://host:port` or `tls://host:port`; several separated by commas.
    pub url: String,
    /// Who connects: names the connection and its private inbox.
    pub identity: Identity,
    /// File with the identity's nkey seed; absent only for servers without authorisation.
    pub nkey_seed_file: Option<PathBuf>,
    /// Certificate authority to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Limits.
    pub limits: BusLimits,
}

impl BusConfig {
    /// A connection of `identity` with its seed file and default limits.
    #[must_use]
    pub fn new(url: impl Into<String>, identity: Identity, nkey_seed_file: Option<PathBuf>) -> Self {
        Self { url: url.into(), identity, nkey_seed_file, ca_file: None, limits: BusLimits::default() }
    }
}
