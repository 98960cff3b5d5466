//! Which replays the prose permits ("Replay"), and whether the judge does.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_policies::{Judge, ReplayRequest};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::ReplayTo;

use crate::door::name;

/// What decides about replays.
pub(crate) const POLICIES: [&str; 3] =
    ["replay-operators", "replay-original-operators", "replay-original-limit"];

/// A replay that somebody wants.
#[derive(Debug, Clone, Copy)]
struct Wish {
    operator: bool,
    original: bool,
    tenants: usize,
    cell: bool,
    records: u64,
}

impl Wish {
    fn is_permitted(self) -> bool {
        let something = self.tenants > 0 || self.cell;
        self.operator && something && (!self.original || (!self.cell && self.records <= 1_000))
    }
}

/// Wishes of which the judge says otherwise than the prose.
pub(crate) fn differences(judge: &Judge) -> Vec<String> {
    let told = json!({ "schema_version": 1, "tenants": {}, "operators": ["olga"] });
    let directory: Directory = serde_json::from_value(told).unwrap();
    let tool = ReplayTo::Tool { tenant: name("demo"), tool: name("desk") };
    let mut different = Vec::new();
    for target in [ReplayTo::Subject, tool, ReplayTo::Original] {
        for (operator, tenants, cell, records) in wishes() {
            let original = target == ReplayTo::Original;
            let wish = Wish { operator, original, tenants, cell, records };
            let names: BTreeSet<Name> = ["demo", "bank"].into_iter().take(tenants).map(name).collect();
            let who = name(if operator { "olga" } else { "o-lga" });
            let asked = ReplayRequest { operator: &who, target: &target, tenants: &names, cell, records };
            if judge.may_replay(&directory, &asked).allowed != wish.is_permitted() {
                different.push(format!("{wish:?}"));
            }
        }
    }
    different
}

fn wishes() -> impl Iterator<Item = (bool, usize, bool, u64)> {
    let records = [0, 1, 999, 1_000, 1_001, 900_000];
    let who = [(true, true), (true, false), (false, true), (false, false)];
    who.into_iter().flat_map(move |(operator, cell)| {
        let some = (0..3).flat_map(move |tenants| records.map(move |records| (tenants, records)));
        some.map(move |(tenants, records)| (operator, tenants, cell, records))
    })
}
