//! What is said to `tidegate audit report`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use tidegate_audit::report::Month;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;

/// A data class, and the regions that its records may reach.
pub(crate) type Within = (Sensitivity, BTreeSet<Name>);

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate audit report --tenant acme --month 2026-11 --out acme-2026-11.html
  tidegate audit report --tenant all --month 2026-11 --within restricted=eu --within confidential=eu,ch
  tidegate audit report --tenant acme --month 2026-11 --json
  tidegate audit report --tenant all --month 2026-11 --within restricted=eu --out nov.html --proof nov-evidence
                                             and what backs it: every record, and the checkpoint that signs them

Exit status: 0 the report was made and each claim of --within holds, 1 records are missing, were changed or are not those that were
signed (by the record's newest checkpoint, that of the cell's file outside it, or those of --checkpoint), 2 a claim does not hold, cannot be proven, or is not shown: no signed checkpoint was held against the records (--public-key
names whose it must be, where the cell's own key is not at hand), 3 the record is unreadable.")]
pub(crate) struct ReportArgs {
    /// Whose month; `all` for every tenant's.
    #[arg(long)]
    pub(crate) tenant: String,
    /// Which month, in UTC: YYYY-MM.
    #[arg(long)]
    pub(crate) month: Month,
    /// A claim to hold against the record: records of this class reached no destination outside these regions.
    #[arg(long, value_name = "CLASS=REGION,...", value_parser = within)]
    pub(crate) within: Vec<Within>,
    /// A checkpoint that was kept outside; the record must go on from it, or no claim is proven. Can be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// File for the report; absent: standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Directory to create with what backs the report: the signed records of every tenant, the checkpoint, and the report as
    /// JSON. For an auditor: `tidegate audit verify --bundle` checks it on any machine.
    #[arg(long, value_name = "DIR")]
    pub(crate) proof: Option<PathBuf>,
}

fn within(text: &str) -> Result<Within, String> {
    let (class, regions) =
        text.split_once('=').ok_or("must be a class, `=` and regions, like restricted=eu,ch")?;
    let class = match class {
        "public" => Sensitivity::Public,
        "internal" => Sensitivity::Internal,
        "confidential" => Sensitivity::Confidential,
        "restricted" => Sensitivity::Restricted,
        _ => return Err("the class must be public, internal, confidential or restricted".into()),
    };
    let regions: Result<BTreeSet<Name>, _> = regions.split(',').map(Name::new).collect();
    Ok((class, regions.map_err(|error| format!("a region: {error}"))?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::labels::Sensitivity;

    use super::within;

    #[test]
    fn a_claim_is_a_known_class_and_regions() {
        let (class, regions) = within("confidential=eu,ch").unwrap();
        assert_eq!((class, regions.len()), (Sensitivity::Confidential, 2));
        // An unknown word must not become `restricted`, as it does for labels: the claim would be about another class.
        for bad in ["confidential", "secret=eu", "restricted=", "restricted=EU", "restricted=eu,,ch", ""] {
            assert!(within(bad).is_err(), "{bad}");
        }
    }
}
