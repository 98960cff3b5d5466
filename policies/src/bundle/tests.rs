//! What is a bundle and what is none; what its hash depends on.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::{Bundle, BundleError};
use crate::judge::Judge;

mod limits;

/// A copy of the default bundle, to be changed.
pub(crate) struct Variant(tempfile::TempDir);

impl Variant {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundles/default");
        copy(&from, &temp.path().join("default"));
        Self(temp)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("default")
    }

    pub(crate) fn write(self, file: &str, content: &str) -> Self {
        std::fs::write(self.path().join(file), content).unwrap();
        self
    }

    pub(crate) fn replace(self, file: &str, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.path().join(file)).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        self.write(file, &text.replacen(from, to, 1))
    }

    pub(crate) fn remove(self, file: &str) -> Self {
        std::fs::remove_file(self.path().join(file)).unwrap();
        self
    }

    pub(crate) fn read(&self) -> Result<Bundle, BundleError> {
        Bundle::from_dir(&self.path())
    }

    /// The same without the rules for what policies may say: for trying what a rule keeps out.
    pub(crate) fn unruled(&self) -> Bundle {
        let read = super::directory::read(&self.path(), &super::directory::Texts::new()).unwrap();
        Bundle::prepared(read.parts).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

const MORE: &str = "policies/99-more.cedar";

#[test]
fn an_archive_gives_the_same_bundle() {
    let bundle = Variant::new().read().unwrap();
    let again = Bundle::from_archive(bundle.archive()).unwrap();
    assert_eq!((again.hash(), again.archive()), (bundle.hash(), bundle.archive()));
    assert_eq!(again.policy_ids(), bundle.policy_ids());
    assert_eq!(again.annotation("cost-limit", "owner"), Some("finance@example.com"));
    let title = "by contract the tenant's data does not go to this provider or region";
    assert_eq!(
        again.annotation("bank-not-us", "title"),
        Some(title),
        "a link has its template's annotations"
    );
}

#[test]
fn comments_order_and_layout_do_not_change_the_hash() {
    let plain = Variant::new().read().unwrap().hash();
    let policies =
        std::fs::read_to_string(Variant::new().path().join("policies/30-regulation.cedar")).unwrap();
    let mut turned: Vec<&str> = policies.split("\n\n").collect();
    turned.reverse();
    let destinations = std::fs::read_to_string(Variant::new().path().join("destinations.toml")).unwrap();
    let mut tables: Vec<&str> = destinations.split("[[destination]]").skip(1).collect();
    tables.reverse();
    let tables: String = tables.iter().map(|table| format!("[[destination]]{table}\n# more\n")).collect();
    let same = Variant::new()
        .write(
            "policies/05-moved.cedar",
            &turned.join("\n\n// a comment\n").replace("  context", "\t  context"),
        )
        .remove("policies/30-regulation.cedar")
        .write("destinations.toml", &tables)
        .replace(
            "bundle.toml",
            "name = \"default\"\nversion = \"1\"",
            "version = '1'\n# why\nname=\"default\"",
        )
        .replace("schema.cedarschema", "entity Tenant;\n", "// who\nentity   Tenant ;\n")
        .replace("taxonomy.toml", "\"iso27001\", \"soc2\"", "\"soc2\", \"iso27001\"");
    assert_eq!(same.read().unwrap().hash(), plain);
}

#[test]
fn every_part_changes_the_hash() {
    let plain = Variant::new().read().unwrap().hash();
    let changes = [
        ("bundle.toml", "version = \"1\"", "version = \"2\""),
        ("taxonomy.toml", "\"symptoms\", ", ""),
        ("schema.cedarschema", "action SkipReview appliesTo", "action SkipReview in [Route] appliesTo"),
        ("policies/40-limits.cedar", "context.hop > 8", "context.hop > 7"),
        ("policies/60-tenants.cedar", "@title(\"the agent is blocked\")", "@title(\"blocked\")"),
        ("links.toml", "Tenant::\"clinic\"", "Tenant::\"clinics\""),
        ("destinations.toml", "latency_ms = 900", "latency_ms = 901"),
        ("cases/10-sensitivity.toml", "public question leaves", "public questions leave"),
    ];
    for (file, from, to) in changes {
        assert_ne!(Variant::new().replace(file, from, to).read().unwrap().hash(), plain, "{file}");
    }
}

#[test]
fn a_bundle_takes_what_it_lacks_from_the_one_it_extends() {
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundles/demo");
    let demo = Bundle::from_dir(&demo).unwrap();
    let default = Variant::new().read().unwrap();
    assert_eq!(demo.taxonomy(), default.taxonomy());
    assert_eq!(demo.destinations().len(), 3);
    // What it says itself is its link.
    assert!(!demo.takes("clinic-local-only") && demo.takes("cost-limit") && demo.takes("agent-blocked"));
    assert!(!default.takes("cost-limit"), "negative control");
    assert!(default.destination(&"standin".parse().unwrap()).is_none());
}

#[test]
fn what_is_refused() {
    let ok = "@id(\"x\") @owner(\"o\") @title(\"t\") ";
    let policy = |text: &str| Variant::new().write(MORE, &format!("{ok}{text}"));
    let table: Vec<(&str, Variant, &str)> = vec![
        ("no id", Variant::new().write(MORE, "@owner(\"o\") @title(\"t\") forbid (principal, action, resource);"), "no `@id`"),
        ("no owner", Variant::new().write(MORE, "@id(\"x\") @title(\"t\") forbid (principal, action, resource);"), "`@owner`"),
        ("no title", Variant::new().write(MORE, "@id(\"x\") @owner(\"o\") forbid (principal, action, resource);"), "`@title`"),
        (
            "an id twice",
            Variant::new().write(MORE, "@id(\"cost-limit\") @owner(\"o\") @title(\"t\") forbid (principal, action, resource);"),
            "stands twice",
        ),
        (
            "a template with a policy's id",
            Variant::new().write(MORE, "@id(\"cost-limit\") @owner(\"o\") @title(\"t\") forbid (principal == ?principal, action, resource);"),
            "stands twice",
        ),
        ("a reserved id", Variant::new().write(MORE, "@id(\"floor-x\") @owner(\"o\") @title(\"t\") forbid (principal, action, resource);"), "judge's own"),
        ("bad syntax", policy("forbid (principal, action);"), "99-more"),
        ("an unknown attribute", policy("forbid (principal, action in [Action::\"Route\"], resource) when { context.mood > 1 };"), "mood"),
        ("a wrong type", policy("forbid (principal, action in [Action::\"Route\"], resource) when { context.hop == \"one\" };"), "validate"),
        ("a misspelt category", policy("forbid (principal, action in [Action::\"Route\"], resource) when { context.categories.contains(Category::\"helth\") };"), "helth"),
        ("a misspelt region", policy("forbid (principal, action, resource in Region::\"euu\");"), "euu"),
        ("a misspelt provider", policy("forbid (principal, action, resource in Provider::\"opnai\");"), "opnai"),
        ("a warning: can never apply", policy("forbid (principal, action == Action::\"RouteCloud\", resource) when { context.hop > 1 && false };"), "validate"),
        ("a malformed code", policy("@code(\"maybe\") forbid (principal, action, resource);"), "@code"),
        ("a malformed queue", policy("@queue(\"A B\") forbid (principal, action, resource);"), "@queue"),
        ("a malformed cap", policy("@cost_cap_usd_micros(\"-1\") permit (principal, action, resource);"), "`@cost_cap_usd_micros` is malformed"),
        ("a cap with a sign", policy("@cost_cap_usd_micros(\"+1\") permit (principal, action, resource);"), "`@cost_cap_usd_micros` is malformed"),
        ("a cap beyond all cost", policy("@cost_cap_usd_micros(\"1000000000001\") permit (principal, action, resource);"), "up to 10^12"),
        ("three levels", Variant::new().replace("schema.cedarschema", "entity Tenant;", "entity Tenant = { next?: Tenant };").write(
            MORE,
            &format!("{ok}forbid (principal, action, resource) when {{ principal.tenant has next && principal.tenant.next has next && principal.tenant.next.next == principal.tenant }};"),
        ), "`next` is an attribute of `Tenant` that the judge never gives"),
        ("a schema without a fact", Variant::new().replace("schema.cedarschema", "  now: datetime", "  later: datetime"), "`later` is a fact that the judge never gives"),
        ("a schema that leaves out a fact", Variant::new().replace("schema.cedarschema", "  now: datetime\n};", "};"), "does not fit"),
        ("a schema without an action", Variant::new().replace("schema.cedarschema", "action SkipReview", "action SkipReviews"), "SkipReview"),
        ("a link to nowhere", Variant::new().replace("links.toml", "template = \"tenant-local-only\"", "template = \"nope\""), "clinic-local-only"),
        ("a link with a slot missing", Variant::new().replace("links.toml", "principal = 'Tenant::\"clinic\"'\n", ""), "clinic-local-only"),
        ("a destination twice", Variant::new().replace("destinations.toml", "name = \"openai-eu\"", "name = \"openai\""), "stands twice"),
        ("a destination of no region", Variant::new().replace("destinations.toml", "region = \"us\"", "region = \"moon\""), "moon"),
        ("a destination of no owner", Variant::new().replace("destinations.toml", "owner = \"platform@example.com\"", "owner = \"\""), "owner"),
        ("a local destination with a protocol", Variant::new().replace("destinations.toml", "target = \"default\"", "target = \"default\"\nprotocol = \"openai_chat\""), "protocol"),
        ("an unknown key", Variant::new().replace("bundle.toml", "version = \"1\"", "version = \"1\"\nmood = 1"), "mood"),
        ("an unbounded pattern", Variant::new().replace("taxonomy.toml", "{1,64}@", "+@"), "bound"),
        ("regions in a circle", Variant::new().replace("taxonomy.toml", "world = []", "world = [\"us\"]"), "region `us` lies in itself"),
        ("actions in a circle", Variant::new().replace("schema.cedarschema", "action Route;", "action Route in [RouteCloud];"), "cycle"),
        ("a fraction", policy("forbid (principal, action in [Action::\"Route\"], resource) when { context.hop > 0.5 };"), "99-more.cedar` line 1"),
        ("a misspelt flag", policy("forbid (principal, action in [Action::\"Route\"], resource) when { context.flags.contains(Flag::\"stay-locl\") };"), "stay-locl"),
        ("a flag that lifts a forbid", policy("forbid (principal, action == Action::\"RouteCloud\", resource) unless { context.flags.contains(Flag::\"stay-local\") };"), "policy `x` forbids where a feature flag is off"),
        ("a flag without an owner", Variant::new().replace("taxonomy.toml", "local lane\", owner = \"operations@example.com\"", "local lane\", owner = \"\""), "flag `stay-local` needs"),
        ("a flag that no policy can look at", no_flags(Variant::new(), false), "add `flags: Set<Flag>`"),
        ("a case with a flag that is none", Variant::new().replace("taxonomy.toml", "stay-local = {", "stay-locl = {").replace("policies/40-limits.cedar", "Flag::\"stay-local\"", "Flag::\"stay-locl\"").replace("properties.toml", "Flag::\"stay-local\"", "Flag::\"stay-locl\""), "has the flag `stay-local`"),
        ("too many flags", too_many_flags(), "the limit is 32"),
        ("an unknown category", Variant::new().replace("taxonomy.toml", "category = \"card\"", "category = \"cards\""), "cards"),
    ];
    for (what, copy, wanted) in table {
        let error = copy.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{what}: {error}");
    }
}

/// As a bundle was before there were flags; or still with a taxonomy that declares them.
pub(crate) fn no_flags(copy: Variant, undeclared: bool) -> Variant {
    let cut = |copy: Variant, file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(copy.path().join(file)).unwrap();
        let (head, rest) = text.split_once(from).unwrap_or_else(|| panic!("{file} has no `{from}`"));
        let (_, tail) = rest.split_once(to).unwrap();
        let less = format!("{head}{to}{tail}");
        copy.write(file, &less)
    };
    let copy = cut(copy, "policies/40-limits.cedar", "// Set for a share", "@id(\"provider-allow-list\")");
    let copy =
        cut(copy, "properties.toml", "[[property]]\nid = \"flagged", "[[property]]\nid = \"egress-only-when");
    let copy =
        cut(copy, "cases/40-limits.toml", "[[case]]\nname = \"a flag", "[[case]]\nname = \"everything off");
    let told = std::fs::read_to_string(copy.path().join("cases/80-scanned.json")).unwrap();
    let copy = copy.write("cases/80-scanned.json", &told.replace("\"flags\": [], ", ""));
    let copy = cut(copy, "schema.cedarschema", "  flags: Set<Flag>", "  now: datetime");
    if undeclared { cut(copy, "taxonomy.toml", "# Feature flags", "# Recognisers: regular") } else { copy }
}

