//! Losing any `forbid` is noticed, and so is a policy that determines nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::bundle::Bundle;
use crate::bundle::tests::Variant;
use crate::cases::{self, Bench};
use crate::judge::Judge;

fn judge(bundle: Bundle) -> Judge {
    Judge::new(Arc::new(bundle)).unwrap()
}

#[test]
fn no_default_policy_is_silent_and_no_lost_forbid_unnoticed() {
    let judge = judge(Variant::new().read().unwrap());
    let (mut last, mut calls) = ((0, 0), 0);
    let trial = super::run(&judge, &[], &mut |done, of| (last, calls) = ((done, of), calls + 1));
    let failed: Vec<String> =
        trial.failed().iter().map(|ran| format!("{}: {}", ran.name, ran.differences.join("; "))).collect();
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!((&trial.silent, &trial.survivors), (&vec![], &vec![]));
    assert!(trial.passed() && trial.mutants > 35, "{} mutants", trial.mutants);
    let steps = trial.ran.len() + trial.mutants;
    assert_eq!((last, calls), ((steps, steps), steps), "every step is told once");
}

#[test]
fn what_a_bundle_takes_from_its_sibling_is_tried_there() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/demo");
    let bundle = Bundle::from_dir(&demo).unwrap();
    let archive = bundle.archive().to_owned();
    let trial = super::run(&judge(bundle), &[], &mut |_, _| {});
    let failed: Vec<String> =
        trial.failed().iter().map(|ran| format!("{}: {}", ran.name, ran.differences.join("; "))).collect();
    assert_eq!((failed, &trial.silent, &trial.survivors), (vec![], &vec![], &vec![]));
    assert_eq!(trial.mutants, 4, "its own links");
    assert!(trial.passed() && trial.taken > 40, "{} taken", trial.taken);
    // Negative control: alone it has to show all of it, and would not with fewer cases.
    let alone = super::run(&judge(Bundle::from_archive(&archive).unwrap()), &[], &mut |_, _| {});
    assert!(alone.passed() && alone.taken == 0 && alone.mutants > 35, "{:?}", alone.survivors);
    let mut fewer: serde_json::Value = serde_json::from_str(&archive).unwrap();
    fewer["cases"]["cedar"] = serde_json::json!([]);
    let fewer = Bundle::from_archive(&fewer.to_string()).unwrap();
    let alone = super::run(&judge(fewer), &[], &mut |_, _| {});
    assert!(!alone.passed() && alone.taken == 0, "{:?}", alone.survivors);
}

#[test]
fn what_no_case_misses_is_named() {
    let idle = "@id(\"idle\") @owner(\"o\") @title(\"t\") forbid (principal, action in [Action::\"Route\"], resource) when { context.hop > 99 };
        @id(\"unlinked\") @owner(\"o\") @title(\"t\") forbid (principal in ?principal, action in [Action::\"Route\"], resource);";
    let trial = super::run(
        &judge(Variant::new().write("policies/99-more.cedar", idle).read().unwrap()),
        &[],
        &mut |_, _| {},
    );
    assert_eq!(
        (trial.silent, trial.survivors),
        (vec!["idle".to_owned(), "unlinked".to_owned()], vec!["idle".to_owned()])
    );
    // It determines cases, yet none of them would come out otherwise: covered, and all the same a survivor.
    let twice = "@id(\"twice\") @owner(\"o\") @title(\"t\") forbid (principal, action == Action::\"RouteCloud\", resource) when { context.sensitivity == Sensitivity::\"restricted\" };";
    let trial = super::run(
        &judge(Variant::new().write("policies/99-more.cedar", twice).read().unwrap()),
        &[],
        &mut |_, _| {},
    );
    assert_eq!(trial.silent, Vec::<String>::new());
    assert!(trial.survivors.contains(&"twice".to_owned()) && !trial.passed(), "{:?}", trial.survivors);
}

/// The shortcut against the long way: every case again, without each `forbid`.
#[test]
fn running_only_the_cases_concerned_misses_no_mutant() {
    let judge = judge(Variant::new().read().unwrap());
    let subjects = cases::subjects(&judge, &[]);
    let bench = Bench::new(&judge);
    let whole: Vec<_> = subjects.iter().map(|subject| bench.run(subject)).collect();
    let bundle = judge.bundle();
    let forbids: Vec<&str> =
        bundle.policy_ids().into_iter().filter(|id| super::forbids(bundle, id)).collect();
    let (mut unconcerned, mut changed) = (0, 0);
    for id in forbids.iter().step_by(4) {
        let mutant = judge.without(id);
        let bench = Bench::new(&mutant);
        for (subject, before) in subjects.iter().zip(&whole) {
            let after = bench.run(subject);
            let same = (&after.differences, &after.policies) == (&before.differences, &before.policies);
            if before.policies.contains(*id) {
                changed += usize::from(!same);
            } else {
                unconcerned += 1;
                assert!(same, "{id}: {}", before.name);
            }
        }
    }
    assert!(unconcerned > 200 && changed > 20, "{unconcerned} unconcerned, {changed} changed");
}
