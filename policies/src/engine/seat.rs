//! A principal's seat: its entities and its slices of the policies, built once and used for all of its tasks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cedar_policy::{Context, Entities, Entity, EntityUid, PolicySet, RestrictedExpression};
use tidegate_schemas::directory::Agent;
use tidegate_schemas::ids::Name;

use super::residual::{self, Residuals};
use super::types::{Types, uid};
use super::{Engine, Question};

/// Who asks, as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) tenant: String,
    pub(crate) agent: String,
    pub(crate) team: Option<Name>,
    pub(crate) roles: BTreeSet<Name>,
}

/// What is prepared for a principal.
pub(crate) struct Seat {
    pub(super) uid: EntityUid,
    pub(super) entities: Entities,
    slices: Vec<[PolicySet; 3]>,
    redaction: Vec<PolicySet>,
    principal: Principal,
    residuals: OnceLock<Option<Residuals>>,
    asked: AtomicU32,
}

/// Decisions after which residuals are worth their making, which costs as much as some tens of decisions.
const WARM: u32 = 8;

// === impl Principal ===

impl Principal {
    pub(crate) fn new(tenant: &Name, name: &Name, agent: &Agent) -> Self {
        Self {
            tenant: tenant.to_string(),
            agent: name.to_string(),
            team: agent.team.clone(),
            roles: agent.roles.clone(),
        }
    }

    /// Somebody, for trying the schema.
    pub(super) fn rehearsal() -> Self {
        let name = |text: &str| Name::new(text).ok();
        Self {
            tenant: "tenant".to_owned(),
            agent: "agent".to_owned(),
            team: name("team"),
            roles: name("role").into_iter().collect(),
        }
    }

    /// Itself and what it is in, as entities. Agents and teams are named with their tenant, so that two tenants' agents of
    /// one name never meet.
    pub(super) fn entities(
        &self,
        types: &Types,
    ) -> Result<(EntityUid, HashSet<EntityUid>, Vec<Entity>), String> {
        let tenant = uid(&types.tenant, &self.tenant);
        let team = self.team.as_ref().map(|team| uid(&types.team, format!("{}/{team}", self.tenant)));
        let roles: Vec<EntityUid> = self.roles.iter().map(|role| uid(&types.role, role.as_str())).collect();
        let own = uid(&types.agent, format!("{}/{}", self.tenant, self.agent));
        let parents: HashSet<EntityUid> =
            roles.iter().cloned().chain(team.clone()).chain([tenant.clone()]).collect();
        let attributes =
            HashMap::from([("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant.clone()))]);
        let agent =
            Entity::new(own.clone(), attributes, parents.clone()).map_err(|error| error.to_string())?;
        let groups = roles.into_iter().map(|role| Entity::new_no_attrs(role, HashSet::new()));
        let team = team.map(|team| Entity::new_no_attrs(team, HashSet::from([tenant.clone()])));
        let entities =
            groups.chain(team).chain([Entity::new_no_attrs(tenant, HashSet::new()), agent]).collect();
        Ok((own.clone(), parents.into_iter().chain([own]).collect(), entities))
    }
}

// === impl Seat ===

impl Seat {
    pub(crate) fn new(engine: &Engine, principal: Principal) -> Result<Self, String> {
        let (own, ancestors, mut entities) = principal.entities(&engine.types)?;
        let mut seen = HashSet::new();
        for place in &engine.places {
            entities.push(place.entity.clone());
            entities.extend(place.groups.iter().filter(|group| seen.insert(group.uid())).cloned());
        }
        let entities =
            Entities::from_entities(entities, Some(&engine.schema)).map_err(|error| error.to_string())?;
        let mut slices = Vec::with_capacity(engine.places.len());
        for place in &engine.places {
            let [local, cloud, review] =
                Question::ALL.map(|question| engine.slice(&ancestors, question, place));
            slices.push([local?, cloud?, review?]);
        }
        let redaction = engine.redaction_slices(&ancestors)?;
        let (residuals, asked) = (OnceLock::new(), AtomicU32::new(0));
        Ok(Self { uid: own, entities, slices, redaction, principal, residuals, asked })
    }

    /// The principal, and all that its tasks can meet, as Cedar writes them.
    pub(crate) fn written(&self) -> Result<serde_json::Value, String> {
        self.entities.to_json_value().map_err(|error| error.to_string())
    }

    /// Whether it was built for exactly this principal, teams and roles included.
    pub(crate) fn is_of(&self, principal: &Principal) -> bool {
        self.principal == *principal
    }

    /// What is left of its policies. None while it is new, or where they cannot be folded.
    pub(super) fn residuals(&self, engine: &Engine) -> Option<&Residuals> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < WARM {
            return None;
        }
        self.residuals.get_or_init(|| self.fold(engine)).as_ref()
    }

    fn fold(&self, engine: &Engine) -> Option<Residuals> {
        let context = Context::empty();
        let pair = |place: usize| {
            let of = |question| {
                Some((engine.request(self, question, place, &context)?, self.slice(question, place)?))
            };
            residual::questions(of)
        };
        let pairs: Vec<_> = (0..self.slices.len()).map(pair).collect::<Option<_>>()?;
        Residuals::new(&engine.authorizer, &self.entities, pairs.into_iter())
    }

    /// The policies on replacing what was found, so that the rest leaves for there.
    pub(super) fn redaction_slice(&self, place: usize) -> Option<&PolicySet> {
        self.redaction.get(place)
    }

    pub(crate) fn slice(&self, question: Question, place: usize) -> Option<&PolicySet> {
        self.slices.get(place).map(|slices| &slices[question as usize])
    }
}
