//! Tables of the record and the keys in them. Keys are big-endian, so that their order is the order of what they say.

use redb::TableDefinition;
use tidegate_schemas::ids::TaskId;
use uuid::Uuid;

/// Form of the tables; a record of another form is refused.
pub(crate) const FORM: u64 = 2;

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
/// [`pair`] of task and index.
pub(crate) const BY_TASK: TableDefinition<'_, &[u8; 24], ()> = TableDefinition::new("by_task");
/// [`when`].
pub(crate) const BY_TIME: TableDefinition<'_, &[u8; 20], ()> = TableDefinition::new("by_tenant_time");
/// [`marked`].
pub(crate) const BY_MARK: TableDefinition<'_, &[u8; 9], ()> = TableDefinition::new("by_mark");
/// [`pair`] of workflow reference and index.
pub(crate) const BY_WORKFLOW: TableDefinition<'_, &[u8; 24], ()> = TableDefinition::new("by_workflow");
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
/// Rows of the key file.
pub(crate) const META_KEY_ROWS: &str = "key_rows";
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

/// 16 bytes ‖ index.
pub(crate) fn pair(first: &[u8; 16], index: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(first);
    key[16..].copy_from_slice(&index.to_be_bytes());
    key
}

/// tenant number ‖ time in microseconds ‖ index.
pub(crate) fn when(tenant: u32, time_us: u64, index: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&tenant.to_be_bytes());
    key[4..12].copy_from_slice(&time_us.to_be_bytes());
    key[12..].copy_from_slice(&index.to_be_bytes());
    key
}

/// mark ‖ index.
pub(crate) fn marked(mark: u8, index: u64) -> [u8; 9] {
    let mut key = [mark; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
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
