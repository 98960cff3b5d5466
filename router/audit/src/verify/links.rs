//! Where a leaf leads: its place, its source, its cause, its task. The indices are followed in their own order, as records
//! mostly lead there in it.

use std::collections::HashMap;

use redb::{Range, ReadOnlyTable};
use tidegate_schemas::ids::Position;

use super::Fault;
use crate::error::Failure;
use crate::leaf::{Flag, Leaf, RecordKind};
use crate::read::view::View;
use crate::store::Heads;
use crate::table;
use crate::task::Row;

/// Rows that are passed over before the index is asked anew.
const STEPS_MAX: u32 = 4;

/// The indices in one moment.
pub(super) struct Links<'a> {
    view: &'a View,
    heads: &'a Heads,
    src: ReadOnlyTable<&'static [u8; 12], u64>,
    tasks: ReadOnlyTable<&'static [u8], &'static [u8]>,
    streams: HashMap<String, Stream>,
}

/// A stream, and where it was asked of last.
struct Stream {
    number: u32,
    own: Trail,
    causes: Trail,
}

/// A walk along the index of sources.
#[derive(Default)]
struct Trail {
    rows: Option<Range<'static, &'static [u8; 12], u64>>,
    /// The row that was read last: its sequence, and where that leads.
    at: Option<(u64, u64)>,
}

// === impl Links ===

impl<'a> Links<'a> {
    pub(super) fn open(view: &'a View, heads: &'a Heads) -> Result<Self, Failure> {
        let mut streams = HashMap::new();
        for row in view.open_table(table::STREAMS)?.range::<&str>(..)? {
            let (name, head) = row?;
            let stream = Stream { number: head.value().0, own: Trail::default(), causes: Trail::default() };
            streams.insert(name.value().to_owned(), stream);
        }
        let (src, tasks) = (view.open_table(table::SRC)?, view.open_table(table::TASKS)?);
        Ok(Self { view, heads, src, tasks, streams })
    }

    /// Checks where a leaf leads, and tells what is wrong.
    pub(super) fn check(
        &mut self,
        leaf: &Leaf,
        index: u64,
        mut wrong: impl FnMut(Fault),
    ) -> Result<(), Failure> {
        if leaf.index != index {
            wrong(Fault::LeafIndex);
        }
        let source = &leaf.source;
        if leaf.kind != RecordKind::Gap {
            let found = match self.streams.get_mut(&source.stream) {
                Some(stream) => stream.own.find(&self.src, stream.number, source.sequence)?,
                None => None,
            };
            if found != Some(index) {
                wrong(Fault::Source);
            }
        }
        if let Some(cause) = &leaf.cause {
            match self.cause(cause)? {
                Some(before) if before < index => {}
                _ if leaf.flags.contains(&Flag::CauseMissing) => {}
                Some(_) => wrong(Fault::Cause),
                None if self.view.is_pruned(cause)? => {}
                None => wrong(Fault::CauseMissing),
            }
        }
        if leaf.kind == RecordKind::Result
            && !leaf.flags.contains(&Flag::SecondTerminal)
            && !self.is_terminal(leaf, index)?
        {
            wrong(Fault::Terminal);
        }
        Ok(())
    }

    fn cause(&mut self, cause: &Position) -> Result<Option<u64>, Failure> {
        let Some(stream) = self.streams.get_mut(&cause.stream) else { return Ok(None) };
        stream.causes.find(&self.src, stream.number, cause.sequence)
    }

    /// Whether a result is the one that its task ended with. One that names no task has nothing to agree with.
    fn is_terminal(&self, leaf: &Leaf, index: u64) -> Result<bool, Failure> {
        let (Some(tenant), Some(agent), Some(task)) = (&leaf.tenant, &leaf.agent, leaf.task) else {
            return Ok(true);
        };
        let number = self.heads.tenants.get(tenant.as_str()).copied().unwrap_or_default();
        let row = self.tasks.get(table::task_key(task, number, agent.as_str()).as_slice())?;
        let row = row.and_then(|bytes| serde_json::from_slice::<Row>(bytes.value()).ok());
        Ok(row.and_then(|row| row.terminal) == Some(index))
    }
}

// === impl Trail ===

impl Trail {
    /// The index of a sequence's record.
    fn find(
        &mut self,
        src: &ReadOnlyTable<&'static [u8; 12], u64>,
        stream: u32,
        sequence: u64,
    ) -> Result<Option<u64>, Failure> {
        let mut steps = 0;
        while self.at.is_some_and(|(at, _)| at < sequence) && steps < STEPS_MAX {
            self.step()?;
            steps += 1;
        }
        if self.at.is_none_or(|(at, _)| at != sequence) {
            let (from, to) = (table::source(stream, sequence), table::source(stream, u64::MAX));
            self.rows = Some(src.range::<&[u8; 12]>(&from..=&to)?);
            self.step()?;
        }
        Ok(self.at.filter(|(at, _)| *at == sequence).map(|(_, index)| index))
    }

    fn step(&mut self) -> Result<(), Failure> {
        let row = self.rows.as_mut().and_then(Iterator::next).transpose()?;
        self.at = row.map(|(key, index)| (table::sequence_of(key.value()), index.value()));
        Ok(())
    }
}
