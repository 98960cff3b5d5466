//! What was changed is told, and nothing else.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::diff;
use crate::bundle::Bundle;
use crate::bundle::tests::Variant;

/// File, what is replaced there by what, and the changes that must be told; none: any.
type Row<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>);
/// Part, what, and whether the first and the second say something.
type Told = (&'static str, String, bool, bool);

fn told(from: &Variant, to: &Variant) -> Vec<Told> {
    told_of(&from.read().unwrap(), to)
}

fn told_of(from: &Bundle, to: &Variant) -> Vec<Told> {
    let found = diff(from, &to.read().unwrap()).unwrap();
    assert_eq!(found.same, found.changes.is_empty());
    let one = |c: &super::Change| (c.part, c.what.clone(), c.before.is_some(), c.after.is_some());
    found.changes.iter().map(one).collect()
}

#[test]
fn each_part_that_was_changed_is_told_and_no_other() {
    let table: Vec<Row<'_>> = vec![
        ("bundle.toml", "version = \"1\"", "version = \"2\"", vec![("limit", "version")]),
        ("bundle.toml", "500_000", "400_000", vec![("limit", "cloud_cost_usd_micros_max")]),
        (
            "taxonomy.toml",
            "hr = { sensitivity = \"confidential\" }",
            "hr = { sensitivity = \"restricted\" }",
            vec![("taxonomy", "categories.hr.sensitivity")],
        ),
        ("taxonomy.toml", "\"symptoms\", ", "", vec![("taxonomy", "class.health_words.words")]),
        (
            "schema.cedarschema",
            "action SkipReview appliesTo",
            "action SkipReview in [Route] appliesTo",
            vec![],
        ),
        ("policies/40-limits.cedar", "context.hop > 8", "context.hop > 7", vec![("policy", "hops-limit")]),
        (
            "policies/60-tenants.cedar",
            "@title(\"the agent is blocked\")",
            "@title(\"blocked\")",
            vec![("template", "agent-blocked")],
        ),
        (
            "links.toml",
            "Tenant::\"clinic\"",
            "Tenant::\"clinics\"",
            vec![("link", "clinic-local-only.principal")],
        ),
        (
            "destinations.toml",
            "latency_ms = 900",
            "latency_ms = 901",
            vec![("destination", "openai.latency_ms")],
        ),
        ("cases/10-sensitivity.toml", "public question leaves", "public questions leave", vec![]),
    ];
    let plain = Variant::new();
    // As a cell keeps it, which is in another order.
    let kept = Bundle::from_kept(plain.read().unwrap().archive()).unwrap();
    assert_eq!(told_of(&kept, &plain), [], "negative control");
    for (file, from, to, wanted) in table {
        let changed = Variant::new().replace(file, from, to);
        let found = told(&plain, &changed);
        assert!(!found.is_empty(), "{file}");
        assert_eq!(told_of(&kept, &changed), found, "{file}");
        if !wanted.is_empty() {
            let found: Vec<(&str, &str)> =
                found.iter().map(|(part, what, ..)| (*part, what.as_str())).collect();
            assert_eq!(found, wanted, "{file}");
        }
    }
    // Negative control.
    assert_eq!(told(&plain, &Variant::new().replace("bundle.toml", "name = ", "# why\nname = ")), []);
}

#[test]
fn what_comes_and_goes_is_told_with_its_text_and_effect() {
    let more = "@id(\"x\") @owner(\"o\") @title(\"t\") forbid (principal, action in [Action::\"Route\"], resource) when { context.hop > 99 };";
    let (plain, more) = (Variant::new(), Variant::new().write("policies/99-more.cedar", more));
    assert_eq!(told(&plain, &more), [("policy", "x".to_owned(), false, true)]);
    assert_eq!(told(&more, &plain), [("policy", "x".to_owned(), true, false)]);
    let found = diff(&plain.read().unwrap(), &more.read().unwrap()).unwrap();
    assert_eq!(found.changes[0].effect.as_deref(), Some("forbid"));
    assert!(found.changes[0].after.as_ref().unwrap().contains("context.hop > 99"), "{:?}", found.changes);
    let turned = Variant::new().replace("policies/40-limits.cedar", "context.hop > 8", "context.hop > 7");
    let found = diff(&plain.read().unwrap(), &turned.read().unwrap()).unwrap();
    let texts = found.changes[0].before.clone().unwrap() + &found.changes[0].after.clone().unwrap();
    assert!(texts.contains("context.hop > 8") && texts.contains("context.hop > 7"), "{texts}");
    assert_eq!(found.cases[0], found.cases[1]);
}

#[test]
fn an_item_that_comes_or_goes_is_one_change_however_much_it_says() {
    let link = "\n[[link]]\nid = \"more\"\ntemplate = \"tenant-local-only\"\nprincipal = 'Tenant::\"more\"'\nowner = \"o\"\n";
    let links = std::fs::read_to_string("bundles/default/links.toml").unwrap();
    let (plain, more) = (Variant::new(), Variant::new().write("links.toml", &(links + link)));
    assert_eq!(told(&plain, &more), [("link", "more".to_owned(), false, true)]);
    assert_eq!(told(&more, &plain), [("link", "more".to_owned(), true, false)]);
    let case = Variant::new().replace("cases/10-sensitivity.toml", "public question leaves", "it leaves");
    let found = told(&plain, &case);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(part, what, ..)| *part == super::CASE && what.starts_with("rows: ")));
}
