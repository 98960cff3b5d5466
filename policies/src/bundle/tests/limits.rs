//! What a bundle says of itself, where its faults stand, and how large it may be.

use super::Variant;
use crate::bundle::BundleError;

fn refused(variant: &Variant) -> BundleError {
    variant.read().unwrap_err()
}

#[test]
fn how_long_held_work_waits_is_the_bundles_and_one_that_says_nothing_keeps_its_hash() {
    let plain = Variant::new().read().unwrap();
    assert_eq!(plain.manifest().review_ms(), 24 * 3_600_000);
    assert!(!plain.archive().contains("review_hours"));
    let hours = |hours: &str| {
        Variant::new().replace("bundle.toml", "# review_hours = 24", &format!("review_hours = {hours}"))
    };
    let longer = hours("72").read().unwrap();
    assert_eq!(longer.manifest().review_ms(), 72 * 3_600_000);
    assert_ne!(longer.hash(), plain.hash());
    for wrong in ["0", "721"] {
        let told = refused(&hours(wrong)).to_string();
        assert!(told.starts_with("`bundle.toml` line ") && told.contains("1 to 720"), "{told}");
    }
}

#[test]
fn faults_of_what_a_bundle_says_of_itself_and_of_cases_name_their_place() {
    let rows = [
        (
            Variant::new().replace("bundle.toml", "version = \"1\"", "version = \"\""),
            "bundle.toml",
            "version = \"\"",
        ),
        (
            Variant::new().replace("bundle.toml", "owner = \"governance@example.com\"", "owner = \"\""),
            "bundle.toml",
            "owner = \"\"",
        ),
        (
            Variant::new().replace(
                "cases/40-limits.toml",
                "flags = [\"stay-local\"]",
                "flags = [\"stay-locl\"]",
            ),
            "cases/40-limits.toml",
            "[[case]]",
        ),
    ];
    for (variant, file, line) in rows {
        let told = refused(&variant).told().remove(0);
        assert_eq!(told.file.as_deref(), Some(file), "{told:?}");
        let text = std::fs::read_to_string(variant.path().join(file)).unwrap();
        assert!(text.lines().nth(told.line.unwrap() - 1).unwrap().starts_with(line), "{told:?}");
    }
}

#[test]
fn a_bundle_that_no_message_could_bring_into_a_cell_is_refused() {
    let rule = |id: &str, bytes: usize| {
        let title = "x".repeat(bytes);
        format!(
            "@id(\"{id}\") @owner(\"o\") @title(\"{title}\") forbid (principal, action == Action::\"RouteCloud\", resource);"
        )
    };
    let with = |bytes: usize| {
        Variant::new()
            .write("policies/98-a.cedar", &rule("a", bytes))
            .write("policies/99-b.cedar", &rule("b", bytes))
    };
    let told = refused(&with(2_100_000)).to_string();
    assert!(told.contains("no cell could take it"), "{told}");
    let fits = with(1_500_000).read().unwrap();
    // Negative control: what a cell keeps is read as before, however large.
    assert!(crate::Bundle::from_kept(fits.archive()).is_ok());
}
