//! Terms: what a record can be found by, a number each. Two terms may share a number; then more is looked at than is found.

use tidegate_schemas::ids::TaskId;

use crate::leaf::Leaf;
use crate::read::Filter;

/// What a term is a value of. The numbers stand in the index: they are never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Tenant = 1,
    Agent = 2,
    Kind = 3,
    TaskKind = 4,
    Task = 5,
    Workflow = 6,
    Subject = 7,
    State = 8,
    Code = 9,
    Outcome = 10,
    Destination = 11,
    Policy = 12,
    Bundle = 13,
    Sensitivity = 14,
    Stakes = 15,
    Anomaly = 16,
    Category = 17,
    Regulation = 18,
    Residency = 19,
    Consent = 20,
    Purpose = 21,
}

/// FNV-1a, 64 bits: the same in every release, and quick for short texts.
fn term(field: Field, value: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    value.iter().fold(step(start, &(field as u8)), step)
}

/// The term of a task.
pub(crate) fn task(task: TaskId) -> u64 {
    term(Field::Task, task.0.as_bytes())
}

/// The term of a workflow, by what it is called in a leaf.
pub(crate) fn workflow(reference: &str) -> u64 {
    term(Field::Workflow, reference.as_bytes())
}

/// The term of a data subject, by what it is called in a leaf.
pub(crate) fn subject(reference: &str) -> u64 {
    term(Field::Subject, reference.as_bytes())
}

/// Gives all terms of a record.
pub(crate) fn of(leaf: &Leaf, mut give: impl FnMut(u64)) {
    let mut text =
        |field, value: Option<&str>| value.into_iter().for_each(|value| give(term(field, value.as_bytes())));
    text(Field::Tenant, leaf.tenant.as_ref().map(|name| name.as_str()));
    text(Field::Agent, leaf.agent.as_ref().map(|name| name.as_str()));
    text(Field::Kind, Some(leaf.kind.as_str()));
    text(Field::TaskKind, leaf.task_kind().map(|kind| kind.as_str()));
    text(Field::Workflow, leaf.workflow.as_deref());
    text(Field::State, leaf.state.map(|state| state.as_str()));
    text(Field::Code, leaf.code.map(|code| code.as_str()));
    text(Field::Destination, leaf.destination().map(|name| name.as_str()));
    text(Field::Sensitivity, leaf.sensitivity().map(|label| label.as_str()));
    text(Field::Stakes, leaf.stakes().map(|label| label.as_str()));
    text(Field::Anomaly, leaf.is_odd().then_some(""));
    leaf.subjects.iter().for_each(|reference| text(Field::Subject, Some(reference)));
    if let Some(decision) = &leaf.decision {
        text(Field::Outcome, Some(decision.outcome.as_str()));
        decision.policies.iter().for_each(|policy| text(Field::Policy, Some(policy)));
        let known = &decision.labels;
        known.categories.iter().for_each(|name| text(Field::Category, Some(name.as_str())));
        known.regulations.iter().for_each(|name| text(Field::Regulation, Some(name.as_str())));
        known.residency.iter().for_each(|name| text(Field::Residency, Some(name.as_str())));
        known.consent.iter().for_each(|name| text(Field::Consent, Some(name.as_str())));
        known.purpose.iter().for_each(|name| text(Field::Purpose, Some(name.as_str())));
        give(term(Field::Bundle, decision.bundle.as_bytes()));
    }
    if let Some(id) = leaf.task {
        give(task(id));
    }
}

/// Terms that a record has which a filter matches: all of them. What is known by references alone is not among them.
pub(crate) fn asked(filter: &Filter) -> Vec<u64> {
    let text = |field, value: Option<&str>| value.map(|value| term(field, value.as_bytes()));
    [
        filter.task.map(task),
        filter.subject_ref.as_deref().map(subject),
        filter.bundle.map(|bundle| term(Field::Bundle, bundle.as_bytes())),
        text(Field::Policy, filter.policy.as_deref()),
        text(Field::Agent, filter.agent.as_ref().map(|name| name.as_str())),
        text(Field::Destination, filter.destination.as_ref().map(|name| name.as_str())),
        text(Field::Code, filter.code.map(|code| code.as_str())),
        text(Field::Anomaly, filter.anomalies.then_some("")),
        text(Field::State, filter.state.map(|state| state.as_str())),
        text(Field::Outcome, filter.outcome.map(|outcome| outcome.as_str())),
        text(Field::Category, filter.category.as_ref().map(|name| name.as_str())),
        text(Field::Regulation, filter.regulation.as_ref().map(|name| name.as_str())),
        text(Field::Residency, filter.residency.as_ref().map(|name| name.as_str())),
        text(Field::Consent, filter.consent.as_ref().map(|name| name.as_str())),
        text(Field::Purpose, filter.purpose.as_ref().map(|name| name.as_str())),
        text(Field::Tenant, filter.tenant.as_ref().map(|name| name.as_str())),
        text(Field::Sensitivity, filter.sensitivity.map(|label| label.as_str())),
        text(Field::Stakes, filter.stakes.map(|label| label.as_str())),
        text(Field::TaskKind, filter.task_kind.map(|kind| kind.as_str())),
        text(Field::Kind, filter.kind.map(|kind| kind.as_str())),
    ]
    .into_iter()
    .flatten()
    .collect()
}