fn too_many_flags() -> Variant {
    let more: String = (0..32).map(|n| format!("f{n} = {{ title = \"t\", owner = \"o\" }}\n")).collect();
    Variant::new().replace("taxonomy.toml", "[flags]\n", &format!("[flags]\n{more}"))
}

#[test]
fn a_bundle_from_before_flags_knows_no_such_type_and_one_whose_schema_does_needs_none() {
    let before = no_flags(Variant::new(), true).read().unwrap();
    assert!(!before.archive().contains("Flag") && !before.archive().contains("flags"));
    assert_eq!(Bundle::from_archive(before.archive()).unwrap().hash(), before.hash());
    let now = Variant::new().read().unwrap();
    assert!(now.archive().contains("\"Flag\""), "negative control");
    let schema = std::fs::read_to_string(Variant::new().path().join("schema.cedarschema")).unwrap();
    let none = no_flags(Variant::new(), true).write("schema.cedarschema", &schema).read().unwrap();
    assert!(none.archive().contains("\"Flag\""));
}

/// Where a policy must not compute: it would be skipped when it fails.
#[test]
fn a_forbid_that_computes_is_refused_by_name() {
    let policy = |effect: &str, condition: &str| {
        let text = format!(
            "// a comment; with a semicolon\n\n@id(\"x\") @owner(\"o\") @title(\"t;\")\n{effect} (principal, action in [Action::\"Route\"], resource)\nwhen {{ {condition} }};"
        );
        Variant::new().write(MORE, &text).read()
    };
    let computing = [
        ("context.hop + 1 > 2", "+"),
        ("2 - context.hop > 2", "-"),
        ("context.hop * 2 > 2", "*"),
        ("-context.hop > 2", "-"),
        ("[context.hop + 1].contains(2)", "+"),
        ("if context.tools then context.hop * 2 > 2 else false", "*"),
        ("{hop: context.hop + 1}.hop > 2", "+"),
        ("context.now.offset(duration(\"1d\")) > datetime(\"2026-01-01\")", ".offset"),
        ("context.now.durationSince(datetime(\"2026-01-01\")) > duration(\"1d\")", ".durationSince"),
        ("context.now.toDate() == datetime(\"2026-01-01\")", ".toDate"),
        ("context.now.toTime() == duration(\"1h\")", ".toTime"),
    ];
    for (condition, sign) in computing {
        let error = policy("forbid", condition).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("`99-more.cedar` line 3: policy `x` computes with"),
            "{condition}: {error}"
        );
        assert!(error.contains(&format!("`{sign}`")), "{condition}: {error}");
        // Negative control: where a failure permits nothing, it may.
        assert!(policy("permit", condition).is_ok(), "{condition}");
    }
    let comparing = [
        "context.hop > -2",
        "context.now > datetime(\"2026-01-01\")",
        "decimal(\"0.5\").lessThan(decimal(\"0.7\")) && context.tools",
        "{\"+\": context.hop, \"*\": 1}[\"+\"] > 2",
    ];
    for condition in comparing {
        policy("forbid", condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    }
    // A template, and an archive, which has no files.
    let template = "@id(\"x\") @owner(\"o\") @title(\"t\") forbid (principal in ?principal, action in [Action::\"Route\"], resource) when { context.hop * 2 > 2 };";
    let error = Variant::new().write(MORE, template).read().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("line 1: policy `x` computes with `*`"), "{error}");
    let archive = Variant::new().write(MORE, template).unruled().archive().to_owned();
    let error = Bundle::from_archive(&archive).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("policy `x` computes with `*`"), "{error}");
}

