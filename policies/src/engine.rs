//! Cedar, prepared: the only module that evaluates policies.
//!
//! Evaluation costs time for every policy, also for those whose scope cannot match. So each principal gets, once, one small
//! policy set for every action at every destination, holding only what can apply there; the decision is the same as by the
//! whole set. A policy that fails to evaluate is skipped by Cedar, a `forbid` too; here any error denies the pair.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, EntityId, EntityTypeName, EntityUid, EvalResult, Policy, PolicyId,
    PolicySet, PrincipalConstraint, Request, ResourceConstraint, RestrictedExpression, Schema, SlotId,
    Template,
};
use serde_json::Value;

use crate::bundle::{BundleError, Fault, Link, Parts};
use crate::destination::DestinationSpec;

use residual::Said;

pub(crate) use context::Circumstances;
pub(crate) use fold::{condition, conjuncts, permit};
pub(crate) use seat::{Principal, Seat};
pub(crate) use types::WORDS;
pub(crate) use validate::LEVEL_MAX;

mod context;
mod fold;
mod redaction;
mod replay;
mod residual;
mod review;
mod seat;
mod types;
mod validate;

/// What is asked about a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// May the task run there, on the local lane?
    RouteLocal,
    /// May the task leave for there?
    RouteCloud,
    /// May it run there without a person's agreement?
    SkipReview,
}

impl Question {
    pub(crate) const ALL: [Self; 3] = [Self::RouteLocal, Self::RouteCloud, Self::SkipReview];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RouteLocal => "RouteLocal",
            Self::RouteCloud => "RouteCloud",
            Self::SkipReview => "SkipReview",
        }
    }
}

/// What the policies answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether it is permitted. False whenever a policy failed.
    pub(crate) allowed: bool,
    /// Whether a policy failed to evaluate.
    pub(crate) errored: bool,
    /// Ids of the policies that determined it, or that failed, sorted.
    pub(crate) policies: Vec<String>,
}

/// A question as Cedar takes it, and Cedar's own answer: not yet the judge's, which denies where a policy failed.
pub(crate) struct Spoken {
    pub(crate) principal: String,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) allowed: bool,
    /// Ids of the policies that determined it, sorted.
    pub(crate) reason: Vec<String>,
    /// Policies that failed, count.
    pub(crate) errors: usize,
}

/// What is answered about one task.
pub(crate) enum Answers {
    /// Everything, already.
    Known(Arc<residual::Answers>),
    /// Nothing yet: each is asked of its slice, in this context.
    Asked(Context),
}

/// A bundle's policies, schema and destinations as Cedar holds them.
pub(crate) struct Engine {
    schema: Schema,
    types: types::Types,
    actions: [(EntityUid, HashSet<EntityUid>); 3],
    /// Leaving without what was found; a bundle from before there was redaction does not know it.
    redaction: Option<(EntityUid, HashSet<EntityUid>)>,
    policies: Vec<Policy>,
    templates: BTreeMap<String, Template>,
    links: Vec<Linked>,
    /// Positions in `policies` that may apply to any principal.
    everyone: Vec<usize>,
    /// Positions in `policies` and in `links` by the principal, or group, that their scope names.
    by_principal: HashMap<EntityUid, (Vec<usize>, Vec<usize>)>,
    /// Links whose scope names no principal.
    links_everyone: Vec<usize>,
    /// One question for each form of context in the schema; mostly all actions share one.
    contexts: Vec<Question>,
    places: Vec<types::Place>,
    /// What a context holds.
    form: context::Form,
    /// A time for contexts of which nobody looks at the time.
    any_time: RestrictedExpression,
    authorizer: Authorizer,
}

#[derive(Clone)]
struct Linked {
    id: PolicyId,
    template: PolicyId,
    values: HashMap<SlotId, EntityUid>,
}

// === impl Answer ===

impl Answer {
    /// Reads a response: any failure is a denial.
    fn of(response: &cedar_policy::Response) -> Self {
        let diagnostics = response.diagnostics();
        let mut policies: Vec<String> = diagnostics
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            })
            .collect();
        let errored = !policies.is_empty();
        if !errored {
            policies.extend(diagnostics.reason().map(ToString::to_string));
        }
        policies.sort_unstable();
        policies.dedup();
        let allowed = !errored && response.decision() == cedar_policy::Decision::Allow;
        Self { allowed, errored, policies }
    }
}

// === impl Engine ===

