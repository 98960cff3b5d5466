//! Recorded decisions as test cases of Cedar's own command line.

use tidegate_audit::{Filter, ReadError, Reader};
use tidegate_policies::{CedarTest, Judge};

use super::shelf::{Fetch, Shelf};
use super::{PAGE, decided, is_decided};

/// What came of making test cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Decisions that have cases.
    pub decisions: u64,
    /// Cases.
    pub cases: u64,
    /// Decisions that asked nothing: their agent is unknown, or they were turned away before.
    pub unasked: u64,
    /// Decisions whose task, bundle or directory cannot be had.
    pub unjudged: u64,
    /// Whether there are more than were wanted.
    pub cut: bool,
}

/// Why there are no more test cases.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A question cannot be written in Cedar's form.
    #[error("a decision cannot be written as a test case: {0}")]
    Form(String),
    /// Whoever takes them cannot.
    #[error("the test cases cannot be written: {0}; name a directory that is not there yet")]
    Out(#[from] std::io::Error),
}

/// Makes test cases of recorded decisions, at most `limit` of them, each under the bundle that it names. `take` gets them with
/// the judge of that bundle; `progress` is told records passed and records there are.
///
/// # Errors
/// [`CasesError`]. What cannot be judged is no error but counted.
pub fn cases(
    reader: &Reader,
    filter: &Filter,
    limit: u64,
    fetch: &mut Fetch<'_>,
    take: &mut dyn FnMut(&Judge, &[CedarTest]) -> std::io::Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written, CasesError> {
    let mut shelf = Shelf::new(reader, fetch)?;
    let mut written = Written::default();
    let mut page = Filter { after: None, limit: Some(PAGE), ..filter.clone() };
    let total = reader.status()?.records;
    loop {
        let found = reader.query(&page)?;
        for record in found.records.iter().filter(|record| is_decided(record)) {
            if written.decisions == limit {
                return Ok(Written { cut: true, ..written });
            }
            let Ok((task, recorded)) = decided(reader, record)? else {
                written.unjudged += 1;
                continue;
            };
            let directory = shelf.directory(recorded.facts.directory)?;
            let (Some(directory), Some(judge)) = (directory, shelf.judge(recorded.bundle)?) else {
                written.unjudged += 1;
                continue;
            };
            let name = format!("record {}", record.leaf.index);
            let tests =
                judge.cedar_tests(&name, &task, &directory, &recorded.facts).map_err(CasesError::Form)?;
            if tests.is_empty() {
                written.unasked += 1;
                continue;
            }
            written.decisions += 1;
            written.cases += tests.len() as u64;
            take(judge, &tests)?;
        }
        // A page may have no hit and be far on; the last one has passed all.
        progress(found.next.map_or(total, |next| (next.index() + 1).min(total)), total);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(written),
        }
    }
}
