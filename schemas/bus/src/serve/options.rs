//! How a pull loop pulls: what runs at once, what is held, when something is given up.

use crate::spec::ConsumerSpec;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The consumer; its `ack_wait` sets the pace of progress.
    pub consumer: ConsumerSpec,
    /// Handlers that run at once, count.
    pub in_flight: usize,
    /// Messages held besides those that run: waiting for a turn or put off, count.
    pub ahead: usize,
    /// Messages asked for at once, count.
    pub batch: usize,
    /// Deliveries that nobody explained after which a message is given up, where its handler panicked, or runs alone, count.
    pub unexplained_max: u64,
    /// How long what runs may take to end on shutdown, milliseconds.
    pub drain_ms: u64,
}

impl PullOptions {
    /// Defaults for a consumer: 256 at once, as many ahead.
    #[must_use]
    pub fn new(consumer: ConsumerSpec) -> Self {
        Self { consumer, in_flight: 256, ahead: 256, batch: 256, unexplained_max: 5, drain_ms: 8_000 }
    }

    /// The same with other limits: handlers at once, and messages held besides.
    #[must_use]
    pub fn with_in_flight(mut self, in_flight: usize, ahead: usize) -> Self {
        self.in_flight = in_flight.max(1);
        self.ahead = ahead;
        self.batch = self.batch.min(self.in_flight + ahead).max(1);
        self
    }
}
