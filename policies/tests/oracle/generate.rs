//! Tasks by chance: mostly calm ones in which little is unusual, so that single guarantees decide, and some in which much is.

use crate::dice::Dice;
use crate::door;
use crate::people::{AGENTS, ALIKE_AGENTS, ALIKE_TENANTS, TENANTS};
use crate::phrases::{CLEAN, CONTACTS, FOUND};
use crate::scene::{Kind, Known, Lane, Off, Place, Scene, Terms, Work};
use crate::words::{Set, Words};

const SENSITIVITIES: [&str; 13] = [
    "public",
    "public",
    "public",
    "public",
    "public",
    "internal",
    "internal",
    "confidential",
    "restricted",
    "PUBLIC",
    "publi\u{441}",
    "public ",
    "cosmic",
];
const CATEGORIES: [&str; 22] = [
    "personal",
    "personal",
    "health",
    "hr",
    "finance",
    "legal",
    "legal",
    "child",
    "card",
    "bank_account",
    "national_id",
    "network",
    "network",
    "credentials",
    "secret",
    "source_code",
    "source_code",
    "opaque",
    "marked",
    "gossip",
    "helth",
    "unknown",
];
const REGULATIONS: [&str; 11] = [
    "gdpr",
    "gdpr",
    "gdpr",
    "hipaa",
    "hipaa",
    "pci",
    "sox",
    "sox",
    "export_control",
    "gdpr-2",
    "martian-law",
];
const REGIONS: [&str; 16] = [
    "eu", "eu", "us", "europe", "world", "de", "fr", "ie", "ch", "uk", "jp", "adequate", "eu-", "eu-west",
    "nowhere", "atlantis",
];
const CONSENTS: [&str; 6] =
    ["cloud_processing", "cloud_processing", "marketing", "profiling", "cloud-processing", "unknown"];
const PURPOSES: [&str; 10] = [
    "support",
    "research",
    "operations",
    "marketing",
    "profiling",
    "hiring",
    "hiring",
    "none",
    "unknown",
    "marketing-",
];
const STAKES: [&str; 6] = ["low", "medium", "high", "high", "cosmic", "LOW"];
/// Flags that operators set: of this bundle, and of others.
const FLAGS: [&str; 4] = ["stay-local", "stay-local", "stay_local", "go-anywhere"];
/// What a model finds; the last is no entity of the bundle's.
const ENTITIES: [&str; 7] =
    ["person", "address", "place", "url", "passport", "routing_number", "blood_group"];
/// Names that are none: other case, blanks, letters of other scripts, full-width and invisible ones.
const NO_NAMES: [&str; 10] =
    ["EU", "e u", " eu", "\u{435}u", "\u{ff45}\u{ff55}", "eu\u{200b}", "", "-eu", "h\u{435}alth", "GDPR"];

/// One task among these places and people.
pub(crate) fn scene(dice: &mut Dice, terms: &Terms) -> Scene {
    // Of so many things one is unusual.
    let calm = dice.pick(&[14, 14, 9, 4]);
    let mut scene = Scene {
        tenant: dice.pick(&TENANTS),
        agent: AGENTS[0].0,
        body_tenant: None,
        kind: dice.pick(&[Kind::Chat, Kind::Chat, Kind::Chat, Kind::Extract, Kind::Classify, Kind::Embed]),
        batch: dice.once_in(5),
        work: Work::default(),
        declared: words(dice, calm),
        inherited: None,
        cost_max: None,
        latency_max: None,
        deadline_ms: dice.pick(&[1, 1_000, 300_000, 300_000, 3_600_000]),
        known: Known::default(),
    };
    who(dice, calm, &mut scene);
    work(dice, calm, &mut scene);
    story(dice, &mut scene);
    if dice.once_in(150) {
        misname(dice, &mut scene.declared);
    }
    size(dice, terms, &mut scene);
    limits(dice, calm, terms, &mut scene);
    known(dice, calm, terms, &mut scene);
    scene
}

fn place<'a>(dice: &mut Dice, terms: &'a Terms) -> &'a Place {
    &terms.places[dice.below(terms.places.len())]
}

fn who(dice: &mut Dice, calm: usize, scene: &mut Scene) {
    if dice.once_in(3) {
        scene.tenant = "demo";
    }
    if dice.once_in(3) {
        scene.agent = dice.pick(&AGENTS).0;
    }
    if dice.once_in(calm * 4) {
        scene.tenant = dice.pick(&ALIKE_TENANTS);
    }
    if dice.once_in(calm * 4) {
        scene.agent = dice.pick(&ALIKE_AGENTS);
    }
    if dice.once_in(40) {
        scene.body_tenant = Some(if dice.once_in(2) { scene.tenant } else { dice.pick(&TENANTS) });
    }
}

