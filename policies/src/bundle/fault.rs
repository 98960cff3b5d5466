//! Why a bundle cannot be used, and where the fault stands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cedar_policy::ffi::DetailedError;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("`{file}`{}: {reason}", on(*.line))]
    File {
        /// The file, relative to the bundle.
        file: String,
        /// Where in it, counted from 1.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Content(String),
    /// A policy, template, link, prompt or case of a prompt breaks a rule.
    #[error("{0}")]
    Policy(Fault),
    /// The policies do not validate against the schema.
    #[error("the policies do not validate: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policies(Vec<Fault>),
}

/// What is wrong with one policy, template, link, prompt or case of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its id, or key.
    pub policy: String,
    /// Where it stands, where that is known: an archive has no files.
    pub at: Option<At>,
    /// Lines below its beginning, where the fault is inside a text of its own.
    pub below: usize,
    /// What is wrong, naming the policy.
    pub reason: String,
}

/// A place in a bundle's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// Where each policy, template and link stands, by id; messages of prompts and their cases by a key of their own.
pub(super) type Places = BTreeMap<String, At>;

// === impl BundleError ===

impl BundleError {
    pub(crate) fn file(file: &str, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn policy(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Policy(Fault::new(id, reason))
    }

    /// What Cedar says of a file's text.
    pub(crate) fn cedar(file: &str, text: &str, error: &DetailedError) -> Self {
        let first =
            error.source_locations.first().or_else(|| error.related.first()?.source_locations.first());
        let line = first.and_then(|label| line_at(text, label.loc.start));
        let mut reason = error.message.clone();
        let label = first.and_then(|label| label.label.clone());
        for more in [label, error.help.clone()].into_iter().flatten() {
            reason.push_str(&format!("; {more}"));
        }
        Self::File { file: file.to_owned(), line, reason }
    }

    /// The same, naming where the policies stand.
    pub(super) fn located(self, places: &Places) -> Self {
        match self {
            Self::Policy(fault) => Self::Policy(fault.located(places)),
            Self::Policies(all) => Self::Policies(all.into_iter().map(|f| f.located(places)).collect()),
            other => other,
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { policy: id.into(), at: None, below: 0, reason: reason.into() }
    }

    fn located(self, places: &Places) -> Self {
        let at = places.get(&self.policy).cloned();
        let below = self.below;
        Self { at: at.map(|at| At { line: at.line + below, ..at }), ..self }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            Some(At { file, line }) => write!(f, "`{file}` line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

fn on(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" line {line}"))
}

/// The line of a byte, counted from 1; none beyond the text.
pub(super) fn line_at(text: &str, byte: usize) -> Option<usize> {
    Some(text.as_bytes().get(..byte)?.iter().filter(|b| **b == b'\n').count() + 1)
}

/// The first line that names this word, in quotation marks or as a key.
pub(super) fn line_naming(text: &str, word: &str) -> Option<usize> {
    let names = |line: &str| {
        let key = line.trim_start().strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('='));
        key || line.contains(&format!("\"{word}\"")) || line.contains(&format!("'{word}'"))
    };
    text.lines().position(names).map(|at| at + 1)
}
