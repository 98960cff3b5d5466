//! Copies of the default bundle with a change, and the changes that the oracle must notice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_policies::Bundle;

use crate::compare::How;

/// A change of a bundle's directory.
pub(crate) enum Edit {
    /// A policy or a link, taken away.
    Without(&'static str),
    /// In a file, something in place of something else, once.
    Swap(&'static str, &'static str, &'static str),
    /// A file goes on.
    Append(&'static str, &'static str),
    /// A file ends before this.
    Cut(&'static str, &'static str),
}

/// A change that breaks a guarantee.
pub(crate) struct Weakened {
    pub(crate) what: &'static str,
    pub(crate) edits: &'static [Edit],
    pub(crate) breaks: &'static str,
    pub(crate) how: How,
}

const ROUTE: &str = "policies/10-route.cedar";
const REDACTION: &str = "policies/25-redaction.cedar";
const REGULATION: &str = "policies/30-regulation.cedar";
const LIMITS: &str = "policies/40-limits.cedar";
const PEOPLE: &str = "policies/50-people.cedar";

/// The producer's word is taken for it: neither what was found nor what a category means counts for the permission.
const BELIEVED: Edit = Edit::Swap(
    ROUTE,
    "  context.declared == Sensitivity::\"public\" &&
  context.sensitivity == Sensitivity::\"public\" &&
  context.findings == 0
",
    "  context.declared == Sensitivity::\"public\"\n",
);

/// Guards that are there and let through, and what they stand on.
pub(crate) static WEAKENED: [Weakened; 24] = [
    Weakened {
        what: "a flag keeps local what has tools only",
        edits: &[Edit::Swap(
            LIMITS,
            "context.flags.contains(Flag::\"stay-local\")",
            "context.flags.contains(Flag::\"stay-local\") && context.tools",
        )],
        breaks: "flag-stay-local",
        how: How::Opened,
    },
    Weakened {
        what: "the producer is believed",
        edits: &[BELIEVED],
        breaks: "not_permitted",
        how: How::Opened,
    },
    Weakened {
        what: "the producer is believed, and findings do not matter",
        edits: &[BELIEVED, Edit::Without("findings-stay")],
        breaks: "findings-stay",
        how: How::Opened,
    },
    Weakened {
        what: "the producer is believed, and privileged text may leave",
        edits: &[BELIEVED, Edit::Without("legal-privilege-stays")],
        breaks: "legal-privilege-stays",
        how: How::Opened,
    },
    Weakened {
        what: "the producer is believed, and personal data needs no purpose",
        edits: &[BELIEVED, Edit::Without("personal-purpose")],
        breaks: "personal-purpose",
        how: How::Opened,
    },
    Weakened {
        what: "GDPR holds in the whole world",
        edits: &[Edit::Swap(
            REGULATION,
            "resource in Region::\"eu\" || resource in Region::\"adequate\"",
            "resource in Region::\"world\"",
        )],
        breaks: "gdpr-region",
        how: How::Opened,
    },
    Weakened {
        what: "the US lie in the EU",
        edits: &[Edit::Swap("taxonomy.toml", "\nus = [\"world\"]", "\nus = [\"eu\"]")],
        breaks: "gdpr-region",
        how: How::Opened,
    },
    Weakened {
        what: "only the EU counts as a residency",
        edits: &[Edit::Swap(
            REGULATION,
            "!context.residency.isEmpty() &&",
            "context.residency.contains(Region::\"eu\") &&",
        )],
        breaks: "residency-declared",
        how: How::Opened,
    },
    Weakened {
        what: "a contract's residency holds where there is none",
        edits: &[Edit::Swap(
            REGULATION,
            "!context.tenant_residency.isEmpty()",
            "context.tenant_residency.isEmpty()",
        )],
        breaks: "residency-tenant",
        how: How::Opened,
    },
    Weakened {
        what: "tasks leave after eighty decisions",
        edits: &[Edit::Swap(LIMITS, "context.hop > 8", "context.hop > 80")],
        breaks: "hops-limit",
        how: How::Opened,
    },
    Weakened {
        what: "batch work is dear",
        edits: &[Edit::Swap(LIMITS, "price_out > 10000000", "price_out > 100000000")],
        breaks: "batch-cheap",
        how: How::Opened,
    },
    Weakened {
        what: "a switch is for tools only",
        edits: &[Edit::Swap(
            LIMITS,
            "context.off.contains(resource)",
            "context.off.contains(resource) && context.tools",
        )],
        breaks: "switched-off",
        how: How::Unsaid,
    },
    Weakened {
        what: "the cell's ceiling is a hundred times as high",
        edits: &[Edit::Swap(
            "bundle.toml",
            "cloud_cost_usd_micros_max = 500_000",
            "cloud_cost_usd_micros_max = 50_000_000",
        )],
        breaks: "floor-cost",
        how: How::Opened,
    },
    Weakened {
        what: "a call may cost ten times as much",
        edits: &[Edit::Swap(ROUTE, "@cost_cap_usd_micros(\"200000\")", "@cost_cap_usd_micros(\"2000000\")")],
        breaks: "cap",
        how: How::Differs,
    },
    Weakened {
        what: "a role that only looks alike",
        edits: &[Edit::Swap(
            PEOPLE,
            "principal in Role::\"local-only\"",
            "principal in Role::\"local_only\"",
        )],
        breaks: "role-local-only",
        how: How::Opened,
    },
    Weakened {
        what: "medium stakes are held, high ones run",
        edits: &[Edit::Swap(PEOPLE, "Stakes::\"high\"", "Stakes::\"medium\"")],
        breaks: "review-high-stakes",
        how: How::Opened,
    },
    Weakened {
        what: "any agent may have contacts replaced",
        edits: &[Edit::Swap(REDACTION, "principal in Role::\"redacted-cloud\"", "principal is Agent")],
        breaks: "redact-contacts",
        how: How::Opened,
    },
    Weakened {
        what: "what is encoded may be replaced, too",
        edits: &[Edit::Swap(
            REDACTION,
            "[Category::\"personal\", Category::\"network\"]",
            "[Category::\"personal\", Category::\"network\", Category::\"opaque\"]",
        )],
        breaks: "redact-contacts",
        how: How::Opened,
    },
    Weakened {
        what: "contacts are replaced for places that keep texts",
        edits: &[Edit::Swap(REDACTION, " &&\n  resource.zero_retention", "")],
        breaks: "redact-contacts",
        how: How::Opened,
    },
    Weakened {
        what: "everything waits for a person",
        edits: &[Edit::Without("review-default")],
        breaks: "review-default",
        how: How::Closed,
    },
    Weakened {
        what: "the bank's data goes to the US",
        edits: &[Edit::Swap("links.toml", "'Region::\"us\"'", "'Region::\"ch\"'")],
        breaks: "bank-not-us",
        how: How::Opened,
    },
    Weakened {
        what: "another agent is blocked",
        edits: &[Edit::Swap("links.toml", "press/scraper", "press/scraper2")],
        breaks: "press-scraper-blocked",
        how: How::Opened,
    },
    Weakened {
        what: "card numbers are internal",
        edits: &[Edit::Swap(
            "taxonomy.toml",
            "card = { sensitivity = \"restricted\"",
            "card = { sensitivity = \"internal\"",
        )],
        breaks: "labels",
        how: How::Differs,
    },
    Weakened {
        what: "account numbers are not found",
        edits: &[Edit::Swap("taxonomy.toml", "check = \"iban\"", "check = \"luhn\"")],
        breaks: "findings-stay",
        how: How::Opened,
    },
];

/// More places, so that regions and certifications are told apart that the shipped ones do not have.
pub(crate) const MORE_PLACES: Edit = Edit::Append(
    "destinations.toml",
    r#"
[[destination]]
name = "alpine"
lane = "cloud"
target = "alpine"
model = "m-1"
region = "ch"
owner = "o"
model_owner = "o"
protocol = "openai_chat"
base_url = "alpine"
kinds = ["chat", "extract", "classify"]
schema = true
streams = true
context_tokens = 16000
price_in = 100_000
price_out = 20_000_000
latency_ms = 700
rank = 10
certifications = ["iso27001"]
zero_retention = true

[[destination]]
name = "kyoto"
lane = "cloud"
target = "kyoto"
model = "m-2"
region = "jp"
owner = "o"
model_owner = "o"
protocol = "openai_chat"
base_url = "kyoto"
kinds = ["chat", "classify"]
tools = true
schema = true
context_tokens = 4096
price_in = 1
price_out = 1
latency_ms = 901
rank = 5
certifications = ["hipaa_baa"]

[[destination]]
name = "lyon"
lane = "cloud"
target = "lyon"
model = "m-3"
region = "fr"
owner = "o"
model_owner = "o"
protocol = "openai_chat"
base_url = "lyon"
kinds = ["chat", "extract"]
tools = true
schema = true
streams = true
context_tokens = 32000
price_in = 333_333
price_out = 999_999
latency_ms = 400
rank = 12
certifications = ["soc2", "hipaa_baa", "iso27001", "gdpr_dpa"]
trains_on_data = true

[[destination]]
name = "cellar"
lane = "local"
target = "cellar"
model = "m-4"
region = "de"
owner = "o"
model_owner = "o"
kinds = ["chat"]
tools = true
context_tokens = 2048
price_in = 10
price_out = 2_000_000
latency_ms = 5000
rank = 20
"#,
);

/// A taxonomy that looks for nothing.
pub(crate) const NOTHING_LOOKS: Edit = Edit::Cut("taxonomy.toml", "\n[[recogniser]]");

pub(crate) fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundles/default")
}

/// The default bundle with some changes.
pub(crate) fn bundle(edits: &[Edit]) -> Arc<Bundle> {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("default");
    copy(&shipped(), &dir);
    edits.iter().for_each(|edit| edit.apply(&dir));
    Arc::new(Bundle::from_dir(&dir).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

// === impl Edit ===

impl Edit {
    fn apply(&self, dir: &Path) {
        let edit = |file: &str, with: &dyn Fn(&str) -> String| {
            let text = std::fs::read_to_string(dir.join(file)).unwrap();
            let edited = with(&text);
            assert_ne!(edited, text, "{file} is not changed");
            std::fs::write(dir.join(file), edited).unwrap();
        };
        match self {
            Self::Without(id) => without(dir, id),
            Self::Swap(file, from, to) => edit(file, &|text| text.replacen(from, to, 1)),
            Self::Append(file, more) => edit(file, &|text| format!("{text}{more}")),
            Self::Cut(file, at) => edit(file, &|text| text.split(at).next().unwrap().to_owned()),
        }
    }
}

/// Takes away the block of this id, wherever it stands; blocks end at an empty line.
fn without(dir: &Path, id: &str) {
    let policies = std::fs::read_dir(dir.join("policies")).unwrap().map(|entry| entry.unwrap().path());
    let heads = [format!("@id(\"{id}\")"), format!("[[link]]\nid = \"{id}\"")];
    let mut taken = 0;
    for path in policies.chain([dir.join("links.toml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let Some(start) = heads.iter().find_map(|head| text.find(head.as_str())) else { continue };
        let (before, block) = text.split_at(start);
        let end = block.find("\n\n").unwrap_or(block.len());
        std::fs::write(&path, format!("{before}{}", &block[end..])).unwrap();
        taken += 1;
    }
    assert_eq!(taken, 1, "`{id}` stands once");
}