/// A cap, a code or a queue that nobody reads would be none.
#[test]
fn an_annotation_that_nobody_reads_is_refused_with_its_place() {
    let policy = |annotation: &str, effect: &str| {
        let text = format!(
            "\n@id(\"x\") @owner(\"o\") @title(\"t\")\n{annotation}\n{effect} (principal, action == Action::\"RouteCloud\", resource);"
        );
        Variant::new().write(MORE, &text).read()
    };
    let unread = [
        (
            "@cost_cap_usd_micro(\"1\")",
            "permit",
            "unknown annotation `@cost_cap_usd_micro`; there are `@id`, ",
        ),
        ("@Code(\"lane_off\")", "forbid", "unknown annotation `@Code`"),
        ("@obligation(\"redact\")", "permit", "unknown annotation `@obligation`"),
        ("@cost_cap_usd_micros(\"1\")", "forbid", "it forbids"),
        ("@code(\"lane_off\")", "permit", "it permits"),
        ("@queue(\"default\")", "permit", "it permits"),
        ("@quorum(\"2\")", "permit", "it permits"),
    ];
    for (annotation, effect, wanted) in unread {
        let error = policy(annotation, effect).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("`99-more.cedar` line 2: policy `x` has"), "{error}");
        assert!(error.contains(wanted), "{error}");
    }
    // Negative controls.
    for (annotation, effect) in [
        ("@cost_cap_usd_micros(\"1\")", "permit"),
        ("@code(\"lane_off\")", "forbid"),
        ("@queue(\"default\")", "forbid"),
        ("@quorum(\"2\")", "forbid"),
    ] {
        policy(annotation, effect).unwrap_or_else(|error| panic!("{annotation}: {error}"));
    }
}

