//! What one local worker takes on.

use std::collections::BTreeSet;

use tidegate_bus::{ConsumerSpec, PullOptions, topology};
use tidegate_schemas::ids::Name;

/// A worker's pools and limits.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The pools that it pulls. The engine's queue ([`tidegate_engine::EngineConfig::queue`]) should hold what they have
    /// in flight together; what does not fit waits here and is tried again.
    pub pools: Vec<PoolConfig>,
    /// The names in the bundle's destinations that the loaded models answer to; work for another model goes back to the
    /// router. Empty: every name is answered, and the result says which model did.
    pub models: BTreeSet<String>,
    /// How long work under way may take to end on shutdown, milliseconds; the rest is given back.
    pub drain_ms: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name: the durable consumer on WORK_LOCAL and the third token of the work's subject.
    pub name: Name,
    /// Messages worked on at once, count. Few for long work, so that other workers get a share; many for short work, so
    /// that the results go out in batches.
    pub in_flight: usize,
    /// Messages held besides, count.
    pub ahead: usize,
}

// === impl LocalConfig ===

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            pools: vec![PoolConfig::chat(), PoolConfig::embed(), PoolConfig::scan()],
            models: BTreeSet::new(),
            drain_ms: 8_000,
        }
    }
}

// === impl PoolConfig ===

impl PoolConfig {
    /// The pool `default`: conversations, extractions, classifications; seconds each.
    #[must_use]
    pub fn chat() -> Self {
        Self::named("default", 4, 4)
    }

    /// The pool `embed`: vectors; milliseconds each.
    #[must_use]
    pub fn embed() -> Self {
        Self::named("embed", 48, 80)
    }

    /// The pool `scan`: texts that a model reads before they are decided about; milliseconds each. Without a token classifier
    /// each is answered by that.
    #[must_use]
    pub fn scan() -> Self {
        Self::named("scan", 8, 24)
    }

    #[expect(clippy::expect_used, reason = "constants that are names")]
    fn named(name: &str, in_flight: usize, ahead: usize) -> Self {
        Self { name: Name::new(name).expect("a name"), in_flight, ahead }
    }

    pub(crate) fn consumer(&self) -> ConsumerSpec {
        topology::pool_consumer(&self.name)
    }

    pub(crate) fn options(&self, drain_ms: u64) -> PullOptions {
        let options = PullOptions::new(self.consumer()).with_in_flight(self.in_flight, self.ahead);
        PullOptions { drain_ms, ..options }
    }
}
