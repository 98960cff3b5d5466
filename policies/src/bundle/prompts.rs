//! Reading `prompts/*.toml`, and where each message stands in them.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_schemas::ids::Name;
use toml::Spanned;

use super::directory::{Roots, files, name_of, toml_file};
use super::fault::{At, BundleError, Places, line_at};
use crate::prompt::{Prompt, key};

/// Where messages and variables stand, and nothing else of the file.
#[derive(Deserialize)]
struct Spans {
    #[serde(default)]
    message: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    content: Spanned<String>,
}

/// The prompts of a directory. `texts` keeps each file, for faults that name what stands in it.
pub(super) fn read(
    roots: &Roots<'_>,
    places: &mut Places,
    texts: &mut BTreeMap<String, String>,
) -> Result<BTreeMap<Name, Prompt>, BundleError> {
    let folder = roots.find("prompts");
    let mut prompts = BTreeMap::new();
    if !folder.exists() {
        return Ok(prompts);
    }
    for path in files(&folder, "toml")? {
        let file = format!("prompts/{}", name_of(&path));
        let text = roots.text(&path)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = Name::new(stem)
            .map_err(|error| BundleError::file(&file, None, format!("the file names the prompt: {error}")))?;
        let prompt: Prompt = toml_file(&text, &file)?;
        let spans: Spans = toml_file(&text, &file)?;
        for (at, message) in spans.message.iter().enumerate() {
            let line = first_line(&text, message.content.span().start);
            places.insert(key(&name, at), At { file: file.clone(), line });
        }
        texts.insert(file, text);
        prompts.insert(name, prompt);
    }
    Ok(prompts)
}

/// The line on which a string's own first line stands: a line end right after three quotation marks is not part of it.
fn first_line(text: &str, start: usize) -> usize {
    let line = line_at(text, start).unwrap_or(1);
    let rest = text.get(start..).unwrap_or_default();
    let opened = ["\"\"\"", "'''"].into_iter().find_map(|quotes| rest.strip_prefix(quotes));
    let skips = opened.is_some_and(|own| own.starts_with('\n') || own.starts_with("\r\n"));
    line + usize::from(skips)
}
