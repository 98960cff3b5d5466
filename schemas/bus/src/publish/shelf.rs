//! What is on its way: sent and not yet acknowledged, by token.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// One single message or one batch on its way.
#[derive(Debug)]
pub(super) struct Shipment<T> {
    /// Queue that it came from.
    pub(super) queue: String,
    /// Its messages.
    pub(super) jobs: Vec<T>,
    /// Whether it is an atomic batch.
    pub(super) batch: bool,
    /// When it was sent.
    pub(super) sent: Instant,
    /// How many of its kind were on their way then, itself included.
    pub(super) together: usize,
}

/// Shipments by token; older ones have smaller tokens.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    shipments: BTreeMap<u64, Shipment<T>>,
    next: u64,
    /// Tokens below this were sent before the connection broke last.
    broke_before: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { shipments: BTreeMap::new(), next: 1, broke_before: 0 }
    }
}

impl<T> Shelf<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.shipments.is_empty()
    }

    pub(super) fn next_token(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn put(&mut self, token: u64, shipment: Shipment<T>) {
        self.shipments.insert(token, shipment);
    }

    pub(super) fn get(&self, token: u64) -> Option<&Shipment<T>> {
        self.shipments.get(&token)
    }

    pub(super) fn take(&mut self, token: u64) -> Option<Shipment<T>> {
        self.shipments.remove(&token)
    }

    pub(super) fn is_batch(&self, token: u64) -> bool {
        self.shipments.get(&token).is_some_and(|shipment| shipment.batch)
    }

    pub(super) fn len_of(&self, token: u64) -> u64 {
        self.shipments.get(&token).map_or(0, |shipment| shipment.jobs.len() as u64)
    }

    /// Whether all messages of a shipment satisfy `check`.
    pub(super) fn all(&self, token: u64, check: impl Fn(&T) -> bool) -> bool {
        self.shipments.get(&token).is_some_and(|shipment| shipment.jobs.iter().all(check))
    }

    /// Shipments of which a message satisfies `check`.
    pub(super) fn tokens_with(&self, check: impl Fn(&T) -> bool) -> Vec<u64> {
        let hit = |shipment: &Shipment<T>| shipment.jobs.iter().any(&check);
        self.shipments.iter().filter(|(_, shipment)| hit(shipment)).map(|(token, _)| *token).collect()
    }

    /// Notes that nothing sent so far will be answered any more, unless it still waits in the client.
    pub(super) fn connection_broke(&mut self) {
        self.broke_before = self.next;
    }

    /// Shipments that were on their way when the connection broke.
    pub(super) fn interrupted(&mut self) -> Vec<u64> {
        let before = std::mem::take(&mut self.broke_before);
        self.shipments.range(..before).map(|(token, _)| *token).collect()
    }
}
