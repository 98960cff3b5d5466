//! The default bundle's guarantees, told twice: by its policies through the judge, and by an oracle in plain Rust that was
//! written from the prose (`bundles/default/README.md`) and knows nothing of Cedar. Both rule on the same generated tasks.
//!
//! `words`, `scene`, `rules` and `ruling` are the oracle; the rest brings both to the same task.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_policies::{Bundle, Compared, Judge, Plain};
use tidegate_schemas::directory::Directory;

use block::{Block, Row};
use compare::{Breach, How};
use mutants::{Edit, Weakened};
use scene::{Looked, Terms};
use tally::Tally;

mod rules;
mod ruling;
mod scene;
mod words;

mod block;
mod compare;
mod dice;
mod door;
mod generate;
mod mutants;
mod people;
mod phrases;
mod replay;
mod review;
mod tally;

/// Where the chance of the comparison begins.
const SEED: u64 = 20_261_130;
/// Worlds, and tasks in each: together over a hundred thousand.
const BLOCKS: u64 = 8;
const TASKS: usize = 12_800;
/// Tasks of each of two worlds that everything is asked about, twice: over a hundred thousand requests.
const TASKS_ASKED: usize = 1_600;
/// Tasks of the first world on which a changed bundle must show.
const TASKS_OF_MUTANTS: usize = 6_400;

/// Both rule on tasks of so many worlds, by two threads with a judge each that stays, as routers have them.
fn compared(bundle: Arc<Bundle>, looked: Looked, blocks: u64, tasks: usize) -> Tally {
    let terms = door::terms(&bundle, looked);
    let judge = Judge::new(bundle).unwrap();
    let every_other = |first: u64| {
        let own = judge.for_thread().unwrap();
        let mut tally = Tally::default();
        for at in (first..blocks).step_by(2) {
            block(&own, &terms, SEED + at, tasks, &mut tally);
        }
        tally
    };
    std::thread::scope(|scope| {
        let odd = scope.spawn(|| every_other(1));
        every_other(0).join(odd.join().unwrap())
    })
}

fn block(judge: &Judge, terms: &Terms, seed: u64, tasks: usize, tally: &mut Tally) {
    let mut block = Block::new(terms, seed);
    for at in 0..tasks {
        tally.tasks += 1;
        let Some(row) = block.row() else {
            tally.refused += 1;
            continue;
        };
        let breaches = row.breaches(judge, terms, &block.directory);
        assert!(
            breaches.is_empty(),
            "task {at} of seed {seed}: {breaches:#?}\n{:#?}\n{:#?}\n{:#?}",
            row.scene,
            row.ruling,
            row.decision(judge, &block.directory)
        );
        tally.add(&row.ruling);
    }
}

/// The first tasks of the comparison, ruled on once, for many bundles.
struct Sheet {
    terms: Terms,
    rows: Vec<Row>,
    directory: Directory,
}

impl Sheet {
    fn new() -> Self {
        let terms = door::terms(&mutants::bundle(&[]), Looked::Recognisers);
        let mut block = Block::new(&terms, SEED);
        let rows = (0..TASKS_OF_MUTANTS).filter_map(|_| block.row()).collect();
        let directory = block.directory;
        Self { terms, rows, directory }
    }

    /// The breaches of a kind on the first task that has any.
    fn first(&self, bundle: Arc<Bundle>, wanted: impl Fn(&Breach) -> bool) -> Vec<Breach> {
        let judge = Judge::new(bundle).unwrap();
        let breaches = |row: &Row| {
            let mut breaches = row.breaches(&judge, &self.terms, &self.directory);
            breaches.retain(&wanted);
            breaches
        };
        self.rows.iter().map(breaches).find(|breaches| !breaches.is_empty()).unwrap_or_default()
    }
}

/// Does it for each, on two threads.
fn on_two_threads<T: Copy + Sync>(all: &[T], work: impl Fn(T) + Sync) {
    let (one, other) = all.split_at(all.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| other.iter().for_each(|item| work(*item)));
        one.iter().for_each(|item| work(*item));
    });
}

