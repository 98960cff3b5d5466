//! Why a bundle cannot be used, and where the fault stands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cedar_policy::ffi::DetailedError;
use serde::Serialize;

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
    /// What it is about, as it may stand in the text: the fault is on the first line that has the first of these.
    words: Vec<String>,
}

/// A place in a bundle's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// One thing that is wrong with a bundle, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The file, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in it, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The policy, template or link that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is wrong, and mostly what to do.
    pub reason: String,
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

    /// Everything that it tells of, one by one.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        let whole = |file: Option<String>, line| Told { file, line, policy: None, reason: self.to_string() };
        match self {
            Self::Read { path, .. } => vec![whole(Some(path.display().to_string()), None)],
            Self::File { file, line, reason } => {
                vec![Told { reason: reason.clone(), ..whole(Some(file.clone()), *line) }]
            }
            Self::Content(_) => vec![whole(None, None)],
            Self::Policy(fault) => vec![fault.told()],
            Self::Policies(all) => all.iter().map(Fault::told).collect(),
        }
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
    pub(super) fn located(self, places: &Places, texts: &BTreeMap<String, String>) -> Self {
        match self {
            Self::Policy(fault) => Self::Policy(fault.located(places, texts)),
            Self::Policies(all) => {
                Self::Policies(all.into_iter().map(|fault| fault.located(places, texts)).collect())
            }
            other => other,
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { policy: id.into(), at: None, below: 0, reason: reason.into(), words: Vec::new() }
    }

    /// The same, so many lines below the beginning.
    pub(crate) fn below(self, below: usize) -> Self {
        Self { below, ..self }
    }

    /// The same, which is found by these words.
    pub(crate) fn about(self, words: impl IntoIterator<Item = String>) -> Self {
        Self { words: words.into_iter().collect(), ..self }
    }

    fn told(&self) -> Told {
        let at = self.at.as_ref();
        Told {
            file: at.map(|at| at.file.clone()),
            line: at.map(|at| at.line),
            policy: Some(self.policy.clone()),
            reason: self.reason.clone(),
        }
    }

    fn located(self, places: &Places, texts: &BTreeMap<String, String>) -> Self {
        let Some(at) = places.get(&self.policy) else { return self };
        let end = places.values().filter(|other| other.file == at.file && other.line > at.line);
        let end = end.map(|other| other.line).min().unwrap_or(usize::MAX);
        let text = texts.get(&at.file).map_or("", String::as_str);
        let own: Vec<&str> = text.lines().skip(at.line.saturating_sub(1)).take(end - at.line).collect();
        let of = |word: &String| own.iter().position(|line| has_word(line, word));
        let below = self.words.iter().find_map(of).unwrap_or(self.below);
        Self { at: Some(At { line: at.line + below, ..at.clone() }), ..self }
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

/// Whether a line of a policy has this, whole; annotations and comments apart.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let stands = |(at, _): (usize, &str)| {
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|tail| tail.chars().next());
        ![before, after].into_iter().flatten().any(is_part)
    };
    !word.is_empty() && !code.trim_start().starts_with('@') && code.match_indices(word).any(stands)
}

fn on(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" line {line}"))
}

/// The line of a byte, counted from 1; none beyond the text.
pub(crate) fn line_at(text: &str, byte: usize) -> Option<usize> {
    Some(text.as_bytes().get(..byte)?.iter().filter(|b| **b == b'\n').count() + 1)
}

/// The first line that names this word, in quotation marks, as a key or as what it declares.
pub(super) fn line_naming(text: &str, word: &str) -> Option<usize> {
    let names = |line: &str| {
        let line = line.trim_start();
        let follows =
            |rest: &str, signs: &[&str]| signs.iter().any(|sign| rest.trim_start().starts_with(sign));
        let key = line.strip_prefix(word).is_some_and(|rest| follows(rest, &["=", ":", "?:"]));
        let declared = ["entity ", "action ", "namespace "].iter().any(|what| {
            let names = line.strip_prefix(what).and_then(|rest| rest.split(['{', '=', '[', ';']).next());
            names.is_some_and(|names| names.split([',', ' ']).any(|name| name == word))
        });
        let table = line.starts_with('[') && line.contains(&format!(".{word}]"));
        key || declared
            || table
            || line.contains(&format!("\"{word}\""))
            || line.contains(&format!("'{word}'"))
    };
    text.lines().position(names).map(|at| at + 1)
}
