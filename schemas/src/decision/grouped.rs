//! Destinations that were looked at, on the wire: those of which the same came for the same reasons stand together, for
//! there may be many.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Considered, Considering};
use crate::ids::Name;

/// What came of looking at some destinations.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Considered")]
pub(super) struct Group<'a> {
    /// What came of it.
    verdict: Considering,
    /// Policies behind that, sorted.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    policies: std::borrow::Cow<'a, [String]>,
    /// Names of the destinations in the bundle, sorted.
    destinations: Vec<Name>,
}

pub(super) fn serialize<S: Serializer>(all: &[Considered], serializer: S) -> Result<S::Ok, S::Error> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for considered in all {
        let Considered { destination, verdict, policies } = considered;
        let same = |group: &&mut Group<'_>| group.verdict == *verdict && *group.policies == **policies;
        match groups.iter_mut().find(same) {
            Some(group) => group.destinations.push(destination.clone()),
            None => groups.push(Group {
                verdict: *verdict,
                policies: policies.into(),
                destinations: vec![destination.clone()],
            }),
        }
    }
    groups.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Considered>, D::Error> {
    let groups = Vec::<Group<'_>>::deserialize(deserializer)?;
    let mut all = BTreeMap::new();
    for Group { verdict, policies, destinations } in groups {
        for destination in destinations {
            let considered =
                Considered { destination: destination.clone(), verdict, policies: policies.to_vec() };
            if all.insert(destination, considered).is_some() {
                return Err(D::Error::custom("a destination stands twice"));
            }
        }
    }
    Ok(all.into_values().collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held(#[serde(with = "super")] Vec<Considered>);

    fn some() -> impl Strategy<Value = Vec<Considered>> {
        let verdict =
            prop_oneof![Just(Considering::Chosen), Just(Considering::Permitted), Just(Considering::Off)];
        let policies = prop::collection::vec(prop_oneof!["a", "b"].prop_map(String::from), 0..3);
        prop::collection::btree_map("[a-z]{1,3}", (verdict, policies), 0..9).prop_map(|all| {
            let one = |(name, (verdict, policies)): (String, _)| Considered {
                destination: Name::new(name).unwrap(),
                verdict,
                policies,
            };
            all.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_considered_survives_its_groups(all in some()) {
            let wire = serde_json::to_string(&Held(all.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Held>(&wire).unwrap(), Held(all));
        }
    }

    #[test]
    fn a_destination_that_stands_twice_is_refused() {
        let once = r#"[{"verdict":"off","destinations":["a"]},{"verdict":"chosen","destinations":["b"]}]"#;
        assert!(serde_json::from_str::<Held>(once).is_ok());
        assert!(serde_json::from_str::<Held>(&once.replace("\"b\"", "\"a\"")).is_err());
    }
}
