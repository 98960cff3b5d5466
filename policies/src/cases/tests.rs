//! The bundles that we ship pass their own cases, and a wrong expectation is noticed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

use tidegate_schemas::decision::Outcome;

use crate::check;

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundles").join(name)
}

#[test]
fn shipped_bundles_pass_their_cases() {
    for (name, policies_min, cases_min) in [("default", 28, 67), ("demo", 25, 60)] {
        let (_, report) = check::dir(&dir(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let failed: Vec<String> = report
            .cases
            .iter()
            .filter(|ran| !ran.differences.is_empty())
            .map(|ran| format!("{}: {}", ran.name, ran.differences.join("; ")))
            .collect();
        assert!(failed.is_empty(), "{name}:\n{}", failed.join("\n"));
        assert!(report.policies >= policies_min && report.cases.len() >= cases_min, "{report:?}");
        assert!(report.passed());
    }
}

#[test]
fn a_wrong_expectation_is_noticed() {
    let (bundle, _) = check::dir(&dir("demo")).unwrap();
    let judge = crate::Judge::new(bundle).unwrap();
    let cases = judge.bundle().cases().clone();
    let mut case = cases.rows.into_iter().next().unwrap();
    case.expect.outcome = if case.expect.outcome == Outcome::Hold { Outcome::Cloud } else { Outcome::Hold };
    assert!(!case.run(&judge, &cases.directory).differences.is_empty());
}
