//! What became of redacted values: what the vault holds, and what workers saw of tokens, by their own counts. They count since each
//! process began; the record knows every task's (`tidegate audit task`).

use std::fmt;

use serde::Serialize;
use tidegate_schemas::metric;

use super::{RoleLine, door};

/// Of a vault elsewhere nothing is known here.
const NOT_HERE: &str = "none runs on this host";

/// The vault, and tokens that left in the place of values.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct VaultLine {
    /// Whether one answers here; where none does anywhere nothing is redacted, and nothing that needs it leaves.
    answers: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Values that it holds; none where it does not say.
    values: Option<u64>,
    /// Tokens that came back and became values again.
    restored: u64,
    /// Tokens that were in an answer and of no task's issuing; they stay as they are.
    foreign: u64,
    /// Tokens that left and are not in the answer.
    dropped: u64,
    /// What looks like a token that was changed.
    mangled: u64,
}

/// Asks the processes that run here.
pub(super) async fn line(roles: &[RoleLine]) -> VaultLine {
    let of = |role: &'static str| roles.iter().filter(move |line| line.role.split('-').next() == Some(role));
    let mut told = VaultLine { answers: of("vault").any(|vault| vault.ready), ..VaultLine::default() };
    if !told.answers {
        let why = of("vault").next().map(|vault| vault.sentence.clone());
        told.why = Some(why.unwrap_or_else(|| NOT_HERE.to_owned()));
    }
    for vault in of("vault").filter(|vault| vault.ready) {
        let text = door::get(&vault.address, "/metrics").await.unwrap_or_default();
        told.values = told.values.or_else(|| sample(&text, metric::VAULT_VALUES, None));
    }
    for worker in of("local") {
        told.count(&door::get(&worker.address, "/metrics").await.unwrap_or_default());
    }
    told
}

// === impl VaultLine ===

impl VaultLine {
    /// Adds what one worker counted.
    fn count(&mut self, text: &str) {
        let of = |outcome| sample(text, metric::REDACTION_TOKENS, Some(outcome)).unwrap_or(0);
        self.restored += of("restored");
        self.foreign += of("foreign");
        self.dropped += of("dropped");
        self.mangled += of("mangled");
    }
}

impl fmt::Display for VaultLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.why, self.values) {
            (Some(why), _) if why == NOT_HERE => f.write_str(why)?,
            (Some(why), _) => {
                write!(f, "DOWN: {why}; nothing is redacted, and nothing that needs it leaves")?
            }
            (None, Some(values)) => write!(f, "{values} values held")?,
            (None, None) => f.write_str("answers, and does not say what it holds")?,
        }
        let Self { restored, foreign, dropped, mangled, .. } = self;
        write!(f, "; tokens: {restored} restored, {dropped} dropped, {mangled} mangled, {foreign} foreign")
    }
}

/// The value of a metric in Prometheus' text format, of one outcome where that is asked; whole numbers only.
fn sample(text: &str, name: &str, outcome: Option<&str>) -> Option<u64> {
    let wanted = outcome.map(|outcome| format!("outcome=\"{outcome}\""));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| {
        let (labels, value) = rest.rsplit_once(' ')?;
        let fits = match &wanted {
            Some(wanted) => labels.starts_with('{') && labels.contains(wanted.as_str()),
            None => labels.is_empty(),
        };
        fits.then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "# TYPE tidegate_redaction_tokens_total counter
tidegate_redaction_tokens_total{outcome=\"restored\"} 12
tidegate_redaction_tokens_total{outcome=\"mangled\"} 1
tidegate_redaction_tokens_total_else{outcome=\"dropped\"} 9
# TYPE tidegate_vault_values gauge
tidegate_vault_values 7
";

    #[test]
    fn what_workers_and_vault_count_is_read_from_what_they_show() {
        let mut line = VaultLine { answers: true, ..VaultLine::default() };
        line.values = sample(TOLD, metric::VAULT_VALUES, None);
        line.count(TOLD);
        line.count(TOLD);
        let counts = (line.values, line.restored, line.dropped, line.mangled, line.foreign);
        assert_eq!(counts, (Some(7), 24, 0, 2, 0), "of two workers, and nothing of another name");
        assert_eq!(line.to_string(), "7 values held; tokens: 24 restored, 0 dropped, 2 mangled, 0 foreign");
        // Negative control: what does not answer says nothing.
        assert_eq!(sample("", metric::VAULT_VALUES, None), None);
    }

    #[tokio::test]
    async fn a_vault_that_is_not_ready_or_not_there_is_told() {
        let why = "the store is not open yet".to_owned();
        let role =
            RoleLine { role: "vault".into(), ready: false, sentence: why, pid: 1, address: String::new() };
        let down = line(&[role]).await;
        assert!(!down.answers && down.to_string().starts_with("DOWN: the store is not open yet"), "{down}");
        let none = line(&[]).await;
        assert!(none.to_string().starts_with(NOT_HERE), "{none}");
    }
}