#[test]
fn oracle_and_judge_agree_on_a_hundred_thousand_tasks() {
    let tally = compared(mutants::bundle(&[]), Looked::Recognisers, BLOCKS, TASKS);
    assert!(tally.tasks >= 100_000, "{tally:#?}");
    // A comparison that does not reach something says nothing about it.
    assert!(tally.refused >= 500, "{tally:#?}");
    let outcomes = [
        ("local", 5_000),
        ("cloud", 5_000),
        ("redact", 1_000),
        ("hold", 1_000),
        ("reject", 5_000),
        ("unknown_principal", 1_000),
        ("overloaded", 100),
        ("lane_off", 100),
        ("provider_unavailable", 100),
        ("policy_denied", 1_000),
    ];
    for (outcome, least) in outcomes {
        assert!(tally.outcomes.get(outcome).is_some_and(|count| *count >= least), "{outcome}: {tally:#?}");
    }
    assert_eq!(tally.verdicts.len(), 11, "{tally:#?}");
    assert!(tally.verdicts.values().all(|count| *count >= 100), "{tally:#?}");
    for id in rules::KEEPS {
        let count = tally.guarantees.get(id).copied().unwrap_or_default();
        let asleep = rules::ASLEEP.contains(&id);
        assert!(if asleep { count == 0 } else { count >= 100 }, "{id}: {tally:#?}");
    }
    assert!(tally.guarantees.get(rules::REDACTS).is_some_and(|count| *count >= 1_000), "{tally:#?}");
    for id in rules::ALONE {
        assert!(tally.alone.get(id).is_some_and(|count| *count >= 20), "{id}: {tally:#?}");
    }
}

#[test]
fn residuals_and_memory_answer_a_hundred_thousand_requests_as_plain_cedar_does() {
    let bundle = mutants::bundle(&[]);
    let terms = door::terms(&bundle, Looked::Recognisers);
    let judge = Judge::new(bundle).unwrap();
    let asked = |plain: &Plain, seed: u64, tasks: usize| {
        let own = judge.for_thread().unwrap();
        let (mut block, mut asked) = (Block::new(&terms, seed), Compared::default());
        for _ in 0..tasks {
            let Some(row) = block.row() else { continue };
            // The second time it is remembered.
            for _ in 0..2 {
                row.ask_plainly(plain, &own, &block.directory, &mut asked);
            }
        }
        asked
    };
    let plain = Plain::new(&judge).unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| asked(&plain, SEED + 100, TASKS_ASKED));
        (asked(&plain, SEED + 101, TASKS_ASKED), other.join().unwrap())
    });
    assert_eq!((&one.differences, &other.differences), (&Vec::new(), &Vec::new()));
    assert!(one.quick + other.quick >= 100_000, "{} and {}", one.quick, other.quick);
    // The control: plain Cedar without one rule answers otherwise.
    let without = Judge::new(mutants::bundle(&[Edit::Without("switched-off")])).unwrap();
    let control = asked(&Plain::new(&without).unwrap(), SEED + 100, 200);
    assert!(!control.differences.is_empty());
}

#[test]
fn oracle_and_judge_agree_about_places_of_other_regions_and_certifications() {
    let shipped = mutants::bundle(&[]).destinations().len();
    let no_embedding = Edit::Swap("destinations.toml", "kinds = [\"embed\"]", "kinds = [\"classify\"]");
    let more = mutants::bundle(&[mutants::MORE_PLACES, no_embedding]);
    assert_eq!(more.destinations().len(), shipped + 4);
    let tally = compared(more, Looked::Recognisers, 2, TASKS / 2);
    for (outcome, least) in [("cloud", 900), ("no_capable_destination", 100)] {
        assert!(tally.outcomes.get(outcome).is_some_and(|count| *count >= least), "{outcome}: {tally:#?}");
    }
    // Only here is a place in an adequate region that has no agreement.
    assert!(tally.alone.get("gdpr-certified").is_some_and(|count| *count >= 20), "{tally:#?}");
}

