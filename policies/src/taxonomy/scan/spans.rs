//! What is left of findings once their values are replaced.

use std::collections::BTreeMap;

use tidegate_schemas::ids::Name;

use super::{Findings, Scanner};

impl Scanner {
    /// What of these findings is left once all that can be replaced is, what a model found among it; none where nothing can.
    pub(crate) fn left_of(
        &self,
        found: &BTreeMap<Name, u32>,
        by_model: &BTreeMap<Name, u32>,
    ) -> Option<Findings> {
        let rule_of = |name: &Name| self.rules.iter().find(|rule| rule.name == *name);
        let is_value = |name: &Name| match rule_of(name) {
            Some(rule) => rule.is_value,
            None => by_model.contains_key(name),
        };
        found.keys().any(is_value).then(|| {
            let counts: BTreeMap<Name, u32> =
                found.iter().filter(|(name, _)| !is_value(name)).map(|(n, c)| (n.clone(), *c)).collect();
            let categories = counts.keys().filter_map(|name| Some(rule_of(name)?.category.clone())).collect();
            Findings { counts, categories, ..Findings::default() }
        })
    }
}