/// Labels as somebody may write them.
fn words(dice: &mut Dice, calm: usize) -> Words {
    let mut words = Words { sensitivity: "public", ..Words::default() };
    if dice.once_in(2) {
        words.sensitivity = dice.pick(&SENSITIVITIES);
    }
    if dice.once_in(calm) {
        words.categories = dice.some(&CATEGORIES, 2);
    }
    if dice.once_in(calm) {
        words.regulations = dice.some(&REGULATIONS, 2);
    }
    if dice.once_in(calm) {
        words.residency = dice.some(&REGIONS, 3);
    }
    if dice.once_in(3) {
        words.consent = dice.some(&CONSENTS, 3);
    }
    if dice.once_in(calm) {
        words.purpose = Some(dice.pick(&PURPOSES));
    }
    if dice.once_in(calm) {
        words.stakes = Some(dice.pick(&STAKES));
    }
    words
}

fn work(dice: &mut Dice, calm: usize, scene: &mut Scene) {
    let work = &mut scene.work;
    if dice.once_in(calm) {
        work.planted.push(dice.pick(&FOUND));
    }
    while dice.once_in(6) {
        work.planted.push(dice.pick(&CLEAN));
    }
    if dice.once_in(calm * 2) {
        work.planted.push(dice.pick(&FOUND));
    }
    work.hidden = dice.once_in(3);
    if scene.kind == Kind::Chat {
        work.tools = dice.once_in(calm) || (scene.agent == "toolsmith" && dice.once_in(2));
        work.stream = dice.once_in(4);
    }
}

/// What guarantees are about, oftener than chance alone brings it.
fn story(dice: &mut Dice, scene: &mut Scene) {
    let declared = &mut scene.declared;
    match dice.below(27) {
        // Declared public, and it is not.
        0 => {
            declared.sensitivity = "public";
            scene.work.planted.push(dice.pick(&FOUND));
        }
        // A task that goes on from another's result, of which more is known than it declares.
        1 | 2 => {
            declared.sensitivity = "public";
            let calm = dice.pick(&[1, 2, 4]);
            scene.inherited = Some(words(dice, calm));
        }
        3 => {
            declared.purpose = Some("marketing");
            declared.categories = dice.some(&["health", "personal", "network", "source_code"], 1);
            declared.consent = dice.some(&["marketing", "marketing", "cloud_processing"], 2);
        }
        4 => {
            declared.purpose = Some("profiling");
            declared.consent = dice.some(&["profiling", "marketing", "cloud_processing"], 2);
        }
        5 => {
            declared.sensitivity = "public";
            declared.regulations = dice.some(&["gdpr"], 1);
            declared.consent = dice.some(&["cloud_processing", "cloud_processing", "marketing"], 1);
        }
        6 => {
            declared.sensitivity = "public";
            declared.regulations = dice.some(&["hipaa", "pci", "sox", "export_control"], 2);
        }
        7 => {
            declared.sensitivity = "public";
            declared.residency = dice.some(&REGIONS, 3);
        }
        8 => {
            declared.sensitivity = "public";
            declared.categories = dice.some(&CATEGORIES, 1);
            declared.purpose = dice.pick(&[None, Some("support"), Some("unknown")]);
        }
        // Who may send what is confidential, once it was scanned.
        9 | 10 => {
            (scene.tenant, scene.agent) = ("demo", "counsel");
            declared.sensitivity = "confidential";
            declared.consent = ["cloud_processing"].into();
            if dice.once_in(2) {
                declared.categories = ["personal"].into();
                declared.purpose = Some("support");
                declared.stakes = Some("medium");
            }
        }
        // What may leave once contacts in it are replaced.
        11..=13 => {
            (scene.tenant, scene.agent) = ("demo", "liaison");
            declared.sensitivity = "public";
            scene.work.planted.push(dice.pick(&CONTACTS));
            if dice.once_in(3) {
                scene.known.redacted = Some(if dice.once_in(3) { ["personal"].into() } else { Set::new() });
            }
        }
        _ => {}
    }
}

