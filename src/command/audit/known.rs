//! Whether a bundle knows the words that somebody asks for: a word that none knows finds nothing, and looks like an answer.

use std::collections::BTreeSet;

use tidegate_bus::Bus;
use tidegate_policies::{Bundle, Taxonomy};
use tidegate_schemas::control::BUNDLES_BUCKET;
use tidegate_schemas::ids::Name;

use crate::cli::FilterArgs;
use crate::output;

/// Stands for names that the judging bundle does not know.
const UNKNOWN: &str = "unknown";

/// Says which of the words that were asked for are known to no bundle that the cell keeps.
pub(super) async fn unknown_words(bus: &Bus, asked: &FilterArgs) {
    // Only a warning: where the bundles cannot be asked for there is none.
    let Ok(kept) = bus.kv_entries(BUNDLES_BUCKET, ">").await else { return };
    let bundles: Vec<Bundle> = kept
        .iter()
        .filter_map(|entry| Bundle::from_kept(std::str::from_utf8(&entry.value).ok()?).ok())
        .collect();
    if bundles.is_empty() {
        return;
    }
    for sentence in unknown(asked, bundles.iter().map(Bundle::taxonomy)) {
        output::note(sentence);
    }
}

fn unknown<'a>(asked: &FilterArgs, all: impl Iterator<Item = &'a Taxonomy> + Clone) -> Vec<String> {
    type Words = fn(&Taxonomy) -> Vec<&Name>;
    let rows: [(&str, &Option<Name>, Words); 5] = [
        ("--category", &asked.category, |taxonomy| taxonomy.categories.keys().collect()),
        ("--regulation", &asked.regulation, |taxonomy| taxonomy.regulations.iter().collect()),
        ("--residency", &asked.residency, |taxonomy| taxonomy.regions.keys().collect()),
        ("--consent", &asked.consent, |taxonomy| taxonomy.consents.iter().collect()),
        ("--purpose", &asked.purpose, |taxonomy| taxonomy.purposes.iter().collect()),
    ];
    let mut said = Vec::new();
    for (option, word, words) in rows {
        let Some(word) = word.as_ref().filter(|word| word.as_str() != UNKNOWN) else { continue };
        let known: BTreeSet<&Name> = all.clone().flat_map(words).collect();
        if !known.contains(word) {
            let known: Vec<&str> = known.into_iter().map(Name::as_str).collect();
            let known = known.join(", ");
            said.push(format!("{option}: no bundle of this cell knows `{word}`; they know: {known}"));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_word_that_no_bundle_knows_is_named_with_those_that_they_do() {
        let name = |text: &str| Some(Name::new(text).unwrap());
        let taxonomy = |region: &str, purpose: &str| Taxonomy {
            regions: [(name(region).unwrap(), BTreeSet::new())].into(),
            purposes: name(purpose).into_iter().collect(),
            ..Taxonomy::default()
        };
        let all = [taxonomy("eu", "support"), taxonomy("ch", "support")];
        let asked = FilterArgs {
            residency: name("ch"),
            purpose: name("suport"),
            consent: name(UNKNOWN),
            ..FilterArgs::default()
        };
        let said = unknown(&asked, all.iter());
        assert_eq!(said, ["--purpose: no bundle of this cell knows `suport`; they know: support"]);
        let asked = FilterArgs { residency: name("zz"), ..FilterArgs::default() };
        assert!(unknown(&asked, all.iter())[0].ends_with("they know: ch, eu"));
    }
}
