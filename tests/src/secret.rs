//! What must not be seen, and looking for it in every form that it could be seen in.

use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::bytes::Regex;

/// Something that must not be seen, in every form that it could be seen in.
pub struct Secret {
    /// What to call it.
    pub name: String,
    /// Texts that show it.
    pub forms: Vec<String>,
}

impl Secret {
    /// A text, and what it looks like in other clothes.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let mut forms = encoded(text.as_bytes());
        forms.extend([text.to_owned(), text.replace(' ', "+")]);
        Self { name: name.to_owned(), forms }
    }
}

/// Bytes in base64 at each place of a longer text, in hexadecimal, in an address, and as a list of numbers.
#[must_use]
pub fn encoded(bytes: &[u8]) -> Vec<String> {
    let percent = |byte: &u8| match char::from(*byte) {
        plain if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => plain.to_string(),
        _ => format!("%{byte:02X}"),
    };
    let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    let mut forms = vec![
        hex::encode(bytes),
        hex::encode_upper(bytes),
        bytes.iter().map(percent).collect(),
        numbers.join(","),
        numbers.join(", "),
    ];
    // The first character that holds nothing of what stands before, and as many as nothing after has a part in.
    for (before, first) in [0, 2, 3].into_iter().enumerate() {
        let text = [vec![0; before], bytes.to_vec()].concat();
        let whole = text.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(text[first..whole].to_owned());
        }
    }
    forms
}

/// Names of the secrets that a text shows.
#[must_use]
pub fn found<'a>(secrets: &'a [Secret], text: &str) -> Vec<&'a str> {
    let shown = |secret: &&Secret| secret.forms.iter().any(|form| text.contains(form.as_str()));
    secrets.iter().filter(shown).map(|secret| secret.name.as_str()).collect()
}

/// Looks for many secrets at once, in files of any content.
pub struct Hunt<'a> {
    secrets: &'a [Secret],
    any: Regex,
}

impl<'a> Hunt<'a> {
    /// For these, in every form of theirs.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn new(secrets: &'a [Secret]) -> Result<Self> {
        anyhow::ensure!(secrets.iter().any(|secret| !secret.forms.is_empty()), "nothing to look for");
        let forms = secrets.iter().flat_map(|secret| secret.forms.iter().map(|form| regex::escape(form)));
        let any = forms.collect::<Vec<_>>().join("|");
        Ok(Self { secrets, any: Regex::new(&any).context("reading what to look for")? })
    }

    /// The name of one that these bytes show.
    #[must_use]
    pub fn shown(&self, bytes: &[u8]) -> Option<&'a str> {
        let text = self.any.find(bytes)?.as_bytes();
        let of = self.secrets.iter().find(|secret| secret.forms.iter().any(|form| form.as_bytes() == text));
        Some(of.map_or("something", |secret| secret.name.as_str()))
    }

    /// The files below a directory that show one, each with its name; and how many bytes were read.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn files(&self, dir: &Path) -> Result<(Vec<String>, u64)> {
        let (mut shown, mut bytes) = (Vec::new(), 0);
        for entry in std::fs::read_dir(dir).with_context(|| format!("reading `{}`", dir.display()))? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                let (more, read) = self.files(&path)?;
                shown.extend(more);
                bytes += read;
            } else if kind.is_file() {
                // The server removes a block of a stream once it is empty.
                let Ok(content) = std::fs::read(&path) else { continue };
                bytes += content.len() as u64;
                shown.extend(self.shown(&content).map(|name| format!("{}: {name}", path.display())));
            }
        }
        Ok((shown, bytes))
    }
}
