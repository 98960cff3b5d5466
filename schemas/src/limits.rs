//! Every limit on what comes from outside, once, with its unit in its name.

/// Largest task payload, bytes.
pub const TASK_BYTES_MAX: usize = 512 * 1024;
/// Largest payload of any message, bytes (`max_payload` of the server).
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting of JSON arrays and objects, levels.
pub const JSON_DEPTH_MAX: usize = 32;
/// All headers of a producer's message together, names and values, bytes.
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Headers of a producer's message, count.
pub const HEADERS_COUNT_MAX: usize = 64;
/// A name used as a subject token (tenant, agent, pool, …), bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Any token of a subject, bytes; the server takes no longer subject.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// A free identifier (workflow, session, external id), bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 128;
/// A reply token, bytes.
pub const REPLY_TOKEN_BYTES_MAX: usize = 64;
/// Longest deadline a task may ask for, milliseconds.
pub const DEADLINE_MS_MAX: u64 = 3_600_000;
/// Deadline of a task that names none, milliseconds.
pub const DEADLINE_MS_DEFAULT: u64 = 300_000;
/// How long a held task waits for a person, milliseconds.
pub const REVIEW_MS_DEFAULT: u64 = 24 * 3_600_000;
/// Data subjects of one task, count.
pub const DATA_SUBJECTS_MAX: usize = 8;
/// Entries of any list of labels, count.
pub const LABELS_MAX: usize = 32;
/// Messages of one chat, count.
pub const CHAT_MESSAGES_MAX: usize = 256;
/// Texts of one embedding task, count.
pub const EMBED_TEXTS_MAX: usize = 256;
/// Stop sequences of one task, count.
pub const STOP_SEQUENCES_MAX: usize = 8;
/// Tokens one task may generate, count.
pub const OUTPUT_TOKENS_MAX: u32 = 32_768;
/// Tokens generated when the task names no limit, count.
pub const OUTPUT_TOKENS_DEFAULT: u32 = 256;
/// Variables of one prompt, count.
pub const PROMPT_VARIABLES_MAX: usize = 32;
/// A variable's name, bytes.
pub const VARIABLE_NAME_BYTES_MAX: usize = 64;
/// Messages that a prompt renders, all together, bytes.
pub const RENDERED_BYTES_MAX: usize = TASK_BYTES_MAX;
/// Labels a classification may choose from, count.
pub const CLASSES_MAX: usize = 64;
/// A ticket's longest life, milliseconds.
pub const TICKET_LIFE_MS_MAX: i64 = 120_000;
/// Clock difference that a ticket check forgives, milliseconds.
pub const CLOCK_SKEW_MS_MAX: i64 = 5_000;
/// A reviewer's or operator's reason, bytes.
pub const REASON_BYTES_MAX: usize = 2_000;
/// Hops of one task (decisions after the first), count.
pub const HOPS_MAX: u32 = 16;
