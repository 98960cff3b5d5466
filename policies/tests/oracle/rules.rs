//! The guarantees, written from the prose (`bundles/default/README.md`), section by section, under the names that it gives
//! them.

use crate::scene::{Kind, Lane, Looked, Place, Scene, Tenant};
use crate::words::{Counted, Level, Set, lies_in};

/// Every guarantee that keeps work from a place, or has a person agree first.
pub(crate) const KEEPS: [&str; 47] = [
    "bank-not-anthropic",
    "bank-not-us",
    "batch-cheap",
    "children-stay",
    "clinic-local-only",
    "contractor-certified",
    "cost-limit",
    "egress-not-ready",
    "export-control-stays",
    "findings-stay",
    "flag-stay-local",
    "floor-cost",
    "floor-redaction",
    "gdpr-certified",
    "gdpr-consent",
    "gdpr-region",
    "health-not-for-marketing",
    "hipaa-certified",
    "hops-limit",
    "latency-limit",
    "legal-privilege-stays",
    "marketing-consent",
    "nothing-looked",
    "pci-stays",
    "personal-purpose",
    "press-reviewed",
    "press-scraper-blocked",
    "profiling-consent",
    "provider-allow-list",
    "residency-declared",
    "residency-tenant",
    "restricted-stays",
    "retention-public-only",
    "review-confidential-egress",
    "review-high-stakes",
    "review-hiring",
    "review-medium-egress",
    "role-local-only",
    "role-suspended",
    "secrets-stay",
    "source-code-not-for-training",
    "sox-certified",
    "switched-off",
    "tools-cloud-role",
    "training-public-only",
    "unknown-category-stays",
    "unscanned-stays",
];
/// Those that are the only one in the way of some generated tasks.
pub(crate) const ALONE: [&str; 27] = [
    "bank-not-us",
    "batch-cheap",
    "clinic-local-only",
    "contractor-certified",
    "cost-limit",
    "egress-not-ready",
    "export-control-stays",
    "flag-stay-local",
    "floor-cost",
    "gdpr-consent",
    "gdpr-region",
    "health-not-for-marketing",
    "hipaa-certified",
    "hops-limit",
    "latency-limit",
    "marketing-consent",
    "pci-stays",
    "press-scraper-blocked",
    "profiling-consent",
    "provider-allow-list",
    "residency-declared",
    "residency-tenant",
    "role-local-only",
    "role-suspended",
    "sox-certified",
    "switched-off",
    "tools-cloud-role",
];

/// Those that nothing reaches while recognisers look.
pub(crate) const ASLEEP: [&str; 1] = ["nothing-looked"];

/// What may run at all.
pub(crate) const PERMITS: [&str; 4] =
    ["local-any-agent", "cloud-public", "cloud-internal-scanned", "cloud-confidential-cleared"];

/// What may be replaced by tokens.
pub(crate) const REDACTS: &str = "redact-contacts";

/// Runs without a review.
pub(crate) const NO_REVIEW: &str = "review-default";

/// The most that cloud work costs, whatever a task says, millionths of a US dollar.
pub(crate) const COST_MAX: u64 = 500_000;

/// A known agent's task.
pub(crate) struct Case<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) labels: &'a Counted,
    pub(crate) tenant: &'a Tenant,
    pub(crate) roles: &'a Set,
    pub(crate) looked: Looked,
    pub(crate) found: bool,
}