#[test]
fn oracle_and_judge_agree_that_nothing_leaves_where_nothing_looks() {
    let tally = compared(mutants::bundle(&[mutants::NOTHING_LOOKS]), Looked::Nothing, 2, 2_000);
    assert!(!tally.outcomes.contains_key("cloud"), "{tally:#?}");
    assert!(tally.guarantees.get("nothing-looked").is_some_and(|count| *count > 1_000), "{tally:#?}");
    assert!(tally.alone.get("nothing-looked").is_some_and(|count| *count > 100), "{tally:#?}");
}

#[test]
fn each_guard_that_is_taken_away_is_found_and_named() {
    let sheet = Sheet::new();
    let any = |breach: &Breach| matches!(breach.how, How::Opened | How::Unsaid);
    let control = sheet.first(mutants::bundle(&[]), |_| true);
    assert!(control.is_empty(), "the control, nothing is taken away: {control:?}");
    let is_policy = |id: &&str| !rules::ASLEEP.contains(id) && !id.starts_with("floor-");
    let guards: Vec<&'static str> = rules::KEEPS.into_iter().filter(is_policy).collect();
    assert!(guards.len() >= 40);
    on_two_threads(&guards, |guard| {
        let found = sheet.first(mutants::bundle(&[Edit::Without(guard)]), any);
        let named: BTreeSet<&str> = found.iter().map(|breach| breach.guarantee.as_str()).collect();
        assert_eq!(named, BTreeSet::from([guard]), "without `{guard}`: {found:?}");
    });
}

#[test]
fn each_guard_that_is_weakened_is_found_and_named() {
    let sheet = Sheet::new();
    let all: Vec<&Weakened> = mutants::WEAKENED.iter().collect();
    on_two_threads(&all, |weak| {
        let bundle = mutants::bundle(weak.edits);
        let found = sheet.first(bundle, |breach| breach.guarantee == weak.breaks && breach.how == weak.how);
        assert!(!found.is_empty(), "{}: `{}` does not show as {:?}", weak.what, weak.breaks, weak.how);
    });
}

#[test]
fn oracle_and_judge_agree_about_replays() {
    let judge = |edits: &[Edit]| Judge::new(mutants::bundle(edits)).unwrap();
    assert_eq!(replay::differences(&judge(&[])), Vec::<String>::new());
    for policy in replay::POLICIES {
        let without = judge(&[Edit::Without(policy)]);
        assert!(!replay::differences(&without).is_empty(), "the control: without `{policy}`");
    }
}

#[test]
fn oracle_and_judge_agree_about_verdicts() {
    let judge = |edits: &[Edit]| Judge::new(mutants::bundle(edits)).unwrap();
    assert_eq!(review::differences(&judge(&[])), Vec::<String>::new());
    for policy in review::POLICIES {
        let without = judge(&[Edit::Without(policy)]);
        assert!(!review::differences(&without).is_empty(), "the control: without `{policy}`");
    }
}

#[test]
fn the_prose_names_every_policy_and_is_no_part_of_the_bundle() {
    let bundle = mutants::bundle(&[]);
    let prose = std::fs::read_to_string(mutants::shipped().join("README.md")).unwrap();
    let oracle = rules::KEEPS
        .into_iter()
        .chain(rules::PERMITS)
        .chain(replay::POLICIES)
        .chain(review::POLICIES)
        .chain([rules::REDACTS, rules::NO_REVIEW]);
    for id in oracle.clone() {
        assert!(prose.contains(&format!("`{id}`")), "`{id}` does not stand in the prose");
    }
    let known: BTreeSet<&str> = oracle.filter(|id| !id.starts_with("floor-")).collect();
    let policies: BTreeSet<&str> = bundle.policy_ids().into_iter().collect();
    assert_eq!(policies, known, "the oracle knows every policy, and no other");
    let changed = mutants::bundle(&[Edit::Append("README.md", "\nMore.\n")]);
    assert_eq!(changed.hash(), bundle.hash());
}
