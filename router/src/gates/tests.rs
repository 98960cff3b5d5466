#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tidegate_schemas::budget::Amounts;

use super::*;

fn at(text: &str) -> Timestamp {
    format!("2026-11-23T{text}Z").parse().unwrap()
}

fn scope(value: serde_json::Value) -> Scope {
    serde_json::from_value(value).unwrap()
}

#[test]
fn budget_that_is_spent_is_told_of_whom_it_is_and_until_its_window_ends() {
    let name = |text: &str| Name::new(text).unwrap();
    let of = [
        scope(json!({ "scope": "tenant", "tenant": "acme" })),
        scope(json!({ "scope": "agent", "tenant": "acme", "agent": "helpdesk" })),
        scope(json!({ "scope": "provider", "provider": "openai" })),
        scope(json!({ "scope": "tenant", "tenant": "globex" })),
    ];
    let caps = serde_json::from_value(json!({ "minute": { "requests": 1 } })).unwrap();
    let budgets: Vec<Budget> =
        of.iter().map(|of| Budget { of: of.clone(), caps: Clone::clone(&caps) }).collect();
    let mut ledgers = BTreeMap::new();
    for of in &of {
        let mut ledger = Ledger::new(of.clone());
        ledger.reserve(&caps, "t/1", 1, Amounts { requests: 1, ..Amounts::default() }, at("12:00:00"));
        ledgers.insert(of.key(), ledger);
    }
    let gates = Gates { spent: spent(&budgets, &ledgers, at("12:00:01")), broken: Vec::new() };
    let whose = |tenant: &str, agent: &str, now: &str| {
        let told = gates.spent_of((&name(tenant), &name(agent)), Vec::new(), at(now));
        told.iter().map(|spent| spent.of.key()).collect::<Vec<_>>()
    };
    assert_eq!(
        whose("acme", "helpdesk", "12:00:02"),
        ["tenant.acme", "agent.acme.helpdesk", "provider.openai"]
    );
    assert_eq!(whose("acme", "billing", "12:00:02"), ["tenant.acme", "provider.openai"]);
    assert_eq!(whose("globex", "helpdesk", "12:00:59"), ["tenant.globex", "provider.openai"]);
    assert_eq!(whose("acme", "helpdesk", "12:01:00"), [""; 0], "the window has ended");
    // What the task itself was told counts once, and longer than it is known otherwise.
    let told = vec![gates.spent[0].clone()];
    let who = (&name("acme"), &name("billing"));
    assert_eq!(Gates::OPEN.spent_of(who, told.clone(), at("12:00:02")), told);
    assert_eq!(gates.spent_of(who, told, at("12:00:02")).len(), 2);
    assert_eq!(spent(&budgets, &BTreeMap::new(), at("12:00:01")), [], "nothing was used");
}
