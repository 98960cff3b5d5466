//! What the commands print: text for people, JSON for programs. The only place that writes to standard output.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use tidegate_schemas::decision::PromptUsed;

/// Prints a line. A reader that went away ends the process quietly, as tools in a pipe should.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a piece of a line.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// A prompt's version, for people.
pub(crate) fn prompt(prompt: &PromptUsed) -> String {
    format!("prompt {} {}", prompt.name, prompt.hash.to_string().get(..12).unwrap_or_default())
}

/// Tells of progress on standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut err = std::io::stderr().lock();
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(err, "{}", text.as_ref());
}

/// An error and its causes in one sentence. What a sentence ends with already is not told again.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.ends_with(&cause) {
            let join = if told.is_empty() { "" } else { ": " };
            told.push_str(&format!("{join}{cause}"));
        }
    }
    told
}

/// What was typed is wrong by itself, whatever a cell or a record holds: the exit status is that of wrong usage.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error of usage.
pub(crate) fn usage(sentence: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(sentence.into()))
}

/// Tells of a failure, in one sentence. Gives the exit status.
pub(crate) fn ended(error: &anyhow::Error) -> ExitCode {
    let failed = failed(&sentence(error));
    if error.chain().any(|cause| cause.is::<Usage>()) { ExitCode::from(2) } else { failed }
}

/// Tells of a failure, in one sentence.
pub(crate) fn failed(sentence: &str) -> ExitCode {
    note(format!("tidegate: {sentence}"));
    ExitCode::FAILURE
}

/// A table with a header, columns as wide as their longest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain(header.get(column).map(|cell| cell.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        line(text.trim_end());
    };
    render(&mut header.iter().copied());
    for row in rows {
        render(&mut row.iter().map(String::as_str));
    }
}

/// Text with its hidden and control characters made visible, as `\u{..}`.
pub(crate) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c as u32, 0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xFEFF | 0xE0000..=0xE0FFF)
    };
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_told_once() {
        let missing = || std::io::Error::from_raw_os_error(2);
        let read = tidegate_policies::BundleError::Read { path: "x".into(), source: missing() };
        let told = super::sentence(&anyhow::Error::new(read).context("loading"));
        assert_eq!(told, format!("loading: cannot read `x`: {}", missing()));
        let told = super::sentence(&anyhow::Error::new(missing()).context("reading `y`"));
        assert_eq!(told, format!("reading `y`: {}", missing()), "a cause that nobody told is");
    }

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(super::visible("pay\u{202e}oot\u{200b}\nok\u{7}"), "pay\\u{202e}oot\\u{200b}\nok\\u{7}");
        assert_eq!(super::visible("Grüße, 世界"), "Grüße, 世界");
    }
}
