//! What the prose says of one task: what is said of each place, which one is taken, and why.

use crate::rules::{self, Case};
use crate::scene::{Lane, Looked, Place, Scene, Tenant, Terms, World};
use crate::words::{Counted, Level, Set, count, is_name};

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Local,
    Cloud,
    Redact,
    Hold,
    Reject,
}

/// What is said of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Chosen,
    Permitted,
    NeedsReview,
    NeedsRedaction,
    Forbidden,
    NotPermitted,
    Incapable,
    Off,
    Wider,
    Tried,
    Overloaded,
}

/// A place as the task sees it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) verdict: Verdict,
    /// What forbids it, what asks for a review, or what permits it.
    pub(crate) because: Set,
    /// Whether the task would go there but for one guarantee.
    pub(crate) alone: bool,
    /// What keeps what is left of it, where what was found might be replaced.
    pub(crate) rest: Set,
}

/// What comes of a task.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) labels: Counted,
    pub(crate) found: bool,
    pub(crate) outcome: Outcome,
    /// Every place; none where nobody known asks.
    pub(crate) views: Vec<View>,
    /// Where it runs, or would run.
    pub(crate) place: Option<usize>,
    pub(crate) code: Option<&'static str>,
    pub(crate) queue: Option<&'static str>,
    /// The most that the call costs, millionths of a US dollar.
    pub(crate) cap: Option<u64>,
    /// What determined it.
    pub(crate) reasons: Set,
}

/// Rules on a task. None: it is refused at the door.
pub(crate) fn rule(terms: &Terms, world: &World, scene: &Scene) -> Option<Ruling> {
    let named = scene.body_tenant.is_none_or(|tenant| tenant == scene.tenant);
    if !named || !scene.declared.names().all(is_name) {
        return None;
    }
    let mut found = if terms.looked == Looked::Nothing { Set::new() } else { scene.found() };
    found.extend(scene.scanned());
    let (inherited, held) = (scene.inherited.as_ref(), scene.known.session.as_ref());
    let labels = count(&scene.declared, inherited, held, &found);
    // Without what was found, and without what the session held; never without what was said or inherited.
    let left = count(&scene.declared, inherited, None, &Set::new());
    let found = !found.is_empty();
    let Some((tenant, roles)) = asker(world, scene) else {
        return Some(Ruling::rejected(labels, found, Vec::new(), "unknown_principal"));
    };
    let admitted = scene.known.hop > 0 || scene.known.approved;
    if !admitted && scene.known.in_flight > tenant.in_flight_max {
        return Some(Ruling::rejected(labels, found, Vec::new(), "overloaded"));
    }
    let case = Case { scene, labels: &labels, tenant, roles, looked: scene.looked(terms), found };
    let rest = Case { scene, labels: &left, tenant, roles, looked: case.looked, found: false };
    let mut views: Vec<View> = terms.places.iter().map(|place| place_view(&case, &rest, place)).collect();
    let (taken, held) = take([&case, &rest], &terms.places, &mut views);
    Some(match (taken, held) {
        (Some((at, redact)), _) => {
            let ruling = Ruling::dispatched(labels, found, views, at, terms, scene);
            if redact { Ruling { outcome: Outcome::Redact, ..ruling } } else { ruling }
        }
        (None, Some(at)) => Ruling::held(labels, found, views, at),
        (None, None) => {
            let code = why(&views);
            Ruling::rejected(labels, found, views, code)
        }
    })
}

fn asker<'a>(world: &'a World, scene: &Scene) -> Option<(&'a Tenant, &'a Set)> {
    let tenant = world.get(scene.tenant)?;
    Some((tenant, tenant.agents.get(scene.agent)?))
}

/// What is said of a place, where what was found may be replaced, too.
fn place_view(case: &Case<'_>, rest: &Case<'_>, place: &Place) -> View {
    let (as_it_is, back) = (view(case, place), case.scene.known.redacted.as_ref());
    let denied = matches!(as_it_is.verdict, Verdict::Forbidden | Verdict::NotPermitted);
    let asked = denied || back.is_some() && as_it_is.verdict == Verdict::Permitted;
    if place.lane == Lane::Local || !asked {
        return as_it_is;
    }
    // A restricted task is never replaced anything in. What a model found is replaced with the rest, by whoever reads it again; what
    // comes back here says of no model that it was.
    let (scene, restricted) = (case.scene, case.labels.level == Level::Restricted);
    let by_model = !scene.scanned().is_empty();
    let something = match back {
        Some(_) => !by_model,
        None if case.found => by_model || scene.has_values(),
        None => scene.known.session.is_some(),
    };
    let can = !restricted && something;
    if back.is_some_and(|still| !can || !still.is_empty()) {
        return View { because: Set::from(["floor-redaction"]), ..View::plain(Verdict::Forbidden) };
    }
    if !can {
        return as_it_is;
    }
    if !rules::may_replace(case, place) {
        return if back.is_some() { View::plain(Verdict::NotPermitted) } else { as_it_is };
    }
    let left = view(rest, place);
    match left.verdict {
        Verdict::Permitted => {
            let because = &left.because | &Set::from([rules::REDACTS]);
            let verdict = if back.is_some() { Verdict::Permitted } else { Verdict::NeedsRedaction };
            View { because, ..View::plain(verdict) }
        }
        // What keeps the task as it is says more than what would keep the rest.
        Verdict::Forbidden | Verdict::NotPermitted if back.is_none() => {
            View { rest: left.because, ..as_it_is }
        }
        _ => View { alone: false, ..left },
    }
}

