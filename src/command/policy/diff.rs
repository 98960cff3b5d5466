//! `tidegate policy diff`: how one bundle differs from another.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use similar::{Algorithm, DiffTag};
use tidegate_policies::Bundle;
use tidegate_policies::diff::{self, CASE, Change, Difference};

use super::{active_bundle, bundle_in, kept};
use crate::cell::Cell;
use crate::cli::{Global, Hash};
use crate::command::act;
use crate::command::bundle::named;
use crate::output;

/// The cell's active bundle, by this word.
pub(super) const ACTIVE: &str = "active";
/// The part whose texts are compared line by line.
const PROMPT: &str = "prompt";
/// How long the fewest changes between two texts are looked for; any that hold are taken then.
const COMPARED_FOR: Duration = Duration::from_secs(1);
/// Where a word names a bundle that only a cell knows.
pub(super) const NO_CELL: &str = "no cell answers here; name a directory, or a cell with --cell";

pub(super) async fn run(global: &Global, bundles: &[String], cases: bool) -> Result<ExitCode> {
    let (from, to) = match bundles {
        [from, to] => (from.as_str(), to.as_str()),
        [to] => (ACTIVE, to.as_str()),
        _ => (ACTIVE, ACTIVE),
    };
    let found = diff::diff(&bundle(global, from).await?, &bundle(global, to).await?)?;
    if global.json {
        output::json(&found)?;
    } else {
        show(&found, cases);
    }
    Ok(ExitCode::SUCCESS)
}

/// A bundle by its directory, its hash or as the active one.
pub(super) async fn bundle(global: &Global, word: &str) -> Result<Bundle> {
    let dir = Path::new(word);
    let hash = word.parse::<Hash>().ok();
    if dir.is_dir() || (word != ACTIVE && hash.is_none()) {
        return bundle_in(dir);
    }
    let bus = async { act::connect(&Cell::open(&global.cell)?).await };
    let bus = bus.await.context(NO_CELL)?;
    match hash {
        Some(hash) => kept(&bus, named(&bus, &hash).await?).await,
        None => active_bundle(&bus).await,
    }
}

/// Two texts line by line: what is gone (`-`), what is new (`+`), and what both have.
fn compared<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let until = Instant::now().checked_add(COMPARED_FOR);
    let mut told = Vec::new();
    for op in similar::capture_diff_slices_deadline(Algorithm::Myers, &a, &b, until) {
        let (tag, old, new) = op.as_tag_tuple();
        let mut tell = |sign, lines: Option<&[&'a str]>| {
            told.extend(lines.into_iter().flatten().map(|line| (sign, *line)));
        };
        match tag {
            DiffTag::Equal => tell(' ', a.get(old)),
            DiffTag::Delete | DiffTag::Insert | DiffTag::Replace => {
                tell('-', a.get(old));
                tell('+', b.get(new));
            }
        }
    }
    told
}

fn show(found: &Difference, cases: bool) {
    if found.same {
        output::line(format!(
            "the same bundle, {}; its files may differ in comments, order and layout",
            found.from
        ));
        return;
    }
    output::line(format!("from {}\nto   {}", found.from, found.to));
    for change in &found.changes {
        one(change, cases || change.part != CASE);
    }
    let [before, after] = found.cases;
    let differ = found.changes.iter().filter(|change| change.part == CASE).count();
    let more = if differ > 0 && !cases { "; what they say: --cases" } else { "" };
    output::line(format!("cases: {before} before, {after} after, {differ} differ{more}"));
}

fn one(change: &Change, in_full: bool) {
    let did = match (&change.before, &change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let effect = change.effect.as_ref().map_or_else(String::new, |effect| format!(" ({effect})"));
    output::line(format!("{did} {} {}{effect}", change.part, change.what));
    if let (PROMPT, Some(before), Some(after)) = (change.part, &change.before, &change.after) {
        compared(before, after).iter().for_each(|(sign, line)| output::line(format!("  {sign} {line}")));
        return;
    }
    if !in_full {
        return;
    }
    for (sign, text) in [('-', &change.before), ('+', &change.after)] {
        for line in text.iter().flat_map(|text| text.lines()) {
            output::line(format!("  {sign} {line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compared;

    #[test]
    fn two_texts_are_told_line_by_line() {
        type Row = (&'static str, &'static str, &'static [(char, &'static str)]);
        let rows: [Row; 4] = [
            ("a\nb", "a\nb", &[(' ', "a"), (' ', "b")]),
            ("a\nb\nc", "a\nx\nc", &[(' ', "a"), ('-', "b"), ('+', "x"), (' ', "c")]),
            ("", "a", &[('+', "a")]),
            ("a\nb", "b", &[('-', "a"), (' ', "b")]),
        ];
        for (before, after, told) in rows {
            assert_eq!(compared(before, after), told, "{before:?} {after:?}");
        }
    }
}