impl Engine {
    pub(crate) fn new(parts: &Parts) -> Result<Self, BundleError> {
        let schema = Schema::from_json_value(parts.schema.clone())
            .map_err(|error| in_file("schema.cedarschema", &error))?;
        let types = types::Types::new(&parts.taxonomy)?;
        let mut policies = Vec::with_capacity(parts.policies.len());
        for (id, json) in &parts.policies {
            let policy = Policy::from_json(Some(PolicyId::new(id)), json.clone())
                .map_err(|error| BundleError::policy(id, format!("policy `{id}`: {error}")))?;
            policies.push(policy);
        }
        let mut templates = BTreeMap::new();
        for (id, json) in &parts.templates {
            let template = Template::from_json(Some(PolicyId::new(id)), json.clone())
                .map_err(|error| BundleError::policy(id, format!("template `{id}`: {error}")))?;
            templates.insert(id.clone(), template);
        }
        let links = parts.links.iter().map(Linked::new).collect::<Result<Vec<_>, _>>()?;
        let places = types.places(&parts.taxonomy, &parts.destinations)?;
        let mut engine = Self {
            actions: actions(&schema)?,
            redaction: redaction::action(&schema)?,
            schema,
            types,
            policies,
            templates,
            links,
            everyone: Vec::new(),
            by_principal: HashMap::new(),
            links_everyone: Vec::new(),
            contexts: contexts(&parts.schema),
            places,
            form: context::Form { format: parts.format, flags: true },
            any_time: Circumstances::rehearsal().time(),
            authorizer: Authorizer::new(),
        };
        engine.form.flags = engine.context(&Circumstances::rehearsal()).is_ok();
        engine.index();
        Ok(engine)
    }

    /// Who asks, or where, or for what, by the name of the variable.
    pub(crate) fn named(&self, seat: &Seat, place: usize, var: &str) -> Option<EntityUid> {
        match var {
            "principal" => Some(seat.uid.clone()),
            "resource" => Some(self.places.get(place)?.uid.clone()),
            _ => None,
        }
    }

    /// An attribute of who asks, or of where.
    pub(crate) fn attribute(&self, seat: &Seat, place: usize, var: &str, name: &str) -> Option<EvalResult> {
        seat.entities.get(&self.named(seat, place, var)?)?.attr(name)?.ok()
    }

    /// Whether policies of this schema can look at feature flags.
    pub(crate) fn knows_flags(&self) -> bool {
        self.form.flags
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The same without one policy or link.
    pub(crate) fn without(&self, id: &str) -> Self {
        let other = |policy: &PolicyId| AsRef::<str>::as_ref(policy) != id;
        let mut engine = Self {
            schema: self.schema.clone(),
            types: self.types.clone(),
            actions: self.actions.clone(),
            redaction: self.redaction.clone(),
            policies: self.policies.iter().filter(|policy| other(policy.id())).cloned().collect(),
            templates: self.templates.clone(),
            links: self.links.iter().filter(|link| other(&link.id)).cloned().collect(),
            everyone: Vec::new(),
            by_principal: HashMap::new(),
            links_everyone: Vec::new(),
            contexts: self.contexts.clone(),
            places: self.places.clone(),
            form: self.form,
            any_time: self.any_time.clone(),
            authorizer: Authorizer::new(),
        };
        engine.index();
        engine
    }

    fn index(&mut self) {
        for (position, policy) in self.policies.iter().enumerate() {
            match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => self.everyone.push(position),
                PrincipalConstraint::In(uid)
                | PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::IsIn(_, uid) => {
                    self.by_principal.entry(uid).or_default().0.push(position);
                }
            }
        }
        for (position, link) in self.links.iter().enumerate() {
            match link.values.get(&SlotId::principal()) {
                Some(uid) => self.by_principal.entry(uid.clone()).or_default().1.push(position),
                None => self.links_everyone.push(position),
            }
        }
    }

    /// The context of one task, validated against the schema for every action.
    pub(crate) fn context(&self, circumstances: &Circumstances) -> Result<Context, String> {
        self.context_at(circumstances, circumstances.time())
    }

    /// The same at some time. Any is as valid as another.
    fn context_at(
        &self,
        circumstances: &Circumstances,
        now: RestrictedExpression,
    ) -> Result<Context, String> {
        let context = circumstances
            .context(&self.types, &self.places, self.form, now)
            .map_err(|error| error.to_string())?;
        for question in &self.contexts {
            let (action, _) = &self.actions[*question as usize];
            context.validate(&self.schema, action).map_err(|error| error.to_string())?;
        }
        Ok(context)
    }

