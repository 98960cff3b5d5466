//! What the prose says of one task: what is said of each place, which one is taken, and why.

use crate::rules::{self, Case};
use crate::scene::{Lane, Looked, Place, Scene, Tenant, Terms, World};
use crate::words::{Counted, Set, count, is_name};

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Local,
    Cloud,
    Hold,
    Reject,
}

/// What is said of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Chosen,
    Permitted,
    NeedsReview,
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
    let labels = count(&scene.declared, scene.inherited.as_ref(), &found);
    let found = !found.is_empty();
    let Some((tenant, roles)) = asker(world, scene) else {
        return Some(Ruling::rejected(labels, found, Vec::new(), "unknown_principal"));
    };
    let admitted = scene.known.hop > 0 || scene.known.approved;
    if !admitted && scene.known.in_flight > tenant.in_flight_max {
        return Some(Ruling::rejected(labels, found, Vec::new(), "overloaded"));
    }
    let case = Case { scene, labels: &labels, tenant, roles, looked: scene.looked(terms), found };
    let mut views: Vec<View> = terms.places.iter().map(|place| view(&case, place)).collect();
    let taken = take(&case, &terms.places, &mut views);
    Some(match taken {
        (Some(at), _) => Ruling::dispatched(labels, found, views, at, terms, scene),
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

/// The first that holds.
fn view(case: &Case<'_>, place: &Place) -> View {
    let scene = case.scene;
    let plain = |verdict| View { verdict, because: Set::new(), alone: false };
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
        return View { verdict, because: forbids, alone };
    }
    if permits.is_empty() {
        return plain(Verdict::NotPermitted);
    }
    if place.lane == Lane::Cloud && scene.cost(place) > rules::COST_MAX {
        return View { verdict: Verdict::Forbidden, because: Set::from(["floor-cost"]), alone: true };
    }
    if rules::is_overloaded(scene, place) {
        return plain(Verdict::Overloaded);
    }
    View { verdict: Verdict::Permitted, because: permits, alone: false }
}

/// The place that is taken, and the best of those that a person must agree to.
fn take(case: &Case<'_>, places: &[Place], views: &mut [View]) -> (Option<usize>, Option<usize>) {
    let scene = case.scene;
    let mut open: Vec<usize> =
        (0..views.len()).filter(|at| views[*at].verdict == Verdict::Permitted).collect();
    open.sort_by_key(|at| {
        let place = &places[*at];
        (place.rank, scene.cost(place), scene.expected(place), &place.name)
    });
    let mut held = None;
    for at in open {
        let reviews = rules::reviews(case, &places[at]);
        if reviews.is_empty() {
            views[at].verdict = Verdict::Chosen;
            return (Some(at), held);
        }
        views[at] = View { verdict: Verdict::NeedsReview, because: reviews, alone: false };
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
            Self::Hold => "hold",
            Self::Reject => "reject",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the task may go there, perhaps after a person agrees.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Chosen | Self::Permitted | Self::NeedsReview)
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
