//! The taxonomy: the words that labels may use, what each means, and what is looked for in texts (`taxonomy.toml`).
//!
//! Labels are declared by the producer and raised here, never lowered. A name that the taxonomy does not know makes the
//! task restricted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::flag::FLAGS_MAX;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{KnownLabels, Labels, NOWHERE, Raise, Sensitivity};

pub mod scan;
pub mod span;

mod blob;
pub mod checksum;
mod escapes;
mod form;
mod lead;
mod normal;
mod rule;
mod search;
#[cfg(test)]
mod tests;

/// Longest title or owner of a flag, bytes.
const FLAG_TEXT_BYTES_MAX: usize = 200;

/// The member of every closed vocabulary that stands for a name the taxonomy does not know.
pub const UNKNOWN: &str = "unknown";

/// What a model's entity is called that is no finding.
pub const NO_FINDING: &str = "none";

/// What labels mean and what recognisers look for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taxonomy {
    /// Kinds of data by name.
    pub categories: BTreeMap<Name, Category>,
    /// Rules that data can fall under.
    pub regulations: BTreeSet<Name>,
    /// Regions by name, each with the regions that contain it.
    pub regions: BTreeMap<Name, BTreeSet<Name>>,
    /// What data subjects can consent to.
    pub consents: BTreeSet<Name>,
    /// What work can be for.
    pub purposes: BTreeSet<Name>,
    /// What destinations can be certified for.
    pub certifications: BTreeSet<Name>,
    /// Feature flags by name: what operators can let policies know beside a task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<Name, FlagSpec>,
    /// The model whose scan of texts counts; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_scan: Option<ModelSpec>,
    /// Kind of data that each of the model's entities is, or [`NO_FINDING`]; one that does not stand here makes a task restricted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub model_entities: BTreeMap<Name, Name>,
    /// Patterns that are looked for.
    #[serde(default, rename = "recogniser")]
    pub recognisers: Vec<Recogniser>,
    /// Key words that are looked for.
    #[serde(default, rename = "class")]
    pub classes: Vec<KeyWords>,
}

/// What follows when data of a kind is declared or found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The task is at least this sensitive.
    pub sensitivity: Sensitivity,
    /// The task falls under these rules.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regulations: BTreeSet<Name>,
}

/// A token classifier on the local lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name there.
    pub name: String,
    /// SHA-256 of its weights: a scan by others raises labels, and permits nothing. Absent: any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// A feature flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagSpec {
    /// What is so where it is on, in one plain phrase.
    pub title: String,
    /// Whom to ask about it.
    pub owner: String,
}

/// A pattern that is looked for in every text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recogniser {
    /// Name of the finding.
    pub name: Name,
    /// Kind of data that a match is.
    pub category: Name,
    /// Regular expression over bytes; no match of it may be longer than [`scan::MATCH_BYTES_MAX`]. Where it has a group named
    /// `value`, that is what is found, and the rest only says that it is one.
    pub pattern: String,
    /// What a match must also pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<checksum::Check>,
    /// Words of which one must stand close to a match, in any case; none are needed where none are given.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub near: BTreeSet<String>,
    /// A value goes on to the line's end after this text, or as far as base64 goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Words that make a text belong to a kind of data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyWords {
    /// Name of the finding.
    pub name: Name,
    /// Kind of data that the text then is.
    pub category: Name,
    /// The words, in any case; a blank stands for any run of blanks.
    pub words: BTreeSet<String>,
    /// How many of them make a finding.
    #[serde(default = "one")]
    pub at_least: u32,
}

fn one() -> u32 {
    1
}

impl Taxonomy {
    /// Puts its lists in order, so that the order of a file changes nothing.
    pub(crate) fn sort(&mut self) {
        self.recognisers.sort();
        self.classes.sort();
    }

    /// Whether both look for the same in texts.
    #[must_use]
    pub fn looks_for_the_same(&self, other: &Self) -> bool {
        let by_model = (&self.model_scan, &self.model_entities) == (&other.model_scan, &other.model_entities);
        by_model && (&self.recognisers, &self.classes) == (&other.recognisers, &other.classes)
    }

