//! What keeps work from providers: budgets without room, and places that keep failing.

use tidegate_bus::Bus;
use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::{Scope, Spent};

use super::Finding;
use crate::command::budget;
use crate::output;

/// A finding a budget that is spent and a breaker that is open; one of each where there is none.
pub(super) async fn look(bus: &Bus) -> Vec<Finding> {
    match budget::kept(bus).await {
        Ok(kept) => findings(&kept),
        Err(error) => vec![Finding::bad(
            "budgets",
            output::sentence(&error),
            "run `tidegate provision`: what cannot be counted lets nothing leave",
        )],
    }
}

fn findings(kept: &budget::Kept) -> Vec<Finding> {
    let mut all: Vec<Finding> = kept.spent.iter().map(spent).chain(kept.unread.iter().map(unread)).collect();
    if all.is_empty() {
        all.push(Finding::ok("budgets", "each leaves room"));
    }
    if kept.broken.is_empty() {
        all.push(Finding::ok("breakers", "none is open"));
    }
    all.extend(kept.broken.iter().map(broken));
    all
}

/// A scope as the commands of budgets take it.
fn whose(scope: &Scope) -> String {
    match scope {
        Scope::Tenant { tenant } => format!("--tenant {tenant}"),
        Scope::Agent { tenant, agent } => format!("--tenant {tenant} --agent {agent}"),
        Scope::Provider { provider } => format!("--provider {provider}"),
    }
}

fn unread(of: &Scope) -> Finding {
    let whose = whose(of);
    Finding::bad(
        "budgets",
        format!("the ledger of {whose} cannot be read, so nothing that it counts leaves"),
        format!("have it count anew: `tidegate budget reset {whose} --reason '…'`"),
    )
}

fn spent(spent: &Spent) -> Finding {
    let whose = whose(&spent.of);
    let window = spent.window.as_str();
    Finding::look(
        "budgets",
        format!("no room: {spent}; its work runs locally or ends as `budget_spent`"),
        format!(
            "wait for {}, or allow more: `tidegate budget set {whose} --window {window} --reason '…'` with every limit of the window",
            spent.until
        ),
    )
}

fn broken(broken: &Broken) -> Finding {
    let Broken { place, until } = broken;
    Finding::look(
        "breakers",
        format!("open: {}", budget::place(broken)),
        format!(
            "one attempt tries it after {until}; look at {} and at the cloud workers' logs; to keep work from it meanwhile: `tidegate lane off --target {} --reason '…'`",
            place.provider, place.provider
        ),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_spent_budget_and_an_open_breaker_are_told_with_what_to_do() {
        let until = "2026-11-23T13:00:00Z";
        let of = json!({ "scope": "agent", "tenant": "acme", "agent": "bot" });
        let spent = json!({ "of": of, "window": "day", "unit": "usd_micros", "until": until });
        let place = json!({ "provider": "openai", "endpoint": "openai-eu", "model": "m" });
        let kept = budget::Kept {
            spent: vec![serde_json::from_value(spent).unwrap()],
            broken: vec![serde_json::from_value(json!({ "place": place, "until": until })).unwrap()],
            unread: Vec::new(),
        };
        let all = findings(&kept);
        let told = |what: &str| all.iter().find(|finding| finding.what == what).unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(told("budgets").found.contains("no room"));
        let todo = told("budgets").todo.clone().unwrap();
        assert!(
            todo.contains("budget set --tenant acme --agent bot --window day") && todo.contains(until),
            "{todo}"
        );
        assert!(told("breakers").found.contains("m at openai"));
        assert!(told("breakers").todo.clone().unwrap().contains(until));
        let tenant = serde_json::from_value(json!({ "scope": "tenant", "tenant": "acme" })).unwrap();
        let damaged = findings(&budget::Kept { unread: vec![tenant], ..budget::Kept::default() });
        assert!(!damaged[0].ok && damaged[0].todo.clone().unwrap().contains("budget reset --tenant acme"));
        // Negative control: where nothing keeps work, there is nothing to look at.
        let none = findings(&budget::Kept::default());
        assert!(
            none.len() == 2 && none.iter().all(|finding| finding.ok && finding.todo.is_none()),
            "{none:?}"
        );
    }
}
