//! Tables of the record and the keys in them. Keys are big-endian, so that their order is the order of what they say.

use redb::TableDefinition;
use tidegate_schemas::ids::TaskId;
use uuid::Uuid;

/// Form of the tables; a record of a newer form is refused.
pub(crate) const FORM: u64 = 3;
/// The oldest form that is carried over: it had no segments and no holds.
pub(crate) const FORM_OLDEST: u64 = 2;

/// index → leaf hash (32 bytes) ‖ leaf.
pub(crate) const REC: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rec");
/// index → sealed message.
pub(crate) const BODY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("body");
/// [`source`] → index.
pub(crate) const SRC: TableDefinition<'_, &[u8; 12], u64> = TableDefinition::new("src");
/// [`source`] of a gap's first sequence → (last sequence, index of its record).
pub(crate) const GAPS: TableDefinition<'_, &[u8; 12], (u64, u64)> = TableDefinition::new("gaps");
/// stream → (its number, next sequence).
pub(crate) const STREAMS: TableDefinition<'_, &str, (u32, u64)> = TableDefinition::new("streams");
/// tenant → its number, from 1.
pub(crate) const TENANTS: TableDefinition<'_, &str, u32> = TableDefinition::new("tenants");
/// [`found`] of block and term → the places in the block where it occurs.
pub(crate) const TERMS: TableDefinition<'_, &[u8; 12], &[u8]> = TableDefinition::new("terms");
/// block → from when to when its records are.
pub(crate) const WINDOWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("windows");
/// [`task_key`] → what became of the task.
pub(crate) const TASKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tasks");
/// [`due_key`] of each open task.
pub(crate) const OPEN: TableDefinition<'_, &[u8], ()> = TableDefinition::new("open");
/// key number → wrapped key.
pub(crate) const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");
/// task ‖ set of data subjects → key number.
pub(crate) const KEY_OF: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("key_of");
/// data subject → row of the key file; subjects that are only a task's own have none.
pub(crate) const SUBJECTS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("subjects");
/// Level (counted in tiles) and place in it → the tile's hashes. Full ones, and above the lowest level the open one.
pub(crate) const TILES: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("tiles");
/// [`FRONTIER`] → the frontier of the tree.
pub(crate) const TREE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tree");
/// Epoch and size → signed note.
pub(crate) const CHECKPOINTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("checkpoints");
/// Epoch that began with a break → what was signed before and is no longer held: the note.
pub(crate) const BREAKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("breaks");
/// First index → a segment, as JSON ([`crate::segment::Segment`]).
pub(crate) const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
/// Row of the key file → what leaves that were pruned called its data subject ([`crate::erase::names::Name`]). Made with the
/// first one.
pub(crate) const NAMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("names");
/// [`source`] of the first sequence of a stream in a pruned segment → (the last one, the segment).
pub(crate) const PRUNED: TableDefinition<'_, &[u8; 12], (u64, u64)> = TableDefinition::new("pruned");
/// Id → a hold, as JSON ([`crate::hold::Hold`]).
pub(crate) const HOLDS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("holds");
/// Row of the key file → sequence in EVENTS of the act by which it was destroyed. Made with the first one.
pub(crate) const ERASED: TableDefinition<'_, u64, u64> = TableDefinition::new("erased");
/// Sequence in EVENTS of an act that erases → how far that is, as JSON. Made with the first one.
pub(crate) const ERASURES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("erasures");
/// Counters by name.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The key in [`TREE`].
pub(crate) const FRONTIER: &str = "frontier";
/// Form of the tables.
pub(crate) const META_FORM: &str = "form";
/// Records there are.
pub(crate) const META_RECORDS: &str = "records";
/// Records that the index knows.
pub(crate) const META_INDEXED: &str = "indexed";
/// Rows of the key file.
pub(crate) const META_KEY_ROWS: &str = "key_rows";
/// The mark of the last of these rows' key: another file, or an older one, has another key there.
pub(crate) const META_KEY_MARK: &str = "key_mark";
/// Row of the key file that holds the key of references.
pub(crate) const META_REFERENCES: &str = "references_row";
/// Keys there are.
pub(crate) const META_KEYS: &str = "keys";
/// Tasks accepted.
pub(crate) const META_ACCEPTED: &str = "accepted";
/// Accepted tasks that ended.
pub(crate) const META_ENDED: &str = "ended";
/// Which history this is, from 1: one more with each break.
pub(crate) const META_EPOCH: &str = "epoch";
/// Records with an anomaly.
pub(crate) const META_ANOMALIES: &str = "anomalies";
/// Index of the first record that is in [`REC`]; those before are in segments.
pub(crate) const META_LIVE_FIRST: &str = "live_first";
/// Bytes of the rows of [`REC`] and [`BODY`].
pub(crate) const META_LIVE_BYTES: &str = "live_bytes";
/// Accepted tasks whose rows were pruned.
pub(crate) const META_PRUNED_ACCEPTED: &str = "pruned_accepted";
/// Ended ones of them.
pub(crate) const META_PRUNED_ENDED: &str = "pruned_ended";
/// How often names came into [`NAMES`].
pub(crate) const META_NAMED: &str = "named";

/// stream number ‖ sequence.
pub(crate) fn source(stream: u32, sequence: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&stream.to_be_bytes());
    key[4..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The sequence of a [`source`].
pub(crate) fn sequence_of(key: &[u8; 12]) -> u64 {
    last_eight(key)
}

/// block ‖ term.
pub(crate) fn found(block: u64, term: u64) -> [u8; 12] {
    let mut key = [0; 12];
    // A block has thousands of records: their number ends long before 32 bits of blocks do.
    key[..4].copy_from_slice(&u32::try_from(block).unwrap_or(u32::MAX).to_be_bytes());
    key[4..].copy_from_slice(&term.to_be_bytes());
    key
}

/// The last eight bytes of a key, where its index or sequence stands.
pub(crate) fn last_eight(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    if let Some(tail) = key.last_chunk::<8>() {
        bytes = *tail;
    }
    u64::from_be_bytes(bytes)
}

/// task ‖ tenant number ‖ agent.
pub(crate) fn task_key(task: TaskId, tenant: u32, agent: &str) -> Vec<u8> {
    let mut key = task.0.as_bytes().to_vec();
    key.extend_from_slice(&tenant.to_be_bytes());
    key.extend_from_slice(agent.as_bytes());
    key
}

/// Task, tenant number and agent of a [`task_key`].
pub(crate) fn split_task_key(key: &[u8]) -> Option<(TaskId, u32, &str)> {
    let (task, rest) = key.split_first_chunk::<16>()?;
    let (tenant, agent) = rest.split_first_chunk::<4>()?;
    let agent = std::str::from_utf8(agent).ok()?;
    Some((TaskId(Uuid::from_bytes(*task)), u32::from_be_bytes(*tenant), agent))
}

/// due time in milliseconds ‖ [`task_key`].
pub(crate) fn due_key(due_ms: u64, task: &[u8]) -> Vec<u8> {
    let mut key = due_ms.to_be_bytes().to_vec();
    key.extend_from_slice(task);
    key
}