/// The first that holds, of the task as it is.
fn view(case: &Case<'_>, place: &Place) -> View {
    let scene = case.scene;
    let plain = View::plain;
    if rules::is_incapable(scene, place) {
        return plain(Verdict::Incapable);
    }
    if scene.known.lane_max == Some(Lane::Local) && place.lane == Lane::Cloud {
        return plain(Verdict::Wider);
    }
    if scene.known.tried.contains(&place.name) {
        return plain(Verdict::Tried);
    }
    let (permits, forbids) = (rules::permits(case, place), rules::forbids(case, place));
    if !forbids.is_empty() {
        let off = forbids.iter().all(|id| ["switched-off", "egress-not-ready"].contains(id));
        let verdict = if off { Verdict::Off } else { Verdict::Forbidden };
        let alone = forbids.len() == 1 && !permits.is_empty();
        return View { verdict, because: forbids, alone, rest: Set::new() };
    }
    if permits.is_empty() {
        return plain(Verdict::NotPermitted);
    }
    if place.lane == Lane::Cloud && scene.cost(place) > rules::COST_MAX {
        let because = Set::from(["floor-cost"]);
        return View { verdict: Verdict::Forbidden, because, alone: true, rest: Set::new() };
    }
    if rules::is_overloaded(scene, place) {
        return plain(Verdict::Overloaded);
    }
    View { because: permits, ..View::plain(Verdict::Permitted) }
}

/// The place that is taken, and whether what was found is replaced before; and the best of those that a person must agree to.
/// Whether a person must is asked about what would leave.
fn take(
    [case, rest]: [&Case<'_>; 2],
    places: &[Place],
    views: &mut [View],
) -> (Option<(usize, bool)>, Option<usize>) {
    let scene = case.scene;
    let is_open = |at: &usize| matches!(views[*at].verdict, Verdict::Permitted | Verdict::NeedsRedaction);
    let mut open: Vec<usize> = (0..views.len()).filter(is_open).collect();
    open.sort_by_key(|at| {
        let place = &places[*at];
        (place.rank, scene.cost(place), scene.expected(place), &place.name)
    });
    let mut held = None;
    for at in open {
        let redact = views[at].verdict == Verdict::NeedsRedaction;
        let is_left = redact || scene.known.redacted.is_some() && places[at].lane == Lane::Cloud;
        let reviews = rules::reviews(if is_left { rest } else { case }, &places[at]);
        if reviews.is_empty() {
            views[at].verdict = Verdict::Chosen;
            return (Some((at, redact)), held);
        }
        views[at] = View { because: reviews, ..View::plain(Verdict::NeedsReview) };
        held = held.or(Some(at));
    }
    (None, held)
}

/// Why nothing is permitted: the reason nearest to a permission.
fn why(views: &[View]) -> &'static str {
    let order = [
        (Verdict::Overloaded, "overloaded"),
        (Verdict::Off, "lane_off"),
        (Verdict::Tried, "provider_unavailable"),
        (Verdict::Forbidden, "policy_denied"),
        (Verdict::NotPermitted, "policy_denied"),
        (Verdict::Wider, "policy_denied"),
    ];
    let said = |verdict: Verdict| views.iter().any(|view| view.verdict == verdict);
    order.into_iter().find(|(verdict, _)| said(*verdict)).map_or("no_capable_destination", |(_, code)| code)
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Redact => "redact",
            Self::Hold => "hold",
            Self::Reject => "reject",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the task may go there, perhaps after a person agrees.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Chosen | Self::Permitted | Self::NeedsReview | Self::NeedsRedaction)
    }
}

// === impl View ===

impl View {
    fn plain(verdict: Verdict) -> Self {
        Self { verdict, because: Set::new(), alone: false, rest: Set::new() }
    }
}

// === impl Ruling ===

impl Ruling {
    fn rejected(labels: Counted, found: bool, views: Vec<View>, code: &'static str) -> Self {
        let reasons = views.iter().flat_map(|view| view.because.iter().copied()).collect();
        let outcome = Outcome::Reject;
        Self { labels, found, outcome, views, place: None, code: Some(code), queue: None, cap: None, reasons }
    }

    fn held(labels: Counted, found: bool, views: Vec<View>, at: usize) -> Self {
        let reasons = views[at].because.clone();
        let queue = reasons.first().map(|review| rules::queue(review));
        let outcome = Outcome::Hold;
        Self { labels, found, outcome, views, place: Some(at), code: None, queue, cap: None, reasons }
    }

    fn dispatched(
        labels: Counted,
        found: bool,
        views: Vec<View>,
        at: usize,
        terms: &Terms,
        scene: &Scene,
    ) -> Self {
        let permits = views[at].because.clone();
        let caps = permits.iter().map(|permit| rules::cost_cap(permit));
        let cap = caps.chain(scene.cost_max).fold(rules::COST_MAX, u64::min);
        let (outcome, cap) = match terms.places[at].lane {
            Lane::Local => (Outcome::Local, None),
            Lane::Cloud => (Outcome::Cloud, Some(cap)),
        };
        let mut reasons = permits;
        if !scene.known.approved {
            reasons.insert(rules::NO_REVIEW);
        }
        Self { labels, found, outcome, views, place: Some(at), code: None, queue: None, cap, reasons }
    }
}
