//! Names of metrics, once. Labels are closed words: roles, lanes, outcomes, codes; never ids or content.

/// Decisions that are durable; label `outcome`: `local`, `cloud`, `redact`, `hold` or `reject`.
pub const DECISIONS: &str = "tidegate_decisions_total";
/// Decisions that met a policy which cannot be evaluated.
pub const POLICIES_FAILED: &str = "tidegate_policies_failed_total";
/// Tasks beside which the shadow was not judged: it had taken more time than it may.
pub const SHADOWS_LEFT_OUT: &str = "tidegate_shadows_left_out_total";
/// Results published; labels `state`, `code`.
pub const RESULTS: &str = "tidegate_results_total";
/// Attempts begun; label `lane`.
pub const ATTEMPTS: &str = "tidegate_attempts_total";
/// Bytes that left to providers; label `provider`.
pub const EGRESS_BYTES: &str = "tidegate_egress_bytes_total";
/// Tickets refused; label `reason`.
pub const TICKETS_REFUSED: &str = "tidegate_tickets_refused_total";
/// Attempts that a budget left no room for; labels `scope`: `tenant`, `agent` or `provider`, `window`, `unit`.
pub const BUDGET_REFUSALS: &str = "tidegate_budget_refusals_total";
/// Attempts that an open breaker kept back; label `provider`.
pub const BREAKER_REFUSALS: &str = "tidegate_breaker_refusals_total";
/// Breakers that opened; label `provider`.
pub const BREAKERS_OPENED: &str = "tidegate_breakers_opened_total";
/// Dead letters; labels `role`, `code`.
pub const DEAD_LETTERS: &str = "tidegate_dead_letters_total";
/// Messages handled; labels `role`, `verdict`.
pub const MESSAGES: &str = "tidegate_messages_total";
/// Records written.
pub const RECORDS: &str = "tidegate_records_total";
/// Records behind the streams.
pub const RECORD_LAG: &str = "tidegate_record_lag";
/// Anomalies recorded; label `kind`.
pub const ANOMALIES: &str = "tidegate_anomalies_total";
/// Tokens generated locally.
pub const TOKENS: &str = "tidegate_tokens_total";
/// Tokens that left in the place of values; label `outcome`: `restored`, `foreign`, `dropped` or `mangled`.
pub const REDACTION_TOKENS: &str = "tidegate_redaction_tokens_total";
/// Questions to the vault; labels `question`: `issue` or `resolve`, `outcome`: `answered` or `refused`.
pub const VAULT_QUESTIONS: &str = "tidegate_vault_questions_total";
/// Values that the vault holds.
pub const VAULT_VALUES: &str = "tidegate_vault_values";
/// Messages published and acknowledged; label `how`: `single` or `batch`.
pub const BUS_PUBLISHED: &str = "tidegate_bus_published_total";
/// Publishes that failed; label `error`.
pub const BUS_PUBLISH_ERRORS: &str = "tidegate_bus_publish_errors_total";
/// Time from handing a message to the publisher to its acknowledgement, seconds.
pub const BUS_PUBLISH_SECONDS: &str = "tidegate_bus_publish_seconds";
/// Subjects the server denied.
pub const BUS_DENIALS: &str = "tidegate_bus_denials_total";
/// Messages delivered again; label `role`.
pub const BUS_REDELIVERIES: &str = "tidegate_bus_redeliveries_total";
/// Handlers that panicked; label `role`.
pub const BUS_PANICS: &str = "tidegate_bus_handler_panics_total";