/// Guarantees, and whether each stands in the way.
type Rules = Vec<(&'static str, bool)>;

/// What permits the task there.
pub(crate) fn permits(case: &Case<'_>, place: &Place) -> Set {
    let (labels, scanned) = (case.labels, case.looked == Looked::Model);
    let public = labels.declared == Level::Public && labels.level == Level::Public && !case.found;
    let internal = labels.level == Level::Internal && scanned && !case.found && place.keeps_nothing;
    let confidential = case.roles.contains("confidential-cloud")
        && labels.level == Level::Confidential
        && scanned
        && labels.consent.contains("cloud_processing")
        && place.keeps_nothing
        && place.certified.contains("iso27001");
    let holds = match place.lane {
        Lane::Local => [true, false, false, false],
        Lane::Cloud => [false, public, internal, confidential],
    };
    PERMITS.into_iter().zip(holds).filter_map(|(id, holds)| holds.then_some(id)).collect()
}

/// Whether what was found may be replaced, so that the rest goes there.
pub(crate) fn may_replace(case: &Case<'_>, place: &Place) -> bool {
    case.roles.contains("redacted-cloud")
        && case.labels.level != Level::Restricted
        && case.labels.categories.iter().all(|category| ["personal", "network"].contains(category))
        && place.keeps_nothing
}

/// The most that a call costs which this permits, millionths of a US dollar.
pub(crate) fn cost_cap(permit: &str) -> u64 {
    match permit {
        "cloud-public" | "cloud-internal-scanned" => 200_000,
        _ => 500_000,
    }
}

/// Every guarantee that forbids the task there.
pub(crate) fn forbids(case: &Case<'_>, place: &Place) -> Set {
    let mut rules = [anywhere(case, place), consents(case)].concat();
    if place.lane == Lane::Cloud {
        rules.extend([leaving(case, place), regulated(case, place), limited(case, place)].concat());
        rules.extend([people(case, place), contracts(case, place)].concat());
    }
    hold(rules)
}

/// Every guarantee by which a person agrees first.
pub(crate) fn reviews(case: &Case<'_>, place: &Place) -> Set {
    let (labels, leaves) = (case.labels, place.lane == Lane::Cloud);
    if case.scene.known.approved {
        return Set::new();
    }
    hold(vec![
        ("review-high-stakes", labels.stakes.as_str() == "high"),
        ("review-hiring", labels.purpose == Some("hiring")),
        ("review-confidential-egress", leaves && labels.level == Level::Confidential),
        ("review-medium-egress", leaves && labels.stakes.as_str() == "medium" && labels.about_people()),
        ("press-reviewed", leaves && case.scene.tenant == "press"),
    ])
}

/// The queue in which a person is asked.
pub(crate) fn queue(review: &str) -> &'static str {
    match review {
        "review-confidential-egress" | "review-medium-egress" => "privacy",
        _ => "default",
    }
}

/// Why a place cannot do the work.
pub(crate) fn is_incapable(scene: &Scene, place: &Place) -> bool {
    let (input, output) = scene.tokens();
    !place.kinds.contains(scene.kind.as_str())
        || (scene.work.tools && !place.tools)
        || (matches!(scene.kind, Kind::Extract | Kind::Classify) && !place.schema)
        || (scene.work.stream && !place.streams)
        || input + output > place.context_tokens
}

/// Whether its queue is too long.
pub(crate) fn is_overloaded(scene: &Scene, place: &Place) -> bool {
    let left_ms = i128::from(scene.deadline_ms) - i128::from(scene.known.now_ms);
    let wait = scene.wait(place);
    (wait > 0 && i128::from(wait) > left_ms)
        || scene.latency_max.is_some_and(|most| scene.expected(place) > most)
}

fn hold(rules: Rules) -> Set {
    rules.into_iter().filter_map(|(id, holds)| holds.then_some(id)).collect()
}

fn outside(regions: &Set, place: &Place) -> bool {
    !regions.is_empty() && !regions.iter().any(|region| lies_in(&place.region, region))
}

/// On either lane.
fn anywhere(case: &Case<'_>, place: &Place) -> Rules {
    let scene = case.scene;
    vec![
        ("residency-declared", outside(&case.labels.residency, place)),
        ("residency-tenant", outside(&case.tenant.residency, place)),
        ("cost-limit", scene.cost_max.is_some_and(|most| scene.cost(place) > most)),
        ("latency-limit", scene.latency_max.is_some_and(|most| place.latency_ms > most)),
        ("switched-off", scene.is_off(place)),
        ("role-suspended", case.roles.contains("suspended")),
        ("press-scraper-blocked", scene.tenant == "press" && scene.agent == "scraper"),
    ]
}

