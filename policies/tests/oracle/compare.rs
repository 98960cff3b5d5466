//! What the oracle rules and what the judge decided, side by side. Each difference names the guarantee that it breaks.

use std::collections::BTreeSet;

use tidegate_schemas::decision::{Considered, Considering, Decision, Obligation, Scan};
use tidegate_schemas::ids::Name;

use crate::rules::{NO_REVIEW, REDACTS};
use crate::ruling::{Ruling, Verdict, View};
use crate::scene::{Looked, Scene, Terms};
use crate::words::Set;

/// How a guarantee is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// What it keeps from a place, or from going there without a review, may go.
    Opened,
    /// It does not stand among the reasons.
    Unsaid,
    /// Something stands in the way that the prose does not have there.
    Closed,
    /// What was concluded is another.
    Differs,
}

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) guarantee: String,
    pub(crate) how: How,
}

/// Everything in which they differ.
pub(crate) fn breaches(terms: &Terms, scene: &Scene, ruling: &Ruling, decision: &Decision) -> Vec<Breach> {
    let mut found = Vec::new();
    let named = decision.considered.iter().map(|considered| considered.destination.as_str());
    let places = terms.places.iter().map(|place| place.name.as_str()).take(ruling.views.len());
    if !named.eq(places) {
        differs("considered", &mut found);
    }
    for (view, considered) in ruling.views.iter().zip(&decision.considered) {
        place(view, considered, &mut found);
    }
    labels(ruling, decision, &mut found);
    conclusion(terms, ruling, decision, &mut found);
    if scene.looked(terms) != looked(&decision.scan) {
        differs("scan", &mut found);
    }
    found
}

fn differs(what: &str, found: &mut Vec<Breach>) {
    found.push(Breach { guarantee: what.to_owned(), how: How::Differs });
}

fn blame<'a>(guarantees: impl IntoIterator<Item = &'a str>, how: How, found: &mut Vec<Breach>) {
    found.extend(guarantees.into_iter().map(|guarantee| Breach { guarantee: guarantee.to_owned(), how }));
}

/// What is said of one place.
fn place(view: &View, considered: &Considered, found: &mut Vec<Breach>) {
    let said: BTreeSet<&str> = considered.policies.iter().map(String::as_str).collect();
    let because: BTreeSet<&str> = view.because.iter().copied().collect();
    let Some(verdict) = verdict(considered.verdict) else { return differs("errored", found) };
    match (view.verdict, verdict) {
        (wanted, got) if !wanted.is_open() && got.is_open() => {
            let guards = match (said.contains(REDACTS), view.rest.is_empty()) {
                // What was found is replaced, and should not be; or the rest of it should not leave.
                (true, true) => BTreeSet::from([REDACTS]),
                (true, false) => view.rest.iter().copied().collect(),
                (false, _) => or(because, reason(wanted)),
            };
            blame(guards, How::Opened, found);
        }
        (wanted, got) if wanted.is_open() && !got.is_open() => {
            blame(or(said, reason(got)), How::Closed, found);
        }
        (Verdict::NeedsReview, Verdict::Chosen) => blame(because, How::Opened, found),
        (Verdict::Chosen, Verdict::NeedsReview) => blame(or(said, NO_REVIEW), How::Closed, found),
        // Behind the place that is taken, nobody asks for reviews: what is said there follows from that place.
        (wanted, got) if wanted.is_open() && wanted != got => {}
        _ => {
            blame(because.difference(&said).copied(), How::Unsaid, found);
            blame(said.difference(&because).copied(), How::Closed, found);
        }
    }
    if view.verdict != verdict {
        differs("verdict", found);
    }
}

fn or<'a>(names: BTreeSet<&'a str>, else_this: &'a str) -> BTreeSet<&'a str> {
    if names.is_empty() { BTreeSet::from([else_this]) } else { names }
}

/// The name of what keeps work away where it is no policy.
fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotPermitted => "not_permitted",
        Verdict::Incapable => "incapable",
        Verdict::Wider => "wider",
        Verdict::Tried => "tried",
        Verdict::Overloaded => "overloaded",
        Verdict::Off => "off",
        Verdict::Forbidden => "forbidden",
        Verdict::Chosen | Verdict::Permitted | Verdict::NeedsReview | Verdict::NeedsRedaction => "permitted",
    }
}

fn verdict(said: Considering) -> Option<Verdict> {
    Some(match said {
        Considering::Chosen => Verdict::Chosen,
        Considering::Permitted => Verdict::Permitted,
        Considering::NeedsReview => Verdict::NeedsReview,
        Considering::Forbidden => Verdict::Forbidden,
        Considering::NotPermitted => Verdict::NotPermitted,
        Considering::Incapable => Verdict::Incapable,
        Considering::Off => Verdict::Off,
        Considering::Wider => Verdict::Wider,
        Considering::Tried => Verdict::Tried,
        Considering::Overloaded => Verdict::Overloaded,
        Considering::NeedsRedaction => Verdict::NeedsRedaction,
        // Nobody here has a budget or a breaker.
        Considering::Errored | Considering::Spent | Considering::Broken => return None,
    })
}

fn looked(scan: &Scan) -> Looked {
    match scan {
        Scan::None => Looked::Nothing,
        Scan::Recognisers => Looked::Recognisers,
        Scan::Model(_) => Looked::Model,
    }
}

/// Labels as they count.
fn labels(ruling: &Ruling, decision: &Decision, found: &mut Vec<Breach>) {
    let (wanted, got) = (&ruling.labels, &decision.labels);
    let alike = |wanted: &Set, got: &BTreeSet<Name>| got.iter().map(Name::as_str).eq(wanted.iter().copied());
    let same = wanted.level.as_str() == got.sensitivity.as_str()
        && wanted.stakes.as_str() == got.stakes.as_str()
        && wanted.purpose == got.purpose.as_ref().map(Name::as_str)
        && alike(&wanted.categories, &got.categories)
        && alike(&wanted.regulations, &got.regulations)
        && alike(&wanted.residency, &got.residency)
        && alike(&wanted.consent, &got.consent);
    if !same {
        differs("labels", found);
    }
}

/// What comes of it as a whole.
fn conclusion(terms: &Terms, ruling: &Ruling, decision: &Decision, found: &mut Vec<Breach>) {
    let (mut queue, mut cap) = (None, None);
    for obligation in &decision.obligations {
        match obligation {
            Obligation::Review { queue: of, .. } => queue = Some(of.as_str()),
            Obligation::CostCap { usd_micros_max } => cap = Some(*usd_micros_max),
        }
    }
    let place = ruling.place.map(|at| terms.places[at].name.as_str());
    let destination = decision.destination.as_ref().map(|destination| destination.name.as_str());
    let reasons = decision.determining.iter().map(String::as_str);
    let same = [
        ("outcome", ruling.outcome.as_str() == decision.outcome.as_str()),
        ("destination", place == destination),
        ("code", ruling.code == decision.code.map(|code| code.as_str())),
        ("queue", ruling.queue == queue),
        ("cap", ruling.cap == cap),
        ("determining", reasons.eq(ruling.reasons.iter().copied())),
        ("findings", ruling.found != decision.findings.is_empty()),
    ];
    same.into_iter().filter(|(_, same)| !same).for_each(|(what, _)| differs(what, found));
}