/// Puts a name that is none somewhere.
fn misname(dice: &mut Dice, words: &mut Words) {
    let name = dice.pick(&NO_NAMES);
    let list = match dice.below(5) {
        0 => {
            words.purpose = Some(name);
            return;
        }
        1 => &mut words.categories,
        2 => &mut words.regulations,
        3 => &mut words.consent,
        _ => &mut words.residency,
    };
    list.insert(name);
}

/// How long input and output are; at times as long as what a place holds, give or take one.
fn size(dice: &mut Dice, terms: &Terms, scene: &mut Scene) {
    scene.work.bytes = door::input(scene).1;
    let asks = matches!(scene.kind, Kind::Chat | Kind::Extract);
    let context = place(dice, terms).context_tokens;
    if asks && dice.once_in(6) {
        let left = dice.near(context.saturating_sub(scene.tokens().0));
        let few = dice.pick(&[1, 64, 4_096, 8_000, 20_000, 32_768]);
        scene.work.tokens_max =
            Some(u32::try_from(left).ok().filter(|left| (1..=32_768).contains(left)).unwrap_or(few));
    }
    // A task has at most half a megabyte, which is long to look at: rarely.
    let rarely = if context > 100_000 { 1_500 } else { 60 };
    let input = dice.near(context.saturating_sub(scene.tokens().1));
    let bytes = usize::try_from(input * 4).unwrap_or(usize::MAX);
    if dice.once_in(rarely) && bytes > scene.work.bytes && bytes < 515_000 {
        scene.work.filler = bytes - scene.work.bytes;
        scene.work.bytes = bytes;
    }
}

fn limits(dice: &mut Dice, calm: usize, terms: &Terms, scene: &mut Scene) {
    let place = place(dice, terms);
    if dice.once_in(calm) {
        let close = dice.near(scene.cost(place));
        scene.cost_max = Some(dice.pick(&[0, 1, close, close, close, 500_000, 1 << 50, u64::MAX]));
    }
    if dice.once_in(calm) {
        let close = dice.near(place.latency_ms);
        scene.latency_max = Some(dice.pick(&[0, close, close, close + 100, 3_600_000]));
    }
}

fn known(dice: &mut Dice, calm: usize, terms: &Terms, scene: &mut Scene) {
    let deadline_ms = scene.deadline_ms as i64;
    scene.known.now_ms =
        dice.pick(&[0, 0, 40, 40, deadline_ms - 1, deadline_ms, deadline_ms + 1, 31_536_000_000]);
    let known = &mut scene.known;
    if dice.once_in(calm) {
        known.hop = dice.pick(&[1, 2, 8, 9, 9, 16]);
        known.lane_max = dice.pick(&[None, None, Some(Lane::Local), Some(Lane::Cloud)]);
    }
    if dice.once_in(calm) {
        let all = dice.once_in(3);
        let some = terms.places.iter().filter(|_| all || dice.once_in(3));
        known.tried = some.map(|place| place.name.clone()).collect();
    }
    while dice.once_in(calm) {
        known.off.push(off(dice, terms));
    }
    known.approved = dice.once_in(calm);
    if dice.once_in(calm) {
        let left = u64::try_from(deadline_ms - known.now_ms).unwrap_or_default();
        for place in &terms.places {
            let wait = dice.pick(&[0, 1, 50, left, left + 1, left + 1]);
            known.waits.insert(place.target.clone(), wait);
        }
    }
    if dice.once_in(calm) {
        known.in_flight = dice.pick(&[1, 2, 3, 99, 100, 101]);
    }
    known.unwell = dice.once_in(calm);
    if dice.once_in(calm) {
        let calm = dice.pick(&[1, 2, 4]);
        known.session = Some(words(dice, calm));
    }
    if dice.once_in(calm) {
        known.flags = dice.some(&FLAGS, 2);
    }
    if !terms.model.is_empty() && dice.once_in(4) {
        // Mostly nothing.
        known.scanned = Some(if dice.once_in(4) { dice.some(&ENTITIES, 2) } else { Set::new() });
    }
}

fn off(dice: &mut Dice, terms: &Terms) -> Off {
    let place = place(dice, terms).clone();
    let mut off = Off::default();
    match dice.below(7) {
        0 => off.lane = Some(Lane::Local),
        1 => off.lane = Some(Lane::Cloud),
        2 => off.target = Some(place.target),
        3 => off.model = Some(place.model),
        4 => off.target = Some(format!("{}-", place.target)),
        5 => (off.lane, off.model) = (Some(Lane::Local), Some(place.model)),
        _ => {}
    }
    if dice.once_in(4) {
        off.tenant = Some(dice.pick(&TENANTS));
    }
    off
}
