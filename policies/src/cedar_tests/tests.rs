//! Cases that were written are read and asked as `cedar run-tests` does it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use serde_json::{Value, json};

use super::{Asked, CedarBundle, CedarDecision, CedarTest};
use crate::bundle::Bundle;
use crate::bundle::tests::Variant;
use crate::cases;
use crate::judge::Judge;

fn judge() -> Judge {
    Judge::new(Arc::new(Variant::new().read().unwrap())).unwrap()
}

fn differences(schema: &Schema, policies: &PolicySet, test: &CedarTest) -> Vec<String> {
    Asked::new(test, schema).run(policies).differences
}

#[test]
fn cedar_tests_are_read_and_passed_as_by_the_command_line() {
    let judge = judge();
    let bundle = judge.bundle();
    let CedarBundle { schema, policies } = bundle.for_cedar().unwrap();
    let schema = Schema::from_json_value(schema).unwrap();
    let policies = PolicySet::from_json_value(policies).unwrap();
    let found = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    assert!(found.validation_passed_without_warnings(), "the command line refuses a set with warnings");
    let (mut allowed, mut denied) = (0, 0);
    for case in &bundle.cases().rows {
        let (task, facts) = case.request(&bundle.cases().directory).unwrap();
        let tests = judge.cedar_tests(&case.name, &task, &bundle.cases().directory, &facts).unwrap();
        for test in tests {
            let other = match test.decision {
                CedarDecision::Allow => CedarDecision::Deny,
                CedarDecision::Deny => CedarDecision::Allow,
            };
            *(if other == CedarDecision::Deny { &mut allowed } else { &mut denied }) += 1;
            // As it is written and read.
            let text = serde_json::to_value(&test).unwrap();
            let keys: Vec<&String> = text.as_object().unwrap().keys().collect();
            assert_eq!(keys.len(), 6, "{keys:?}");
            let again: CedarTest = serde_json::from_value(text).unwrap();
            assert_eq!(again, test);
            assert_eq!(differences(&schema, &policies, &again), Vec::<String>::new());
            // Negative control: the other decision does not pass.
            let other = CedarTest { decision: other, ..test };
            assert_eq!(differences(&schema, &policies, &other).len(), 1);
        }
    }
    assert!(allowed > 20 && denied > 20, "{allowed} allowed, {denied} denied");
}

/// One case of the default bundle, written by the judge.
fn written() -> Value {
    let judge = judge();
    let cases = judge.bundle().cases().clone();
    let case = cases.rows.iter().find(|case| case.name == "public question leaves").unwrap();
    let (task, facts) = case.request(&cases.directory).unwrap();
    let tests = judge.cedar_tests("one", &task, &cases.directory, &facts).unwrap();
    serde_json::to_value(&tests[..1]).unwrap()
}

#[test]
fn a_bundles_cases_may_be_cedars_own_and_name_their_entities() {
    let plain = written();
    let mut named = plain.clone();
    let entities = named[0]["entities"].take();
    named[0]["entities"] = json!("who.json");
    let with = |tests: &Value, who: &Value| {
        let copy = Variant::new().write("cases/90-own.json", &tests.to_string());
        copy.write("cases/who.json", &who.to_string()).read()
    };
    let bundle = with(&named, &entities).unwrap();
    let same = Variant::new().write("cases/90-own.json", &plain.to_string()).read().unwrap();
    assert_eq!(bundle.hash(), same.hash(), "a file of entities stands for what it holds");
    assert_ne!(bundle.hash(), Variant::new().read().unwrap().hash(), "they are part of the bundle");
    let again = Bundle::from_archive(bundle.archive()).unwrap();
    let ran = cases::run(&Judge::new(Arc::new(again)).unwrap());
    let own = ran.iter().find(|ran| ran.name.starts_with("one: ")).unwrap();
    assert!(own.differences.is_empty() && !own.policies.is_empty(), "{own:?}");
    // Negative controls: what must fail does, each in its way.
    let changes: [(&str, Value, &str); 6] = [
        ("/0/decision", json!("deny"), "decision: expected deny"),
        ("/0/reason", json!(["cost-limit"]), "`cost-limit` does not determine it"),
        ("/0/num_errors", json!(1), "errors: expected 1, got 0"),
        ("/0/request/principal", json!("nobody"), "cannot be asked"),
        ("/0/request/context/hop", json!("many"), "cannot be asked"),
        ("/0/entities/0/uid/type", json!("Martian"), "cannot be asked"),
    ];
    for (at, value, wanted) in changes {
        let mut tests = plain.clone();
        *tests.pointer_mut(at).unwrap() = value;
        let bundle = Variant::new().write("cases/90-own.json", &tests.to_string()).read().unwrap();
        let ran = cases::run(&Judge::new(Arc::new(bundle)).unwrap());
        let own = ran.iter().find(|ran| ran.name.starts_with("one: ")).unwrap();
        assert!(own.differences.iter().any(|why| why.contains(wanted)), "{at}: {own:?}");
    }
}

#[test]
fn lists_that_are_none_are_refused() {
    let plain = written();
    let mut missing = plain.clone();
    missing[0]["entities"] = json!("../who.json");
    let mut more = plain;
    more[0]["mood"] = json!(1);
    let table = [
        ("[\n{,", "`90-own.json` line 2: "),
        ("{}", "must be a list"),
        (&missing.to_string(), "`../who.json` for its entities, which is not beside it"),
        (&more.to_string(), "case 1: unknown field `mood`"),
    ];
    for (text, wanted) in table {
        let error = Variant::new().write("cases/90-own.json", text).read().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
