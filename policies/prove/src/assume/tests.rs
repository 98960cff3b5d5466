//! What proofs assume is what the judge does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, Request, Schema};
use serde_json::Value;
use tidegate_policies::{Bundle, CedarTest, Judge};

use super::{ROUTES, entities, is_place, of_any_place, of_task};
use crate::{ask, expression};

fn shipped(name: &str) -> Arc<Bundle> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundles").join(name);
    Arc::new(Bundle::from_dir(&dir).unwrap())
}

/// Whether the condition holds of a question that the judge asks.
fn holds(condition: &str, test: &CedarTest, context: Value, schema: &Schema) -> bool {
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let action = uid(&test.request.action);
    let policy = expression::permit("assumed", &action, &expression::parse(condition).unwrap()).unwrap();
    let context = Context::from_json_value(context, Some((schema, &action))).unwrap();
    let (principal, resource) = (uid(&test.request.principal), uid(&test.request.resource));
    let request = Request::new(principal, action, resource, context, None).unwrap();
    let known = Entities::from_json_value(test.entities.clone(), Some(schema)).unwrap();
    let response = Authorizer::new().is_authorized(&request, &ask::alone(policy).unwrap(), &known);
    assert_eq!(response.diagnostics().errors().count(), 0);
    response.decision() == Decision::Allow
}

#[test]
fn what_is_assumed_is_so() {
    let mut asked = 0;
    for name in ["default", "demo"] {
        let bundle = shipped(name);
        let schema = Schema::from_json_value(bundle.for_cedar().unwrap().schema).unwrap();
        let judge = Judge::new(Arc::clone(&bundle)).unwrap();
        let cases = bundle.cases();
        for case in &cases.rows {
            let (task, facts) = case.request(&cases.directory).unwrap();
            for test in judge.cedar_tests(&case.name, &task, &cases.directory, &facts).unwrap() {
                let action = test.request.action.parse::<EntityUid>().unwrap();
                let question = action.id().unescaped();
                assert!(ROUTES.contains(&question), "{question}");
                let context = test.request.context.clone();
                let assumed = format!("{} && {}", of_task(), of_any_place(question));
                assert!(holds(&assumed, &test, context.clone(), &schema), "{}", test.name);
                // A destination is what is said of it, and no other is.
                for spec in bundle.destinations().iter().filter(|_| asked % 25 == 0) {
                    let own = test.request.resource == format!("Destination::{:?}", spec.name.as_str());
                    let is = holds(&is_place(&bundle, spec, "resource"), &test, context.clone(), &schema);
                    assert_eq!(is, own, "{} as {}", test.name, spec.name);
                }
                // Negative control: what the judge never says does not hold.
                let mut impossible = context;
                impossible["tokens_in"] = (-1).into();
                assert!(!holds(&assumed, &test, impossible, &schema));
                asked += 1;
            }
        }
    }
    assert!(asked > 200, "{asked} questions");
}

#[test]
fn destinations_are_the_judges_own_entities() {
    let bundle = shipped("default");
    let judge = Judge::new(Arc::clone(&bundle)).unwrap();
    let (case, cases) = (bundle.cases().rows.first().unwrap(), bundle.cases());
    let (task, facts) = case.request(&cases.directory).unwrap();
    let tests = judge.cedar_tests("any", &task, &cases.directory, &facts).unwrap();
    let schema = Schema::from_json_value(bundle.for_cedar().unwrap().schema).unwrap();
    let judges = Entities::from_json_value(tests.first().unwrap().entities.clone(), Some(&schema)).unwrap();
    for spec in bundle.destinations() {
        let ours = Value::Array(entities(bundle.taxonomy(), spec));
        let known = Entities::from_json_value(ours, Some(&schema)).unwrap();
        for entity in known.clone() {
            if entity.uid().type_name().to_string() == "Action" {
                continue;
            }
            let own = judges.get(&entity.uid()).unwrap();
            assert_eq!(own.to_json_value().unwrap()["attrs"], entity.to_json_value().unwrap()["attrs"]);
            let uid = entity.uid();
            assert_eq!(above(&judges, &uid), above(&known, &uid), "{uid}");
        }
    }
}

/// What an entity is in.
fn above(all: &Entities, uid: &EntityUid) -> BTreeSet<String> {
    all.ancestors(uid).into_iter().flatten().map(ToString::to_string).collect()
}