#[test]
fn a_fault_is_told_with_file_line_and_what_to_do() {
    let ok = "@id(\"x\") @owner(\"o\") @title(\"t\")";
    let before = "// a comment; or two\n@id(\"y\") @owner(\"o\") @title(\"t; \\\"u\\\"\")\nforbid (principal, action, resource) when { context.hop > 99 };\n\n// next\n";
    let before = before.replace("action, resource", "action in [Action::\"Route\"], resource");
    let after = |text: &str| Variant::new().write(MORE, &format!("{before}{text}"));
    let table: Vec<(Variant, &str, &str)> = vec![
        (
            after(&format!("{ok}\nforbid (principal, action);")),
            "`99-more.cedar` line 7: ",
            "missing the `resource`",
        ),
        (
            after("@owner(\"o\")\nforbid (principal, action, resource);"),
            "`99-more.cedar` line 6: ",
            "give it one",
        ),
        (
            after("@id(\"y\")\nforbid (principal, action, resource);"),
            "`99-more.cedar` line 6: ",
            "first in `99-more.cedar` line 2; rename one",
        ),
        (
            after("@id(\"cost-limit\")\nforbid (principal, action, resource);"),
            "`99-more.cedar` line 6: ",
            "first in `40-limits.cedar` line ",
        ),
        (
            after("@id(\"x\") @title(\"t\")\nforbid (principal, action, resource);"),
            "`99-more.cedar` line 6: ",
            "needs `@owner`",
        ),
        (
            after(&format!(
                "{ok}\nforbid (principal, action in [Action::\"Route\"], resource)\n// its mood\nwhen {{ context.hop > 1 &&\n context.mood > 1 }};"
            )),
            "`99-more.cedar` line 10: ",
            "what a policy may ask stands in `schema.cedarschema`",
        ),
        (
            after(&format!(
                "{ok}\nforbid (principal, action in [Action::\"Route\"], resource)\nwhen {{ context.categories.contains(Category::\"helth\") }};"
            )),
            "`99-more.cedar` line 8: ",
            "stand in `taxonomy.toml`",
        ),
        (
            after(&format!(
                "{ok}\nforbid (principal, action in [Action::\"Route\"], resource)\nwhen {{ context.latency_ms_max > 1 }};"
            )),
            "`99-more.cedar` line 8: ",
            "ask `has` for it first",
        ),
        (
            after(&format!(
                "{ok}\nforbid (principal, action in [Action::\"Route\"], resource)\nwhen {{ context.hop > 1 && false }};"
            )),
            "`99-more.cedar` line 6: ",
            "take the policy out",
        ),
        (
            after(&format!("{ok}\nforbid (principal, action, resource in Region::\"euu\");")),
            "`99-more.cedar` line 7: ",
            "Region::\"euu\", which the bundle does not have; regions stand in `taxonomy.toml`",
        ),
        (
            after(&format!("{ok} @code(\"maybe\")\nforbid (principal, action, resource);")),
            "`99-more.cedar` line 6: ",
            "it must be lane_off",
        ),
        (
            Variant::new().replace("schema.cedarschema", "entity Tenant;", "entity Tenant = {;"),
            "`schema.cedarschema` line 2: ",
            "",
        ),
        (
            Variant::new().replace(
                "schema.cedarschema",
                "entity Team in [Tenant];",
                "entity Team in [Tenants];",
            ),
            "`schema.cedarschema`",
            "Tenants",
        ),
        (
            Variant::new().replace("links.toml", "template = \"tenant-local-only\"", "template = \"nope\""),
            "`links.toml` line 5: ",
            "link `clinic-local-only` names the template `nope`, which the bundle does not have; there are `agent-blocked`, ",
        ),
        (
            Variant::new().replace("links.toml", "principal = 'Tenant::\"clinic\"'", "principal = 'clinic'"),
            "`links.toml` line 6: ",
            "link `clinic-local-only` fills in `?principal` with `clinic`, which names nothing; write it as ",
        ),
        (
            Variant::new().replace("links.toml", "principal = 'Tenant::\"clinic\"'\n", ""),
            "`links.toml` line 4: ",
            "must fill in what its template `tenant-local-only` leaves open, and nothing else: `?principal`",
        ),
        (
            Variant::new().replace("destinations.toml", "region = \"us\"", "region = \"moon\""),
            "`destinations.toml` line ",
            "moon",
        ),
        (
            Variant::new().replace("taxonomy.toml", "world = []", "world = [\"us\"]"),
            "`taxonomy.toml` line ",
            "take one of those out of its list in `[regions]`",
        ),
        (
            Variant::new().replace("bundle.toml", "version = \"1\"", "version = \"1\"\nmood = 1"),
            "`bundle.toml` line ",
            "mood",
        ),
        (
            Variant::new().replace("cases/50-people.toml", "tenant = \"demo\"", "tenant = 1"),
            "`50-people.toml` line ",
            "",
        ),
    ];
    for (copy, place, what) in table {
        let error = copy.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(what), "{place} {what}: {error}");
    }
    // Negative control.
    assert!(after("").read().is_ok());
}

