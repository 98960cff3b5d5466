//! The layout of a bundle's Cedar files: policies by Cedar's official formatter, the schema line by line. What a bundle says,
//! and so its hash, stays the same; comments stay where they are.

use std::path::{Path, PathBuf};

use cedar_policy::ffi::{self, FormattingAnswer};
use serde_json::json;

use crate::bundle::{self, Bundle, BundleError};

#[cfg(test)]
mod tests;

/// Widest line that policies are laid out for, characters.
const LINE_MAX: usize = 110;
/// Blanks of one step.
const STEP: usize = 2;

/// A file that is laid out otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// The file.
    pub path: PathBuf,
    /// What it should hold.
    pub text: String,
}

/// The files of a bundle's own directory that are laid out otherwise than they should be. Writes nothing.
///
/// # Errors
/// [`BundleError`] where the bundle is none, or would be another one.
pub fn wanted(dir: &Path) -> Result<Vec<Laid>, BundleError> {
    let before = Bundle::from_dir(dir)?;
    let mut laid = Vec::new();
    for path in bundle::cedar_files(dir)? {
        let text = bundle::text_file(&path)?;
        let policies = path.extension().is_some_and(|extension| extension == "cedar");
        let wanted = if policies { policies_text(&text)? } else { schema_text(&text) };
        if wanted != text {
            laid.push(Laid { path, text: wanted });
        }
    }
    let texts = laid.iter().map(|laid| (laid.path.clone(), laid.text.clone())).collect();
    let after = Bundle::from_texts(dir, &texts)?;
    if after.hash() != before.hash() {
        return Err(BundleError::Content(
            "laid out, it would be another bundle; nothing is written".to_owned(),
        ));
    }
    Ok(laid)
}

/// Policies as Cedar's formatter lays them out; what has no policy stays as it is.
pub(crate) fn policies_text(text: &str) -> Result<String, BundleError> {
    let failed = |reason: String| BundleError::Content(format!("the formatter fails: {reason}"));
    let call = json!({ "policyText": text, "lineWidth": LINE_MAX, "indentWidth": STEP });
    match ffi::format(serde_json::from_value(call).map_err(|error| failed(error.to_string()))?) {
        FormattingAnswer::Success { formatted_policy } => Ok(format!("{}\n", formatted_policy.trim_end())),
        FormattingAnswer::Failure { errors } => {
            Err(failed(errors.first().map_or_else(String::new, |error| error.message.clone())))
        }
    }
}

/// A schema with each line indented by the brackets around it, no blanks at the end, and no two empty lines together.
fn schema_text(text: &str) -> String {
    let (mut lines, mut depth) = (Vec::new(), 0_usize);
    for line in text.lines() {
        let line = line.trim();
        let closing = line.chars().take_while(|c| ['}', ']', ')'].contains(c)).count();
        if !line.is_empty() {
            let indent = depth.saturating_sub(closing) * STEP;
            lines.push(format!("{:indent$}{line}", ""));
        } else if lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(String::new());
        }
        depth = within(line, depth);
    }
    format!("{}\n", lines.join("\n").trim_end())
}

/// How many brackets are open after a line. Those in strings and comments are none.
fn within(line: &str, mut depth: usize) -> usize {
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => break,
            '"' => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    if c == '\\' {
                        chars.next();
                    }
                }
            }
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}
