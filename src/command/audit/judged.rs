//! Which bundle is meant by the first digits of its hash: one that the record says something of.

use std::collections::BTreeSet;

use anyhow::Result;
use tidegate_audit::leaf::{ActWord, Detail, Leaf};
use tidegate_audit::{Filter, RecordKind};
use tidegate_schemas::digest::Digest;

use crate::cli::{FilterArgs, Hash};
use crate::command::record::Record;
use crate::output;

/// Records of one page.
const PAGE: usize = 1_000;

/// What is asked for, with the whole hash of the bundle that judged.
pub(in crate::command) async fn whole(record: &Record, asked: FilterArgs) -> Result<FilterArgs> {
    let Some(hash) = asked.judged_by.as_ref().filter(|hash| hash.whole().is_none()) else { return Ok(asked) };
    // Each bundle that judges became the active one or a canary by an act.
    let acts = Filter { kind: Some(RecordKind::Control), ..Filter::default() };
    let mut known = bundles(record, acts).await?;
    let complete = record.status().await?.pruned.records == 0;
    if !complete || !known.iter().any(|one| hash.begins(one)) {
        // Acts can be gone that decisions outlast.
        known.extend(bundles(record, Filter::default()).await?);
    }
    let found = among(hash, known).map_err(output::usage)?;
    Ok(FilterArgs { judged_by: Some(Hash::from(found)), ..asked })
}

fn among(hash: &Hash, known: BTreeSet<Digest>) -> Result<Digest, String> {
    if !known.iter().any(|one| hash.begins(one)) {
        return Err(format!("--judged-by: no bundle on record begins with {hash}"));
    }
    hash.among(known).map_err(|error| format!("--judged-by: {error}"))
}

/// Bundles that records of a filter name.
async fn bundles(record: &Record, mut filter: Filter) -> Result<BTreeSet<Digest>> {
    filter.limit = Some(PAGE);
    let mut known = BTreeSet::new();
    loop {
        let (page, _) = record.page(filter.clone()).await?;
        known.extend(page.records.iter().flat_map(|record| of(&record.leaf)).flatten());
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(known),
        }
    }
}

/// The bundle that judged, and those that an act is about.
fn of(leaf: &Leaf) -> [Option<Digest>; 2] {
    let about = match &leaf.detail {
        Some(Detail::Control {
            act:
                ActWord::BundleActivate
                | ActWord::BundlePush
                | ActWord::BundleShadow
                | ActWord::BundleCanary
                | ActWord::BundlePromote
                | ActWord::BundleRollback,
            hash,
            ..
        }) => *hash,
        _ => None,
    };
    [leaf.decision.as_ref().map(|decision| decision.bundle), about]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn first_digits_of_the_bundle_that_judged_stand_for_one_on_record_or_are_refused() {
        let digest = |begin: &str| format!("{begin:0<64}").parse::<Digest>().unwrap();
        let known = BTreeSet::from([digest("4f1c00a"), digest("4f1c00b"), digest("99aabb")]);
        let found = |text: &str| among(&text.parse().unwrap(), known.clone());
        assert_eq!((found("99aabb"), found("4f1c00b")), (Ok(digest("99aabb")), Ok(digest("4f1c00b"))));
        let ambiguous = found("4f1c00").unwrap_err();
        assert!(
            ambiguous.starts_with("--judged-by: 4f1c00 may be ") && ambiguous.contains("more of its digits")
        );
        assert!(found("123456").unwrap_err().contains("no bundle on record begins with 123456"));
    }
}
