//! The context: every fact that policies may look at, as values.

use std::collections::BTreeSet;

use cedar_policy::{Context, ContextCreationError, RestrictedExpression};
use tidegate_schemas::decision::{Facts, Scan};
use tidegate_schemas::directory::Tenant;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Labels, Sensitivity, Stakes};
use tidegate_schemas::subject::Class;
use tidegate_schemas::task::{Kind, Task};

use super::types::{Place, Types, long};
use crate::destination::{CONTEXT_TOKENS_MAX, Tokens};

/// Largest cost that a limit can state, millionths of a US dollar; what is above counts as this.
const COST_MAX: u64 = 1_000_000_000_000;

/// What is known about one task when it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) declared: Sensitivity,
    pub(crate) labels: Labels,
    pub(crate) findings: u64,
    pub(crate) scan: &'static str,
    pub(crate) tools: bool,
    pub(crate) tokens: Tokens,
    pub(crate) cost_usd_micros_max: Option<u64>,
    pub(crate) latency_ms_max: Option<u64>,
    pub(crate) tenant_residency: BTreeSet<Name>,
    pub(crate) providers: Option<BTreeSet<Name>>,
    pub(crate) off: BTreeSet<Name>,
    pub(crate) approved: bool,
    pub(crate) egress_ready: bool,
    pub(crate) hop: u32,
    pub(crate) now: String,
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
        Self {
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
            tokens: Tokens::of(&task.input),
            cost_usd_micros_max: task.limits.cost_usd_micros_max,
            latency_ms_max: task.limits.latency_ms_max,
            tenant_residency: tenant.residency.clone(),
            providers: tenant.providers.clone(),
            off: BTreeSet::new(),
            approved: facts.approval.is_some(),
            egress_ready: facts.egress_ready,
            hop: facts.hop,
            now: facts.now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        }
    }

    /// Something of everything, for trying the schema.
    pub(super) fn rehearsal() -> Self {
        let mut labels = Labels::of(Sensitivity::Restricted);
        labels.stakes = Stakes::High;
        Self {
            kind: Kind::Chat,
            class: Class::Batch,
            declared: Sensitivity::Public,
            labels,
            findings: 1,
            scan: "none",
            tools: false,
            tokens: Tokens { input: 1, output: 1 },
            cost_usd_micros_max: Some(1),
            latency_ms_max: Some(1),
            tenant_residency: BTreeSet::new(),
            providers: Some(BTreeSet::new()),
            off: BTreeSet::new(),
            approved: false,
            egress_ready: false,
            hop: 0,
            now: "2026-01-01T00:00:00.000Z".to_owned(),
        }
    }

    #[expect(clippy::result_large_err, reason = "Cedar's own error, looked at once and dropped")]
    pub(super) fn context(&self, types: &Types, places: &[Place]) -> Result<Context, ContextCreationError> {
        let words = &types.words;
        let purpose = self.labels.purpose.as_ref().map_or("none", Name::as_str);
        let class = match self.class {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        };
        let single = [
            ("kind", words.value("Kind", self.kind.as_str())),
            ("class", words.value("Class", class)),
            ("declared", words.value("Sensitivity", self.declared.as_str())),
            ("sensitivity", words.value("Sensitivity", self.labels.sensitivity.as_str())),
            ("stakes", words.value("Stakes", self.labels.stakes.as_str())),
            ("scan", words.value("Scan", self.scan)),
            ("purpose", words.value("Purpose", purpose)),
            ("cost_usd_micros_max", self.cost_usd_micros_max.map(|cost| long(cost.min(COST_MAX)))),
            ("latency_ms_max", self.latency_ms_max.map(long)),
            ("providers", self.providers.as_ref().map(strings)),
        ];
        let off =
            places.iter().filter(|place| self.off.contains(&place.name)).map(|place| place.as_value.clone());
        let rest = [
            ("categories", words.values("Category", &self.labels.categories)),
            ("regulations", words.values("Regulation", &self.labels.regulations)),
            ("consent", words.values("Consent", &self.labels.consent)),
            ("residency", types.regions(&self.labels.residency)),
            ("tenant_residency", types.regions(&self.tenant_residency)),
            ("off", RestrictedExpression::new_set(off)),
            ("findings", long(self.findings)),
            ("tokens_in", long(self.tokens.input.min(CONTEXT_TOKENS_MAX))),
            ("tokens_out", long(self.tokens.output.min(CONTEXT_TOKENS_MAX))),
            ("hop", long(u64::from(self.hop))),
            ("tools", RestrictedExpression::new_bool(self.tools)),
            ("approved", RestrictedExpression::new_bool(self.approved)),
            ("egress_ready", RestrictedExpression::new_bool(self.egress_ready)),
            ("now", RestrictedExpression::new_datetime(&self.now)),
        ];
        let single = single.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Context::from_pairs(single.chain(rest).map(|(key, value)| (key.to_owned(), value)))
    }
}

fn strings(names: &BTreeSet<Name>) -> RestrictedExpression {
    RestrictedExpression::new_set(names.iter().map(|name| RestrictedExpression::new_string(name.to_string())))
}