#[test]
fn archives_that_are_none_are_refused() {
    let bundle = Variant::new().read().unwrap();
    let mut value: Value = serde_json::from_str(bundle.archive()).unwrap();
    value["format"] = 3.into();
    assert!(Bundle::from_archive(&value.to_string()).is_err());
    assert!(Bundle::from_kept(&value.to_string()).is_err());
    value["format"] = 2.into();
    // The control: untouched it is read.
    assert!(Bundle::from_archive(&value.to_string()).is_ok());
    value["policies"]["cost-limit"]["effect"] = "maybe".into();
    assert!(Bundle::from_archive(&value.to_string()).is_err());
    assert!(Bundle::from_archive("{}").is_err());
    // A policy under another's id.
    let mut value: Value = serde_json::from_str(bundle.archive()).unwrap();
    let moved = value["policies"]["cost-limit"].clone();
    value["policies"]["free-lunch"] = moved;
    let error = Bundle::from_archive(&value.to_string()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("@id"), "{error}");
}

/// A bundle as it was written before there were rules for what policies may say, and `over_cost`: its `forbid` computes, and
/// it has an annotation that nobody reads. Its hash is what the program of that time gave it.
const FORMER: &str = include_str!("kept/format-1.json");
const FORMER_HASH: &str = "5c0dee7e020fc04d9c26e06341dcc0ec3e515a4e5ed444b6d5e86276cc602516";

