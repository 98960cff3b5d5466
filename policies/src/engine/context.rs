//! The context: every fact that policies may look at, as values.

use std::collections::BTreeSet;

use cedar_policy::{Context, ContextCreationError, RestrictedExpression};
use jiff::Timestamp;
use tidegate_schemas::decision::{Facts, Scan};
use tidegate_schemas::directory::Tenant;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Labels, Sensitivity, Stakes};
use tidegate_schemas::subject::Class;
use tidegate_schemas::task::{Kind, Task};

use super::types::{Place, Types, long};
use crate::bundle::FORMAT;
use crate::destination::{CONTEXT_TOKENS_MAX, COST_USD_MICROS_MAX, Tokens};

/// Attributes that change from task to task; all others follow from [`Settled`].
pub(super) const QUICK: [&str; 3] = ["tokens_in", "tokens_out", TIME];
/// The one that is the time.
pub(super) const TIME: &str = "now";

/// What is known about one task when it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) settled: Settled,
    pub(crate) tokens: Tokens,
    pub(crate) now: Timestamp,
}

/// What many tasks have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Settled {
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) declared: Sensitivity,
    pub(crate) labels: Labels,
    pub(crate) findings: u64,
    pub(crate) scan: &'static str,
    pub(crate) tools: bool,
    pub(crate) cost_usd_micros_max: Option<u64>,
    pub(crate) latency_ms_max: Option<u64>,
    pub(crate) tenant_residency: BTreeSet<Name>,
    pub(crate) providers: Option<BTreeSet<Name>>,
    pub(crate) off: BTreeSet<Name>,
    /// Destinations where the work would cost more than the task may cost.
    pub(crate) over_cost: BTreeSet<Name>,
    pub(crate) approved: bool,
    pub(crate) egress_ready: bool,
    pub(crate) hop: u32,
    /// Feature flags that are on and that the bundle declares.
    pub(crate) flags: BTreeSet<Name>,
}

/// What the contexts of a bundle hold: it was made for some version of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The bundle's form.
    pub(super) format: u32,
    /// Whether its schema knows feature flags.
    pub(super) flags: bool,
}

impl Circumstances {
    pub(crate) fn new(
        task: &Task,
        labels: &Labels,
        tenant: &Tenant,
        facts: &Facts,
        scan: &Scan,
        findings: u64,
    ) -> Self {
        let settled = Settled {
            kind: task.kind(),
            class: task.class,
            declared: task.labels.sensitivity,
            labels: labels.clone(),
            findings,
            scan: match scan {
                Scan::None => "none",
                Scan::Recognisers => "recognisers",
                Scan::Model(_) => "model",
            },
            tools: task.input.uses_tools(),
            cost_usd_micros_max: task.limits.cost_usd_micros_max,
            latency_ms_max: task.limits.latency_ms_max,
            tenant_residency: tenant.residency.clone(),
            providers: tenant.providers.clone(),
            off: BTreeSet::new(),
            over_cost: BTreeSet::new(),
            approved: facts.approval.is_some(),
            egress_ready: facts.egress_ready,
            hop: facts.hop,
            flags: BTreeSet::new(),
        };
        Self { settled, tokens: Tokens::of(&task.input), now: facts.now }
    }

    /// Something of everything, for trying the schema.
    pub(super) fn rehearsal() -> Self {
        let mut labels = Labels::of(Sensitivity::Restricted);
        labels.stakes = Stakes::High;
        let settled = Settled {
            kind: Kind::Chat,
            class: Class::Batch,
            declared: Sensitivity::Public,
            labels,
            findings: 1,
            scan: "none",
            tools: false,
            cost_usd_micros_max: Some(1),
            latency_ms_max: Some(1),
            tenant_residency: BTreeSet::new(),
            providers: Some(BTreeSet::new()),
            off: BTreeSet::new(),
            over_cost: BTreeSet::new(),
            approved: false,
            egress_ready: false,
            hop: 0,
            flags: BTreeSet::new(),
        };
        Self { settled, tokens: Tokens { input: 1, output: 1 }, now: Timestamp::UNIX_EPOCH }
    }