    /// The answers to all questions about all destinations: from the principal's residuals where it has them, from one slice
    /// after the other where not.
    pub(crate) fn answers(&self, seat: &Seat, circumstances: &Circumstances) -> Result<Answers, String> {
        let Some(residuals) = seat.residuals(self) else {
            return Ok(Answers::Asked(self.context(circumstances)?));
        };
        let now = || if residuals.look_at_the_time() { circumstances.time() } else { self.any_time.clone() };
        let context = || self.context_at(circumstances, now());
        let ask = |set: &PolicySet, context: Context| {
            let request = self.request(seat, Question::RouteLocal, 0, &context)?;
            Said::of(&self.authorizer.is_authorized(&request, set, &seat.entities))
        };
        Ok(Answers::Known(residuals.answers(&circumstances.settled, context, ask)?))
    }

    /// One of the answers.
    pub(crate) fn answer(&self, answers: &Answers, seat: &Seat, question: Question, place: usize) -> Answer {
        match answers {
            Answers::Asked(context) => self.ask(seat, question, place, context),
            Answers::Known(known) => known.get(place).map_or_else(
                || Answer { errored: true, ..Answer::default() },
                |of| of[question as usize].clone(),
            ),
        }
    }

    /// Asks one question about one destination, by its position in the bundle.
    pub(crate) fn ask(&self, seat: &Seat, question: Question, place: usize, context: &Context) -> Answer {
        match seat.slice(question, place) {
            Some(set) => self.ask_of(seat, question, place, context, set),
            None => Answer { errored: true, ..Answer::default() },
        }
    }

    /// Asks a set of policies.
    pub(crate) fn ask_of(
        &self,
        seat: &Seat,
        question: Question,
        place: usize,
        context: &Context,
        set: &PolicySet,
    ) -> Answer {
        let Some(request) = self.request(seat, question, place, context) else {
            return Answer { errored: true, ..Answer::default() };
        };
        Answer::of(&self.authorizer.is_authorized(&request, set, &seat.entities))
    }

    /// What is asked, as Cedar takes it. The context was validated for every action; principal and resource are entities of
    /// the types that the schema names.
    pub(crate) fn request(
        &self,
        seat: &Seat,
        question: Question,
        place: usize,
        context: &Context,
    ) -> Option<Request> {
        let target = self.places.get(place)?;
        let (action, _) = &self.actions[question as usize];
        Request::new(seat.uid.clone(), action.clone(), target.uid.clone(), context.clone(), None).ok()
    }

    /// One question and its answer, in Cedar's words.
    pub(crate) fn spoken(
        &self,
        seat: &Seat,
        question: Question,
        place: usize,
        context: &Context,
    ) -> Option<Spoken> {
        let target = self.places.get(place)?;
        let (action, _) = &self.actions[question as usize];
        let request = self.request(seat, question, place, context)?;
        let response = self.authorizer.is_authorized(&request, seat.slice(question, place)?, &seat.entities);
        let mut reason: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        reason.sort_unstable();
        Some(Spoken {
            principal: seat.uid.to_string(),
            action: action.to_string(),
            resource: target.uid.to_string(),
            allowed: response.decision() == cedar_policy::Decision::Allow,
            reason,
            errors: response.diagnostics().errors().count(),
        })
    }

    /// Whether the policies permit a request, and nothing of why.
    pub(crate) fn permits(&self, seat: &Seat, question: Question, place: usize, request: &Request) -> bool {
        seat.slice(question, place).is_some_and(|set| {
            let response = self.authorizer.is_authorized(request, set, &seat.entities);
            response.decision() == cedar_policy::Decision::Allow
        })
    }

    /// The policies that can apply when a principal with these ancestors asks a question about a destination.
    fn slice(
        &self,
        ancestors: &HashSet<EntityUid>,
        question: Question,
        place: &types::Place,
    ) -> Result<PolicySet, String> {
        let (_, actions) = &self.actions[question as usize];
        self.slice_of(ancestors, actions, place)
    }