#[test]
fn a_bundle_of_the_form_before_judges_as_it_did_and_is_not_made_active_again() {
    let kept = Bundle::from_kept(FORMER).unwrap();
    assert_eq!((kept.hash().to_string().as_str(), kept.archive()), (FORMER_HASH, FORMER.trim_end()));
    let judge = Judge::new(Arc::new(kept)).unwrap();
    let ran = crate::cases::run(&judge);
    let failed: Vec<_> = ran.iter().filter(|case| !case.passed()).map(|case| &case.differences).collect();
    assert_eq!((ran.len(), failed), (2, vec![]), "the limit of cost that it computes itself among them");
    let error = Bundle::from_archive(FORMER).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`format` must be 2"), "{error}");

    // The present form is held to its rules, wherever it is read.
    let mut value: Value = serde_json::from_str(FORMER).unwrap();
    value["format"] = 2.into();
    let error = |value: &Value| Bundle::from_kept(&value.to_string()).map(|_| ()).unwrap_err().to_string();
    assert!(error(&value).contains("unknown annotation `@reviewed`"), "{}", error(&value));
    value["policies"]["cloud-public"]["annotations"].as_object_mut().unwrap().remove("reviewed");
    assert!(error(&value).contains("`cost-limit` computes"), "{}", error(&value));
    value["policies"].as_object_mut().unwrap().remove("cost-limit");
    assert!(error(&value).contains("the schema does not fit"), "{}", error(&value));
    // Negative control: the present form is read both ways.
    let now = Variant::new().read().unwrap();
    assert_eq!(Bundle::from_kept(now.archive()).unwrap().hash(), now.hash());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn the_order_of_an_archives_keys_does_not_matter(seed in any::<u64>()) {
        let bundle = Variant::new().read().unwrap();
        let value: Value = serde_json::from_str(bundle.archive()).unwrap();
        let again = Bundle::from_archive(&scrambled(&value, seed)).unwrap();
        prop_assert_eq!(again.hash(), bundle.hash());
    }
}

/// The same JSON with keys in an order that depends on the seed, and with blanks.
fn scrambled(value: &Value, seed: u64) -> String {
    match value {
        Value::Object(entries) => {
            let mut parts: Vec<String> = entries
                .iter()
                .map(|(key, item)| format!("{} : {}", Value::from(key.as_str()), scrambled(item, seed)))
                .collect();
            let turn =
                usize::try_from(seed % 97).unwrap_or_else(|error| panic!("{error}")) % parts.len().max(1);
            parts.rotate_left(turn);
            format!("{{ {} }}", parts.join(" ,\n"))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| scrambled(item, seed)).collect::<Vec<_>>().join(", "))
        }
        leaf => leaf.to_string(),
    }
}
