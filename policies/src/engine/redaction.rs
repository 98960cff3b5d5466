//! Asking whether what was found in a task may be replaced, so that the rest can leave. Asked only of tasks that may not leave as
//! they are, of a slice of the policies, without residuals.

use std::collections::HashSet;

use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Schema};

use super::types::type_name;
use super::{Answer, Engine, Seat};
use crate::bundle::BundleError;

/// The action.
const ACTION: &str = "RedactThenCloud";

/// The action and its groups, where the schema knows it.
pub(super) fn action(schema: &Schema) -> Result<Option<(EntityUid, HashSet<EntityUid>)>, BundleError> {
    let failed = |error: &dyn std::fmt::Display| BundleError::Content(error.to_string());
    let known = schema.action_entities().map_err(|error| failed(&error))?;
    let name: EntityTypeName = type_name("Action")?;
    let uid = EntityUid::from_type_name_and_id(name, EntityId::new(ACTION));
    let within = known.ancestors(&uid).map(|ancestors| ancestors.cloned().chain([uid.clone()]).collect());
    Ok(within.map(|within| (uid, within)))
}

impl Engine {
    /// Whether the bundle's schema knows redaction.
    pub(crate) fn knows_redaction(&self) -> bool {
        self.redaction.is_some()
    }

    /// The policies that can apply for each destination, in order.
    pub(super) fn redaction_slices(&self, ancestors: &HashSet<EntityUid>) -> Result<Vec<PolicySet>, String> {
        let Some((_, actions)) = &self.redaction else { return Ok(Vec::new()) };
        self.places.iter().map(|place| self.slice_of(ancestors, actions, place)).collect()
    }

    /// Whether what was found may be replaced, so that the rest leaves for there.
    pub(crate) fn ask_redaction(&self, seat: &Seat, place: usize, context: &Context) -> Answer {
        match seat.redaction_slice(place) {
            Some(set) => self.ask_redaction_of(seat, place, context, set),
            None => Answer { errored: true, ..Answer::default() },
        }
    }

    /// The same of a set of policies.
    pub(crate) fn ask_redaction_of(
        &self,
        seat: &Seat,
        place: usize,
        context: &Context,
        set: &PolicySet,
    ) -> Answer {
        let failed = || Answer { errored: true, ..Answer::default() };
        let asked = self.redaction.as_ref().zip(self.places.get(place));
        let Some(((action, _), target)) = asked else { return failed() };
        let request = Request::new(
            seat.uid.clone(),
            action.clone(),
            target.uid.clone(),
            context.clone(),
            Some(&self.schema),
        );
        request.map_or_else(
            |_| failed(),
            |request| Answer::of(&self.authorizer.is_authorized(&request, set, &seat.entities)),
        )
    }
}
