//! How a recorder runs.

use std::path::PathBuf;

use serde::Deserialize;

/// A day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Settings of the recorder.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecorderConfig {
    /// Directory of the record.
    pub directory: PathBuf,
    /// File of the master key: 64 hexadecimal digits, mode 600.
    pub master_key_file: PathBuf,
    /// File of the key that signs checkpoints: 64 hexadecimal digits, mode 600.
    pub checkpoint_key_file: PathBuf,
    /// File that each checkpoint is appended to; absent: `checkpoints` in the record's directory.
    pub checkpoint_file: Option<PathBuf>,
    /// Name of the record in its checkpoints: their origin.
    pub origin: String,
    /// Shortest time between two checkpoints while the record grows, milliseconds.
    pub checkpoint_ms: u64,
    /// Longest time between two checkpoints, milliseconds: one says also that nothing happened.
    pub checkpoint_idle_ms: u64,
    /// Records after which there is a checkpoint whatever the time.
    pub checkpoint_records: u64,
    /// Memory for cached pages, bytes.
    pub cache_bytes: usize,
    /// Longest wait for a cause that is not recorded yet, milliseconds.
    pub cause_wait_ms: u64,
    /// How often streams are looked for, milliseconds.
    pub discovery_ms: u64,
    /// How often deadlines are looked at, milliseconds.
    pub deadline_ms: u64,
    /// How long after its deadline a task is ended by the recorder, milliseconds: its worker and router come first.
    pub deadline_grace_ms: u64,
    /// How often streams are trimmed, milliseconds.
    pub trim_ms: u64,
    /// How long recorded messages stay in their streams, milliseconds; never less than the duplicate window.
    pub stream_window_ms: u64,
    /// Duplicate window of the streams, milliseconds: what is younger stays, or an id could be used again unseen.
    pub duplicate_window_ms: u64,
    /// How long results stay, milliseconds.
    pub result_window_ms: u64,
    /// Bytes of records and bodies in the live file from which the oldest move into a segment.
    pub segment_bytes: u64,
    /// Age of the oldest record in the live file from which it moves into a segment, milliseconds.
    pub segment_age_ms: u64,
    /// How often it is looked whether a segment is due, milliseconds.
    pub segment_look_ms: u64,
    /// How often what is past its retention is pruned, milliseconds.
    pub prune_ms: u64,
    /// How long bodies are kept, milliseconds.
    pub body_retention_ms: u64,
    /// How long records are kept, milliseconds; their hashes stay for ever. Never shorter than bodies.
    pub record_retention_ms: u64,
    /// Pause before a record that failed is opened anew, milliseconds.
    pub reopen_ms: u64,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("record"),
            master_key_file: PathBuf::from("record.key"),
            checkpoint_key_file: PathBuf::from("checkpoint.key"),
            checkpoint_file: None,
            origin: "tidegate/cell".to_owned(),
            checkpoint_ms: 1_000,
            checkpoint_idle_ms: 600_000,
            checkpoint_records: 100_000,
            cache_bytes: 256 * 1024 * 1024,
            cause_wait_ms: 5_000,
            discovery_ms: 2_000,
            deadline_ms: 500,
            deadline_grace_ms: 2_000,
            trim_ms: 60_000,
            stream_window_ms: 24 * 3_600 * 1_000,
            duplicate_window_ms: 10 * 60 * 1_000,
            result_window_ms: 7 * 24 * 3_600 * 1_000,
            segment_bytes: 256 * 1024 * 1024,
            segment_age_ms: DAY_MS,
            segment_look_ms: 60_000,
            prune_ms: 3_600_000,
            body_retention_ms: 30 * DAY_MS,
            record_retention_ms: 396 * DAY_MS,
            reopen_ms: 5_000,
        }
    }
}
