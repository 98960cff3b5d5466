//! The month's report: what the record says of one tenant, or of all, between two turns of the month in UTC.
//!
//! One pass over the whole record by index, hashing every leaf again: times are not in the order of indices, and a secondary
//! index is no evidence. What is kept on the way is counts by closed or bounded words, so ten million records take no more
//! memory than ten thousand. It reads leaves only: no body, no key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tidegate_schemas::dead::TENANT_UNKNOWN;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;

use crate::checkpoint::Checkpoint;
use crate::error::{Failure, ReadError};
use crate::read::Reader;
use crate::store::Heads;

pub use counts::{Indices, Span};
pub use month::{BadMonth, Month};
pub use people::{People, Queue, Verdicts, Waits};
pub use places::{Place, Ran, Tokens};
pub use residency::{Offence, Reached, Residency, Verdict};
pub use rows::{Acted, Anomaly, Counted, Dead, Decided, Ended, Failed, Judged, Missing, Part, Refused};
pub use shape::{Covered, Monthly, Signed, Standing, Tasks};

mod counts;
mod month;
mod people;
mod places;
mod residency;
mod rows;
mod scan;
mod shape;
mod tally;
#[cfg(test)]
mod tests;

/// Tenants named in an error.
const NAMED_MAX: usize = 10;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose month; `None` for every tenant's.
    pub tenant: Option<Name>,
    /// Which month, in UTC.
    pub month: Month,
    /// The time: a month that has not begun has no report, and one that has not ended says so.
    pub now: Timestamp,
    /// Claims to hold against the record: records of a class reached no destination outside these regions.
    pub within: BTreeMap<Sensitivity, BTreeSet<Name>>,
    /// The signed checkpoint that the records must give, its signature checked.
    pub checkpoint: Option<Checkpoint>,
    /// Checkpoints that were kept outside the record, opened: the records must give each of them too.
    pub kept: Vec<Checkpoint>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum MonthlyError {
    /// Nobody of that name.
    #[error("the record knows no tenant `{tenant}`; it knows {known}; `all` is every tenant")]
    UnknownTenant {
        /// Who was asked for.
        tenant: Name,
        /// Who is there, in words.
        known: String,
    },
    /// It has not begun.
    #[error("{month} has not begun; name a month that has, in UTC")]
    Future {
        /// The month.
        month: Month,
    },
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Reader {
    /// Reports on a month, while the record is written or not. `progress` is told records done and to do.
    ///
    /// # Errors
    /// [`MonthlyError`]; leaves whose bytes were changed, or that are missing, stand in the report.
    pub fn monthly(
        &self,
        question: &Question,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Monthly, MonthlyError> {
        if question.month.start() > question.now {
            return Err(MonthlyError::Future { month: question.month });
        }
        let heads = Heads::read(&*self.begin()?)?;
        if let Some(tenant) = &question.tenant
            && (tenant.as_str() == TENANT_UNKNOWN || !heads.tenants.contains_key(tenant.as_str()))
        {
            return Err(MonthlyError::UnknownTenant { tenant: tenant.clone(), known: known(&heads) });
        }
        let seen = scan::whole(self, question, heads.records, progress)?;
        Ok(seen.told(question))
    }
}

/// The tenants of the record in words, the first few.
fn known(heads: &Heads) -> String {
    let all = heads.tenants.keys().filter(|name| *name != TENANT_UNKNOWN);
    let all = all.map(|name| format!("`{name}`"));
    let mut names: Vec<String> = all.collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    match (names.is_empty(), more) {
        (true, _) => "none yet".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

impl From<Failure> for MonthlyError {
    fn from(failure: Failure) -> Self {
        Self::Read(failure.into())
    }
}