    /// The same of any action, by its name and groups.
    fn slice_of(
        &self,
        ancestors: &HashSet<EntityUid>,
        actions: &HashSet<EntityUid>,
        place: &types::Place,
    ) -> Result<PolicySet, String> {
        let mut set = PolicySet::new();
        let (named, linked): (Vec<_>, Vec<_>) =
            ancestors.iter().filter_map(|uid| self.by_principal.get(uid)).map(|(p, l)| (p, l)).unzip();
        for policy in
            self.everyone.iter().chain(named.into_iter().flatten()).filter_map(|at| self.policies.get(*at))
        {
            if applies(&policy.action_constraint(), actions) && place.matches(&policy.resource_constraint()) {
                set.add(policy.clone()).map_err(|error| error.to_string())?;
            }
        }
        for link in self
            .links_everyone
            .iter()
            .chain(linked.into_iter().flatten())
            .filter_map(|at| self.links.get(*at))
        {
            let Some(template) = self.templates.get(AsRef::<str>::as_ref(&link.template)) else { continue };
            let resource = link.values.get(&SlotId::resource());
            if !applies(&template.action_constraint(), actions)
                || resource.is_some_and(|uid| !place.knows(uid))
            {
                continue;
            }
            if set.template(template.id()).is_none() {
                set.add_template(template.clone()).map_err(|error| error.to_string())?;
            }
            set.link(link.template.clone(), link.id.clone(), link.values.clone())
                .map_err(|error| error.to_string())?;
        }
        Ok(set)
    }
}

fn applies(constraint: &ActionConstraint, actions: &HashSet<EntityUid>) -> bool {
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => actions.contains(uid),
        ActionConstraint::In(uids) => uids.iter().any(|uid| actions.contains(uid)),
    }
}

/// Each question's action, with the groups that it is in.
fn actions(schema: &Schema) -> Result<[(EntityUid, HashSet<EntityUid>); 3], BundleError> {
    let known = schema.action_entities().map_err(|error| in_file("schema.cedarschema", &error))?;
    let name: EntityTypeName = types::type_name("Action")?;
    let find = |question: Question| {
        let uid = EntityUid::from_type_name_and_id(name.clone(), EntityId::new(question.as_str()));
        let Some(ancestors) = known.ancestors(&uid) else {
            return Err(content(format!("the schema has no action `{}`", question.as_str())));
        };
        let within = ancestors.cloned().chain([uid.clone()]).collect();
        Ok((uid, within))
    };
    let [local, cloud, review] = Question::ALL.map(find);
    Ok([local?, cloud?, review?])
}

/// The questions whose contexts have different forms in the schema.
fn contexts(schema: &Value) -> Vec<Question> {
    let form =
        |question: Question| schema.pointer(&format!("//actions/{}/appliesTo/context", question.as_str()));
    let mut found: Vec<Question> = Vec::new();
    for question in Question::ALL {
        if form(question).is_none() || found.iter().all(|other| form(*other) != form(question)) {
            found.push(question);
        }
    }
    found
}

impl Linked {
    fn new(link: &Link) -> Result<Self, BundleError> {
        let mut values = HashMap::new();
        for (slot, text) in [(SlotId::principal(), &link.principal), (SlotId::resource(), &link.resource)] {
            if let Some(text) = text {
                let uid = text.parse().map_err(|_| {
                    let reason = format!(
                        "link `{}` fills in `{slot}` with `{text}`, which names nothing; write it as 'Tenant::\"acme\"', with its type",
                        link.id
                    );
                    BundleError::Policy(Fault::new(&link.id, reason).about([text.clone()]))
                })?;
                values.insert(slot, uid);
            }
        }
        Ok(Self { id: PolicyId::new(&link.id), template: PolicyId::new(&link.template), values })
    }
}

impl types::Place {
    /// Whether a scope can match this destination.
    fn matches(&self, constraint: &ResourceConstraint) -> bool {
        match constraint {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
            ResourceConstraint::Eq(uid) => self.uid == *uid,
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => self.knows(uid),
        }
    }
}

fn content(reason: String) -> BundleError {
    BundleError::Content(reason)
}

fn in_file(file: &str, error: &dyn std::fmt::Display) -> BundleError {
    BundleError::File { file: file.to_owned(), line: None, reason: error.to_string() }
}

/// How a destination's lane is asked for.
pub(crate) fn route(spec: &DestinationSpec) -> Question {
    match spec.lane {
        tidegate_schemas::subject::Lane::Local => Question::RouteLocal,
        tidegate_schemas::subject::Lane::Cloud => Question::RouteCloud,
    }
}
