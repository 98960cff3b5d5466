#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{BLOCK, Places, Windows, block_of, place_of, term};
use crate::fixture::{road, store};
use crate::read::Filter;

fn of(places: &BTreeSet<u16>) -> Places {
    let mut made = Places::none();
    places.iter().for_each(|place| made.insert(*place));
    made
}

fn some() -> impl Strategy<Value = BTreeSet<u16>> {
    let place = 0..u16::try_from(BLOCK).unwrap();
    prop_oneof![
        proptest::collection::btree_set(place.clone(), 0..6),
        proptest::collection::btree_set(place, 200..600)
    ]
}

proptest! {
    #[test]
    fn places_are_what_was_put_in_as_a_list_and_as_bits(one in some(), other in some(), from in 0..BLOCK, to in 0..=BLOCK) {
        let places = of(&one);
        prop_assert_eq!(&places.iter().collect::<BTreeSet<_>>(), &one);
        let mut read = Places::none();
        read.add_row(&places.row());
        prop_assert_eq!(&read, &places);
        read.add_row(&of(&other).row());
        prop_assert_eq!(read, of(&one.union(&other).copied().collect()), "a row adds to what is there");
        let mut both = places;
        both.and(&of(&other));
        prop_assert_eq!(both, of(&one.intersection(&other).copied().collect()));
        let between = Places::between(from, to).iter().map(u64::from).collect::<Vec<_>>();
        prop_assert_eq!(between, (from..to).collect::<Vec<_>>());
    }

    #[test]
    fn windows_leave_out_nothing(times in proptest::collection::vec((0..4_096_u16, 0..1_000_u64), 1..50), from in 0..1_000_u64, span in 1..200_u64) {
        let mut windows = Windows::none();
        times.iter().for_each(|(place, time)| windows.insert(*place, *time));
        let mut read = Windows::none();
        read.add_row(&windows.row());
        prop_assert_eq!(&read, &windows);
        for (place, time) in times {
            if (from..from + span).contains(&time) {
                prop_assert!(windows.may(usize::from(place) / 64, from, from + span));
            }
        }
        prop_assert!(!windows.may(0, 2_000, 3_000), "negative control: nothing is that late");
    }
}

#[test]
fn rows_are_short_where_a_term_is_rare() {
    assert_eq!(of(&BTreeSet::from([7, 4_095])).row().len(), 4);
    assert_eq!(of(&(0..255).collect()).row().len(), 510);
    assert_eq!(of(&(0..256).collect()).row().len(), 512);
    assert_eq!((block_of(BLOCK + 1), place_of(BLOCK + 1)), (1, 1));
}

/// The numbers stand in records: a change of them would hide what was recorded before.
#[test]
fn terms_keep_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(1)).unwrap();
    let leaf = store.reader().get(1).unwrap().unwrap().leaf;
    let mut terms = Vec::new();
    term::of(&leaf, |term| terms.push(term));
    let asked = term::asked(&Filter {
        tenant: leaf.tenant.clone(),
        agent: leaf.agent.clone(),
        task: leaf.task,
        kind: Some(leaf.kind),
        outcome: leaf.decision.as_ref().map(|decision| decision.outcome),
        destination: leaf.destination().cloned(),
        policy: Some("permit-local".to_owned()),
        bundle: leaf.decision.as_ref().map(|decision| decision.bundle),
        sensitivity: leaf.sensitivity(),
        stakes: leaf.stakes(),
        subject_ref: leaf.subjects.first().cloned(),
        ..Filter::default()
    });
    assert_eq!(asked.len(), 11);
    assert!(asked.iter().all(|term| terms.contains(term)), "what is asked for is what is there");
    let acme = term::asked(&Filter { tenant: leaf.tenant, ..Filter::default() });
    assert_eq!(acme, [0x479f_89c1_1895_a312]);
}

/// As above, for the names of labels.
#[test]
fn terms_of_labels_keep_their_numbers() {
    let name = |text: &str| Some(tidegate_schemas::ids::Name::new(text).unwrap());
    let labels = Filter {
        category: name("personal"),
        regulation: name("gdpr"),
        residency: name("eu"),
        consent: name("marketing"),
        purpose: name("support"),
        ..Filter::default()
    };
    let numbers = [
        0x3a00_ac82_d638_ff7c,
        0x0835_e39e_6186_6e80,
        0x6c32_6618_bf29_0010,
        0x48fb_e34e_9e27_ab71,
        0x0747_98b3_715b_f737,
    ];
    assert_eq!(term::asked(&labels), numbers);
}