    /// The time, as Cedar takes it. Making it is a tenth of a whole decision: Cedar parses the name of its own function each time.
    pub(super) fn time(&self) -> RestrictedExpression {
        RestrictedExpression::new_datetime(self.now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    }

    #[expect(clippy::result_large_err, reason = "Cedar's own error, looked at once and dropped")]
    pub(super) fn context(
        &self,
        types: &Types,
        places: &[Place],
        form: Form,
        now: RestrictedExpression,
    ) -> Result<Context, ContextCreationError> {
        let (words, settled) = (&types.words, &self.settled);
        let purpose = settled.labels.purpose.as_ref().map_or("none", Name::as_str);
        let class = match settled.class {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        };
        let single = [
            ("kind", words.value("Kind", settled.kind.as_str())),
            ("class", words.value("Class", class)),
            ("declared", words.value("Sensitivity", settled.declared.as_str())),
            ("sensitivity", words.value("Sensitivity", settled.labels.sensitivity.as_str())),
            ("stakes", words.value("Stakes", settled.labels.stakes.as_str())),
            ("scan", words.value("Scan", settled.scan)),
            ("purpose", words.value("Purpose", purpose)),
            (
                "cost_usd_micros_max",
                settled.cost_usd_micros_max.map(|cost| long(cost.min(COST_USD_MICROS_MAX))),
            ),
            ("latency_ms_max", settled.latency_ms_max.map(long)),
            ("providers", settled.providers.as_ref().map(strings)),
        ];
        let set = |names: &BTreeSet<Name>| {
            let named = places.iter().filter(|place| names.contains(&place.name));
            RestrictedExpression::new_set(named.map(|place| place.as_value.clone()))
        };
        let rest = [
            ("categories", words.values("Category", &settled.labels.categories)),
            ("regulations", words.values("Regulation", &settled.labels.regulations)),
            ("consent", words.values("Consent", &settled.labels.consent)),
            ("residency", types.regions(&settled.labels.residency)),
            ("tenant_residency", types.regions(&settled.tenant_residency)),
            ("off", set(&settled.off)),
            ("findings", long(settled.findings)),
            ("tokens_in", long(self.tokens.input.min(CONTEXT_TOKENS_MAX))),
            ("tokens_out", long(self.tokens.output.min(CONTEXT_TOKENS_MAX))),
            ("hop", long(u64::from(settled.hop))),
            ("tools", RestrictedExpression::new_bool(settled.tools)),
            ("approved", RestrictedExpression::new_bool(settled.approved)),
            ("egress_ready", RestrictedExpression::new_bool(settled.egress_ready)),
            (TIME, now),
        ];
        let single = single.into_iter().filter_map(|(key, value)| Some((key, value?)));
        // Bundles of the form before compute the cost themselves.
        let over_cost = (form.format >= FORMAT).then(|| ("over_cost", set(&settled.over_cost)));
        let flags = form.flags.then(|| ("flags", words.values("Flag", &settled.flags)));
        let all = single.chain(rest).chain(over_cost).chain(flags);
        Context::from_pairs(all.map(|(key, value)| (key.to_owned(), value)))
    }
}

impl Settled {
    /// Whether the context holds this attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        match name {
            "cost_usd_micros_max" => self.cost_usd_micros_max.is_some(),
            "latency_ms_max" => self.latency_ms_max.is_some(),
            "providers" => self.providers.is_some(),
            _ => true,
        }
    }
}

fn strings(names: &BTreeSet<Name>) -> RestrictedExpression {
    RestrictedExpression::new_set(names.iter().map(|name| RestrictedExpression::new_string(name.to_string())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use super::Circumstances;
    use crate::bundle::supplied::{DESTINATION, WORK};
    use crate::bundle::tests::Variant;
    use crate::engine::Engine;

    #[test]
    fn a_schema_may_ask_for_exactly_what_is_given() {
        let bundle = Variant::new().read().unwrap();
        let engine = Engine::new(bundle.parts()).unwrap();
        let context = engine.context(&Circumstances::rehearsal()).unwrap();
        let given: BTreeSet<String> = context.into_iter().map(|(name, _)| name).collect();
        assert_eq!(given, WORK.map(str::to_owned).into());
        let place = engine.places.first().unwrap().entity.clone();
        let given: BTreeSet<String> = place.into_inner().1.into_keys().collect();
        assert_eq!(given, DESTINATION.map(str::to_owned).into());
    }
}
