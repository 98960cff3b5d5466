//! What labels mean, as the prose says it ("What counts", and the regions of "Regulations and residency").

use std::collections::BTreeSet;

/// Some words.
pub(crate) type Set = BTreeSet<&'static str>;

const REGULATIONS: [&str; 5] = ["gdpr", "hipaa", "pci", "sox", "export_control"];
const PURPOSES: [&str; 6] = ["support", "research", "operations", "marketing", "profiling", "hiring"];
/// Regions, each with all that contain it.
const REGIONS: [(&str, &[&str]); 11] = [
    ("world", &[]),
    ("europe", &["world"]),
    ("adequate", &["world"]),
    ("us", &["world"]),
    ("jp", &["adequate", "world"]),
    ("eu", &["europe", "world"]),
    ("de", &["eu", "europe", "world"]),
    ("fr", &["eu", "europe", "world"]),
    ("ie", &["eu", "europe", "world"]),
    ("ch", &["europe", "adequate", "world"]),
    ("uk", &["europe", "adequate", "world"]),
];
/// Where regions have none in common.
const NOWHERE: &str = "nowhere";

/// How far data may travel, from everywhere to nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Public,
    Internal,
    Confidential,
    Restricted,
}

/// What is at stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stakes {
    Low,
    Medium,
    High,
}

/// Labels as somebody writes them: each word may be anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    pub(crate) sensitivity: &'static str,
    pub(crate) categories: Set,
    pub(crate) regulations: Set,
    pub(crate) residency: Set,
    pub(crate) consent: Set,
    pub(crate) purpose: Option<&'static str>,
    pub(crate) stakes: Option<&'static str>,
}

/// Labels as they count.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// What was declared for this very task.
    pub(crate) declared: Level,
    pub(crate) level: Level,
    pub(crate) categories: Set,
    pub(crate) regulations: Set,
    pub(crate) residency: Set,
    pub(crate) consent: Set,
    pub(crate) purpose: Option<&'static str>,
    pub(crate) stakes: Stakes,
}

/// Whether a word may stand as a name in labels at all.
pub(crate) fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=64).contains(&word.len())
        && word.starts_with(plain)
        && word.chars().all(|c| plain(c) || c == '-' || c == '_')
}

/// Whether a region is another, or inside it.
pub(crate) fn lies_in(region: &str, wider: &str) -> bool {
    region == wider || REGIONS.iter().any(|(name, within)| *name == region && within.contains(&wider))
}

/// How sensitive a category makes a task at least, and the regulation that it brings. None: not known.
fn meaning(category: &str) -> Option<(Level, Option<&'static str>)> {
    let level = match category {
        "health" | "child" | "card" | "bank_account" | "national_id" | "credentials" | "secret" => {
            Level::Restricted
        }
        "personal" | "hr" | "finance" | "legal" | "marked" => Level::Confidential,
        "network" | "source_code" | "opaque" => Level::Internal,
        _ => return None,
    };
    Some((level, (category == "card").then_some("pci")))
}

/// Regions that both name; who names none leaves all.
fn common(one: &Set, other: &Set) -> Set {
    if one.is_empty() {
        return other.clone();
    }
    if other.is_empty() {
        return one.clone();
    }
    let both = one & other;
    if both.is_empty() { Set::from([NOWHERE]) } else { both }
}

/// Labels as they count: what is declared and inherited, what the session held, and the categories that were found.
pub(crate) fn count(
    declared: &Words,
    inherited: Option<&Words>,
    held: Option<&Words>,
    found: &Set,
) -> Counted {
    let own = Level::of(declared.sensitivity);
    let mut counted = Counted {
        declared: own,
        level: own,
        categories: &declared.categories | found,
        regulations: declared.regulations.clone(),
        residency: declared.residency.clone(),
        consent: declared.consent.clone(),
        purpose: declared.purpose,
        stakes: Stakes::of(declared.stakes),
    };
    if let Some(parent) = inherited {
        counted.inherit(parent);
    }
    if let Some(held) = held {
        counted.level = counted.level.max(Level::of(held.sensitivity));
        counted.categories.extend(&held.categories);
        counted.regulations.extend(&held.regulations);
    }
    counted.raise();
    counted
}

// === impl Level ===

impl Level {
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "public" => Self::Public,
            "internal" => Self::Internal,
            "confidential" => Self::Confidential,
            _ => Self::Restricted,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        }
    }
}

// === impl Stakes ===

impl Stakes {
    fn of(word: Option<&str>) -> Self {
        match word {
            None | Some("low") => Self::Low,
            Some("medium") => Self::Medium,
            Some(_) => Self::High,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

// === impl Words ===

impl Words {
    /// Every word of them that must be a name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let lists = [&self.categories, &self.regulations, &self.residency, &self.consent];
        lists.into_iter().flatten().copied().chain(self.purpose)
    }
}

// === impl Counted ===

impl Counted {
    fn inherit(&mut self, parent: &Words) {
        self.level = self.level.max(Level::of(parent.sensitivity));
        self.categories = &self.categories | &parent.categories;
        self.regulations = &self.regulations | &parent.regulations;
        self.residency = common(&self.residency, &parent.residency);
        self.consent = &self.consent & &parent.consent;
        self.stakes = self.stakes.max(Stakes::of(parent.stakes));
    }

    /// To what its categories mean, and to restricted where a word is not known.
    fn raise(&mut self) {
        let unknown_region = |region: &&str| REGIONS.iter().all(|(name, _)| name != region);
        let unknown = self.of_unknown_kind()
            || self.residency.iter().any(unknown_region)
            || self.purpose.is_some_and(|purpose| !PURPOSES.contains(&purpose));
        if unknown {
            self.level = Level::Restricted;
        }
        for category in &self.categories {
            if let Some((level, regulation)) = meaning(category) {
                self.level = self.level.max(level);
                self.regulations.extend(regulation);
            }
        }
    }

    /// Whether the taxonomy does not know one of its categories or regulations.
    pub(crate) fn of_unknown_kind(&self) -> bool {
        self.categories.iter().any(|category| meaning(category).is_none())
            || self.regulations.iter().any(|regulation| !REGULATIONS.contains(regulation))
    }

    /// Whether it holds data about people.
    pub(crate) fn about_people(&self) -> bool {
        ["personal", "health", "hr"].iter().any(|category| self.categories.contains(category))
    }

    /// Whether a purpose is declared, and known.
    pub(crate) fn has_purpose(&self) -> bool {
        self.purpose.is_some_and(|purpose| PURPOSES.contains(&purpose))
    }
}
