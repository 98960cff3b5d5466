//! Causes first: a pure merge of streams, each in its order, that lets a message out only after its cause.
//!
//! Time comes in as a value. A message whose cause does not come is let out after a while; the store flags it then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tidegate_audit::Item;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;

#[cfg(test)]
mod tests;

/// Streams that wait their turn, and what was let out of each.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    lines: BTreeMap<String, Line>,
    /// Items in all lines.
    waiting: usize,
    /// The stream that has its turn first next time, so that none waits for a busy one.
    turn: usize,
}

#[derive(Debug, Default)]
struct Line {
    /// The last sequence that was let out.
    out: u64,
    /// The last sequence that came.
    came: u64,
    items: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    item: Item,
    cause: Option<Position>,
    /// Since when it stands first, its cause is missing, and nothing came of the cause's stream.
    blocked: Option<Instant>,
    /// What had come of the cause's stream then.
    seen: u64,
    /// Nothing holds it any more: its cause will not come.
    given_up: bool,
}

/// A message that stands first in its stream and whose cause is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Its stream.
    pub(crate) stream: String,
    /// What it waits for.
    pub(crate) cause: Position,
    /// Since when.
    pub(crate) since: Instant,
}

impl Sequencer {
    /// A stream of which everything up to `out` is recorded.
    pub(crate) fn open(&mut self, stream: &str, out: u64) {
        let line = self.lines.entry(stream.to_owned()).or_default();
        line.out = line.out.max(out);
    }

    /// The next item of its stream.
    pub(crate) fn push(&mut self, item: Item) {
        let cause = cause_of(&item);
        let line = self.lines.entry(item.stream().to_owned()).or_default();
        line.came = item.last();
        line.items.push_back(Waiting { item, cause, blocked: None, seen: 0, given_up: false });
        self.waiting += 1;
    }

    /// Items that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets out what may go, in an order that has each cause before its effect, at most `items` and about `bytes`.
    pub(crate) fn take(&mut self, now: Instant, items: usize, bytes: usize) -> Vec<Item> {
        let mut out = Vec::new();
        let mut weight = 0;
        let streams: Vec<String> = self.lines.keys().cloned().collect();
        loop {
            let before = out.len();
            for at in 0..streams.len() {
                let stream = &streams[(at + self.turn) % streams.len()];
                while out.len() < items && weight < bytes {
                    let Some(item) = self.next(stream, now) else { break };
                    weight += weight_bytes(&item);
                    out.push(item);
                }
            }
            if out.len() == before {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        out
    }

    fn next(&mut self, stream: &str, now: Instant) -> Option<Item> {
        let first = self.lines.get(stream)?.items.front()?;
        let cause = first.cause.as_ref().filter(|_| !first.given_up);
        let line = cause.map(|cause| (cause.sequence, self.lines.get(&cause.stream)));
        let missing = line.filter(|(sequence, line)| line.is_none_or(|line| line.out < *sequence));
        let came = missing.map(|(_, line)| line.map_or(0, |line| line.came));
        let line = self.lines.get_mut(stream)?;
        if let Some(came) = came {
            let first = line.items.front_mut()?;
            // While its stream catches up, a cause is only late.
            if first.blocked.is_none() || came > first.seen {
                (first.blocked, first.seen) = (Some(now), came);
            }
            return None;
        }
        let item = line.items.pop_front()?.item;
        line.out = item.last();
        self.waiting = self.waiting.saturating_sub(1);
        Some(item)
    }

    /// Messages that hold up their stream.
    pub(crate) fn blocked(&self) -> Vec<Blocked> {
        let first = |(stream, line): (&String, &Line)| {
            let first = line.items.front()?;
            let since = first.blocked.filter(|_| !first.given_up)?;
            Some(Blocked { stream: stream.clone(), cause: first.cause.clone()?, since })
        };
        self.lines.iter().filter_map(first).collect()
    }

    /// Nothing could come meanwhile, so nothing has been waited for.
    pub(crate) fn stood_still(&mut self, now: Instant) {
        for first in self.lines.values_mut().filter_map(|line| line.items.front_mut()) {
            first.blocked = first.blocked.map(|_| now);
        }
    }

    /// The cause of a stream's first message will not come: it goes without.
    pub(crate) fn give_up(&mut self, stream: &str) {
        if let Some(first) = self.lines.get_mut(stream).and_then(|line| line.items.front_mut()) {
            first.given_up = true;
        }
    }
}

/// What must be recorded before. What producers write is not believed; roots have none.
fn cause_of(item: &Item) -> Option<Position> {
    let Item::Message(entry) = item else { return None };
    if entry.subject.starts_with("task.") || entry.subject.starts_with("cancel.") {
        return None;
    }
    let cause: Position = entry.header(header::CAUSE)?.parse().ok()?;
    // A message cannot wait for itself or for what comes after it in its own stream.
    (cause.stream != entry.stream || cause.sequence < entry.sequence).then_some(cause)
}

fn weight_bytes(item: &Item) -> usize {
    match item {
        Item::Message(entry) => entry.weight_bytes(),
        Item::Gap(_) => 0,
    }
}