/// What the data subjects must have agreed to, on either lane.
fn consents(case: &Case<'_>) -> Rules {
    let labels = case.labels;
    let purpose = labels.purpose.unwrap_or_default();
    let marketing = purpose == "marketing";
    vec![
        (
            "marketing-consent",
            marketing && !labels.categories.is_empty() && !labels.consent.contains("marketing"),
        ),
        ("health-not-for-marketing", marketing && labels.categories.contains("health")),
        ("profiling-consent", purpose == "profiling" && !labels.consent.contains("profiling")),
    ]
}

/// What never leaves, and what leaves only for some places.
fn leaving(case: &Case<'_>, place: &Place) -> Rules {
    let (labels, scanned) = (case.labels, case.looked == Looked::Model);
    let of = |category: &str| labels.categories.contains(category);
    vec![
        ("restricted-stays", labels.level == Level::Restricted),
        ("unscanned-stays", labels.declared != Level::Public && !scanned),
        ("findings-stay", case.found && !scanned),
        ("nothing-looked", case.looked == Looked::Nothing),
        ("secrets-stay", of("secret") || of("credentials")),
        ("legal-privilege-stays", of("legal")),
        ("children-stay", of("child")),
        ("unknown-category-stays", labels.of_unknown_kind()),
        ("source-code-not-for-training", of("source_code") && place.trains),
        ("training-public-only", place.trains && labels.level != Level::Public),
        ("retention-public-only", labels.level == Level::Confidential && !place.keeps_nothing),
    ]
}

fn regulated(case: &Case<'_>, place: &Place) -> Rules {
    let labels = case.labels;
    let under = |regulation: &str| labels.regulations.contains(regulation);
    let adequate = lies_in(&place.region, "eu") || lies_in(&place.region, "adequate");
    vec![
        ("gdpr-region", under("gdpr") && !adequate),
        ("gdpr-consent", under("gdpr") && !labels.consent.contains("cloud_processing")),
        ("gdpr-certified", under("gdpr") && !place.certified.contains("gdpr_dpa")),
        ("hipaa-certified", under("hipaa") && !place.certified.contains("hipaa_baa")),
        ("pci-stays", under("pci")),
        ("export-control-stays", under("export_control")),
        ("sox-certified", under("sox") && !place.certified.contains("soc2")),
        ("personal-purpose", labels.about_people() && !labels.has_purpose()),
    ]
}

fn limited(case: &Case<'_>, place: &Place) -> Rules {
    let (scene, tenant) = (case.scene, case.tenant);
    let allows = |allowed: &Set| allowed.iter().any(|provider| *provider == place.target);
    vec![
        ("egress-not-ready", scene.known.unwell),
        ("flag-stay-local", scene.known.flags.contains("stay-local")),
        ("provider-allow-list", tenant.providers.as_ref().is_some_and(|allowed| !allows(allowed))),
        ("batch-cheap", scene.batch && place.price_out > 10_000_000),
        ("hops-limit", scene.known.hop > 8),
    ]
}

fn people(case: &Case<'_>, place: &Place) -> Rules {
    let is = |role: &str| case.roles.contains(role);
    vec![
        ("role-local-only", is("local-only")),
        ("contractor-certified", is("contractor") && !place.certified.contains("iso27001")),
        ("tools-cloud-role", case.scene.work.tools && !is("tools")),
    ]
}

/// Tenants' own rules: the examples that ship.
fn contracts(case: &Case<'_>, place: &Place) -> Rules {
    let tenant = case.scene.tenant;
    vec![
        ("clinic-local-only", tenant == "clinic"),
        ("bank-not-anthropic", tenant == "bank" && place.target == "anthropic"),
        ("bank-not-us", tenant == "bank" && lies_in(&place.region, "us")),
    ]
}
