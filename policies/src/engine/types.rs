//! The names of Cedar's entities, parsed once, and the destinations as entities.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use crate::bundle::BundleError;
use crate::destination::DestinationSpec;
use crate::taxonomy::{Taxonomy, UNKNOWN};

/// The entity types, and the values of closed vocabularies, ready to be used.
#[derive(Clone)]
pub(crate) struct Types {
    pub(super) tenant: EntityTypeName,
    pub(super) team: EntityTypeName,
    pub(super) role: EntityTypeName,
    pub(super) agent: EntityTypeName,
    pub(super) region: EntityTypeName,
    regions: HashSet<EntityUid>,
    pool: EntityTypeName,
    provider: EntityTypeName,
    destination: EntityTypeName,
    pub(super) words: Words,
}

/// Values of enumerations by type and word.
#[derive(Clone)]
pub(crate) struct Words {
    types: HashMap<&'static str, EntityTypeName>,
    known: HashMap<(&'static str, String), RestrictedExpression>,
}

/// A destination as an entity.
#[derive(Clone)]
pub(crate) struct Place {
    pub(super) uid: EntityUid,
    /// It and everything it is in.
    within: HashSet<EntityUid>,
    pub(super) entity: Entity,
    /// Entities that it is in.
    pub(super) groups: Vec<Entity>,
    pub(super) as_value: RestrictedExpression,
    pub(super) name: Name,
}

pub(super) fn type_name(name: &str) -> Result<EntityTypeName, BundleError> {
    EntityTypeName::from_str(name)
        .map_err(|error| BundleError::Content(format!("entity type `{name}`: {error}")))
}

pub(super) fn uid(name: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

const ENUMERATIONS: [&str; 12] = [
    "Lane",
    "Kind",
    "Class",
    "Sensitivity",
    "Stakes",
    "Scan",
    "Category",
    "Regulation",
    "Consent",
    "Purpose",
    "Certification",
    "Flag",
];

/// Vocabularies of tasks whose words are the judge's own; those of the taxonomy are written by it.
pub(crate) const WORDS: [(&str, &[&str]); 6] = [
    ("Lane", &["local", "cloud"]),
    ("Kind", &["chat", "extract", "classify", "embed"]),
    ("Class", &["interactive", "batch"]),
    ("Sensitivity", &["public", "internal", "confidential", "restricted"]),
    ("Stakes", &["low", "medium", "high"]),
    ("Scan", &["none", "recognisers", "model"]),
];

// === impl Words ===

impl Words {
    fn new(taxonomy: &Taxonomy) -> Result<Self, BundleError> {
        let mut types = HashMap::new();
        for name in ENUMERATIONS {
            types.insert(name, type_name(name)?);
        }
        let mut words = Self { types, known: HashMap::new() };
        for (kind, names) in WORDS {
            names.iter().for_each(|name| words.learn(kind, name));
        }
        let lists: [(&'static str, Vec<&Name>); 5] = [
            ("Category", taxonomy.categories.keys().collect()),
            ("Regulation", taxonomy.regulations.iter().collect()),
            ("Consent", taxonomy.consents.iter().collect()),
            ("Purpose", taxonomy.purposes.iter().collect()),
            ("Certification", taxonomy.certifications.iter().collect()),
        ];
        for (kind, names) in lists {
            names.iter().for_each(|name| words.learn(kind, name.as_str()));
            words.learn(kind, UNKNOWN);
        }
        words.learn("Purpose", "none");
        taxonomy.flags.keys().for_each(|name| words.learn("Flag", name.as_str()));
        Ok(words)
    }

    fn learn(&mut self, kind: &'static str, word: &str) {
        if let Some(name) = self.types.get(kind) {
            let value = RestrictedExpression::new_entity_uid(uid(name, word));
            self.known.insert((kind, word.to_owned()), value);
        }
    }

    /// The value of a word; what the vocabulary does not have is `unknown`.
    pub(super) fn value(&self, kind: &'static str, word: &str) -> Option<RestrictedExpression> {
        let found = self.known.get(&(kind, word.to_owned()));
        found.or_else(|| self.known.get(&(kind, UNKNOWN.to_owned()))).cloned()
    }

    /// The set of values of some words.
    pub(super) fn values(&self, kind: &'static str, words: &BTreeSet<Name>) -> RestrictedExpression {
        RestrictedExpression::new_set(words.iter().filter_map(|word| self.value(kind, word.as_str())))
    }
}

// === impl Types ===

impl Types {
    pub(super) fn new(taxonomy: &Taxonomy) -> Result<Self, BundleError> {
        let region = type_name("Region")?;
        Ok(Self {
            regions: taxonomy.regions.keys().map(|name| uid(&region, name.as_str())).collect(),
            region,
            tenant: type_name("Tenant")?,
            team: type_name("Team")?,
            role: type_name("Role")?,
            agent: type_name("Agent")?,
            pool: type_name("Pool")?,
            provider: type_name("Provider")?,
            destination: type_name("Destination")?,
            words: Words::new(taxonomy)?,
        })
    }

    /// Whether this names a region, pool, provider or destination that the bundle does not have.
    pub(super) fn missing(&self, uid: &EntityUid, places: &[Place]) -> bool {
        let of = uid.type_name();
        let placed = [&self.pool, &self.provider, &self.destination].contains(&of);
        (*of == self.region && !self.regions.contains(uid))
            || (placed && !places.iter().any(|place| place.knows(uid)))
    }

    /// A set of regions.
    pub(super) fn regions<'a>(&self, names: impl IntoIterator<Item = &'a Name>) -> RestrictedExpression {
        let value = |name: &Name| RestrictedExpression::new_entity_uid(uid(&self.region, name.as_str()));
        RestrictedExpression::new_set(names.into_iter().map(value))
    }

    /// Every destination as an entity.
    pub(super) fn places(
        &self,
        taxonomy: &Taxonomy,
        specs: &[DestinationSpec],
    ) -> Result<Vec<Place>, BundleError> {
        specs.iter().map(|spec| self.place(taxonomy, spec)).collect()
    }

    fn place(&self, taxonomy: &Taxonomy, spec: &DestinationSpec) -> Result<Place, BundleError> {
        let own = uid(&self.destination, spec.name.as_str());
        let target = match spec.lane {
            Lane::Local => uid(&self.pool, spec.target.as_str()),
            Lane::Cloud => uid(&self.provider, spec.target.as_str()),
        };
        let regions = taxonomy.within(&spec.region);
        let mut parents: HashSet<EntityUid> =
            regions.iter().map(|name| uid(&self.region, name.as_str())).collect();
        parents.insert(target);
        let groups =
            parents.iter().map(|parent| Entity::new_no_attrs(parent.clone(), HashSet::new())).collect();
        let attributes = self.attributes(spec, &regions);
        let entity = Entity::new(own.clone(), attributes, parents.clone())
            .map_err(|error| BundleError::Content(format!("destination `{}`: {error}", spec.name)))?;
        Ok(Place {
            within: parents.into_iter().chain([own.clone()]).collect(),
            as_value: RestrictedExpression::new_entity_uid(own.clone()),
            uid: own,
            entity,
            groups,
            name: spec.name.clone(),
        })
    }

    fn attributes(
        &self,
        spec: &DestinationSpec,
        regions: &BTreeSet<Name>,
    ) -> HashMap<String, RestrictedExpression> {
        let mut attributes = HashMap::from([
            ("target", RestrictedExpression::new_string(spec.target.to_string())),
            ("model", RestrictedExpression::new_string(spec.model.clone())),
            ("regions", self.regions(regions)),
            ("certifications", self.words.values("Certification", &spec.certifications)),
            ("zero_retention", RestrictedExpression::new_bool(spec.zero_retention)),
            ("trains_on_data", RestrictedExpression::new_bool(spec.trains_on_data)),
            ("context_tokens", long(spec.context_tokens)),
            ("price_in", long(spec.price_in)),
            ("price_out", long(spec.price_out)),
            ("latency_ms", long(spec.latency_ms)),
        ]);
        attributes.extend(self.words.value("Lane", spec.lane.as_str()).map(|lane| ("lane", lane)));
        attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

// === impl Place ===

impl Place {
    /// Whether this is the destination, or something that it is in.
    pub(super) fn knows(&self, uid: &EntityUid) -> bool {
        self.within.contains(uid)
    }
}

/// A count as Cedar holds it. Counts are far below 2⁶³ by their limits; a larger one counts as the largest.
pub(super) fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}