    /// The rule that it breaks, if one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let categories =
            self.recognisers.iter().map(|r| &r.category).chain(self.classes.iter().map(|c| &c.category));
        for category in categories {
            if !self.categories.contains_key(category) {
                return Some(format!("`{category}` is looked for and is no category"));
            }
        }
        for (name, category) in &self.categories {
            if let Some(regulation) = category.regulations.iter().find(|r| !self.regulations.contains(*r)) {
                return Some(format!("category `{name}` names the unknown regulation `{regulation}`"));
            }
        }
        for (name, wider) in &self.regions {
            if let Some(region) = wider.iter().find(|region| !self.regions.contains_key(*region)) {
                return Some(format!("region `{name}` lies in the unknown region `{region}`"));
            }
        }
        if let Some(fault) = self.model_fault() {
            return Some(fault);
        }
        if let Some(fault) = self.flags_fault() {
            return Some(fault);
        }
        let mut names = BTreeSet::new();
        let all = self.recognisers.iter().map(|r| &r.name).chain(self.classes.iter().map(|c| &c.name));
        all.filter(|name| !names.insert(*name))
            .map(|name| format!("two recognisers are named `{name}`"))
            .next()
    }

    fn model_fault(&self) -> Option<String> {
        if self.model_scan.is_some() == self.model_entities.is_empty() {
            return Some("`[model_scan]` and `[model_entities]` go together".to_owned());
        }
        if self.model_scan.as_ref().is_some_and(|model| model.name.trim().is_empty()) {
            return Some("`[model_scan]` needs the model's `name`".to_owned());
        }
        let known = |name: &Name| name.as_str() == NO_FINDING || self.categories.contains_key(name);
        let odd = self.model_entities.iter().find(|(_, category)| !known(category));
        odd.map(|(entity, category)| {
            format!("`{entity}` of the model is a `{category}`, which is no category")
        })
    }

    fn flags_fault(&self) -> Option<String> {
        if self.flags.len() > FLAGS_MAX {
            return Some(format!("there are {} flags; the limit is {FLAGS_MAX}", self.flags.len()));
        }
        let said = |text: &str| (1..=FLAG_TEXT_BYTES_MAX).contains(&text.trim().len());
        let unsaid = self.flags.iter().find(|(_, spec)| !said(&spec.title) || !said(&spec.owner));
        unsaid.map(|(name, _)| {
            format!("flag `{name}` needs a `title` and an `owner` of 1 to {FLAG_TEXT_BYTES_MAX} bytes")
        })
    }

    /// A region that lies in itself, if one does.
    #[must_use]
    pub fn cycle(&self) -> Option<String> {
        let region = self.regions.keys().find(|region| self.is_in_itself(region))?;
        Some(format!(
            "region `{region}` lies in itself, by way of the regions that contain it; take one of those out of its list in `[regions]`"
        ))
    }

    fn is_in_itself(&self, region: &Name) -> bool {
        let wider = self.regions.get(region).into_iter().flatten();
        wider.into_iter().any(|wider| self.within(wider).contains(region))
    }

    /// A region and all regions that contain it.
    #[must_use]
    pub fn within(&self, region: &Name) -> BTreeSet<Name> {
        let mut found = BTreeSet::from([region.clone()]);
        let mut open = vec![region.clone()];
        while let Some(next) = open.pop() {
            for wider in self.regions.get(&next).into_iter().flatten() {
                if found.insert(wider.clone()) {
                    open.push(wider.clone());
                }
            }
        }
        found
    }

    /// Labels as they count: raised by what was found, by what the declared categories mean, and to restricted where a
    /// name is not known.
    #[must_use]
    pub fn raise(&self, declared: &Labels, found: &BTreeSet<Name>) -> Labels {
        let mut raise = Raise { categories: found.clone(), ..Raise::default() };
        for name in declared.categories.union(found) {
            match self.categories.get(name) {
                Some(category) => {
                    raise.sensitivity = raise.sensitivity.max(category.sensitivity);
                    raise.regulations.extend(category.regulations.iter().cloned());
                }
                None => raise.sensitivity = Sensitivity::Restricted,
            }
        }
        let unknown = declared.regulations.iter().any(|name| !self.regulations.contains(name))
            || declared.residency.iter().any(|name| !self.regions.contains_key(name))
            || declared.purpose.iter().any(|name| !self.purposes.contains(name));
        if unknown {
            raise.sensitivity = Sensitivity::Restricted;
        }
        declared.raised_by(&raise)
    }

    /// The names among labels in its own words: one that it does not know stands as [`UNKNOWN`], so that nothing which a
    /// producer made up goes further. [`NOWHERE`] is a word of ours.
    #[must_use]
    pub fn known(&self, labels: &Labels) -> KnownLabels {
        let regional = |name: &Name| self.regions.contains_key(name) || name.as_str() == NOWHERE;
        KnownLabels {
            categories: known(&labels.categories, |name| self.categories.contains_key(name)),
            regulations: known(&labels.regulations, |name| self.regulations.contains(name)),
            residency: known(&labels.residency, regional),
            consent: known(&labels.consent, |name| self.consents.contains(name)),
            purpose: known(&labels.purpose, |name| self.purposes.contains(name)).into_iter().next(),
        }
    }

    /// Its closed vocabularies as Cedar enumerations, to stand beside the bundle's own schema. A misspelt name in a policy
    /// is then an error of validation. `Flag` stands there where there are flags, or where the schema asks for it: a bundle from
    /// before there were any has no such type, and the hash that it had.
    #[must_use]
    pub fn cedar_schema(&self, own: &str) -> String {
        let lists: [(&str, Vec<&Name>); 5] = [
            ("Category", self.categories.keys().collect()),
            ("Regulation", self.regulations.iter().collect()),
            ("Consent", self.consents.iter().collect()),
            ("Purpose", self.purposes.iter().collect()),
            ("Certification", self.certifications.iter().collect()),
        ];
        let mut text = String::new();
        for (entity, names) in lists {
            let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            let extra = if entity == "Purpose" { "\"none\", \"unknown\"" } else { "\"unknown\"" };
            text.push_str(&format!(
                "entity {entity} enum [{}];\n",
                [quoted, vec![extra.to_owned()]].concat().join(", ")
            ));
        }
        let flags: Vec<String> = self.flags.keys().map(|name| format!("\"{name}\"")).collect();
        if !flags.is_empty() {
            text.push_str(&format!("entity Flag enum [{}];\n", flags.join(", ")));
        } else if names_the_type(own, "Flag") {
            // An enumeration has a member.
            text.push_str(&format!("entity Flag enum [\"{UNKNOWN}\"];\n"));
        }
        text
    }
}

/// Whether a text holds this name as a whole word.
fn names_the_type(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

/// Some names, with [`UNKNOWN`] for those that are not known.
fn known<'a>(names: impl IntoIterator<Item = &'a Name>, knows: impl Fn(&Name) -> bool) -> BTreeSet<Name> {
    let told = |name: &Name| if knows(name) { Some(name.clone()) } else { Name::new(UNKNOWN).ok() };
    names.into_iter().filter_map(told).collect()
}
