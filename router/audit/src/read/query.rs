//! Queries: a filter, pages in the order of the record.

use tidegate_schemas::ids::TaskId;

use super::filter::{Cursor, Filter};
use super::search::Terms;
use super::{Reader, Record, key_file, record};
use crate::error::{Failure, ReadError};
use crate::find::term;
use crate::keys::MasterKey;
use crate::keys::task::subject_ref;
use crate::leaf::Leaf;
use crate::store::Heads;
use crate::table;

/// Records of a page where the filter gives no limit.
const LIMIT_DEFAULT: usize = 100;
/// Most records of a page.
pub(super) const LIMIT_MAX: usize = 1_000;
/// A page ends with the record that brings it here, bytes.
const PAGE_BYTES: usize = 1024 * 1024;
/// Most records that one call looks at; a page may be short for that, and goes on at its `next`.
const LOOKED_AT_MAX: usize = 100_000;
/// Rows of the index that take about as long as looking at a record.
const ROWS_A_RECORD: usize = 4;

/// One page of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The records, in the order of the record.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end. A page may be short or empty and still have one.
    pub next: Option<Cursor>,
}

/// A filter whose names are looked up.
struct Asked<'a> {
    filter: &'a Filter,
    terms: Terms,
    /// What leaves call the workflow, one a tenant.
    workflows: Option<Vec<String>>,
    /// What leaves call the person, one a tenant.
    subjects: Option<Vec<String>>,
    /// The task whose own subject is meant.
    own: Option<TaskId>,
}

impl Reader {
    /// Records that a filter matches, a page at a time. Looks at no more than 100,000 records a call.
    ///
    /// # Errors
    /// [`ReadError::KeyNeeded`] when it names a workflow or a person and no master key was given, [`ReadError::Erased`] when that
    /// person's key was destroyed; else as [`Self::get`].
    pub fn query(&self, filter: &Filter) -> Result<Page, ReadError> {
        self.look(filter, LOOKED_AT_MAX)
    }

    /// One page, or what is found of it among about `most` records.
    fn look(&self, filter: &Filter, most: usize) -> Result<Page, ReadError> {
        let asked = self.asked(filter)?;
        let limit = filter.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
        let mut page = Page { records: Vec::new(), next: None };
        let mut from = filter.after.map_or(0, |cursor| cursor.index().saturating_add(1));
        let (mut looked_at, mut bytes) = (0, 0);
        while looked_at < most {
            // A transaction of its own each time: a long one would pin pages that the writer wants back.
            let txn = self.begin()?;
            let look = asked.terms.look(&txn, from..u64::MAX)?;
            looked_at += look.indices.len() + look.rows / ROWS_A_RECORD;
            for index in look.indices {
                if let Some(found) = record(&txn, index)?.filter(|found| asked.matches(&found.leaf)) {
                    bytes += found.line.len();
                    page.records.push(found);
                }
                if page.records.len() == limit || bytes >= PAGE_BYTES {
                    page.next = Some(Cursor::at(index));
                    return Ok(page);
                }
            }
            if look.end {
                return Ok(page);
            }
            from = look.upto;
        }
        page.next = from.checked_sub(1).map(Cursor::at);
        Ok(page)
    }

    /// Looks up what a filter names and leaves do not.
    fn asked<'a>(&self, filter: &'a Filter) -> Result<Asked<'a>, ReadError> {
        let mut asked =
            Asked { filter, terms: Terms::of(filter), workflows: None, subjects: None, own: None };
        if filter.workflow.is_none() && filter.subject.is_none() {
            return Ok(asked);
        }
        let master = self.master.as_ref().ok_or(ReadError::KeyNeeded)?;
        let tenants = match &filter.tenant {
            Some(tenant) => vec![tenant.as_str().to_owned()],
            None => {
                let view = self.begin()?;
                Heads::read(&view)?.tenants.into_keys().collect()
            }
        };
        if let Some(workflow) = &filter.workflow {
            let name = |tenant: &String| hex::encode(master.workflow_ref(tenant, workflow.as_str()));
            let names: Vec<String> = tenants.iter().map(name).collect();
            asked.terms.one_of(names.iter().map(|name| term::workflow(name)).collect());
            asked.workflows = Some(names);
        }
        if let Some(subject) = &filter.subject {
            if let Some(own) = own(subject.as_str()) {
                asked.terms.one_of(vec![term::task(own)]);
                asked.own = Some(own);
                return Ok(asked);
            }
            let names = self.subject_refs(master, &tenants, subject.as_str())?;
            asked.terms.one_of(names.iter().map(|name| term::subject(name)).collect());
            asked.subjects = Some(names);
        }
        Ok(asked)
    }

    /// What leaves call a person, one a tenant that knows of that person.
    fn subject_refs(
        &self,
        master: &MasterKey,
        tenants: &[String],
        subject: &str,
    ) -> Result<Vec<String>, ReadError> {
        let txn = self.begin()?;
        let rows = txn.open_table(table::SUBJECTS).map_err(Failure::from)?;
        let (mut names, mut lost) = (Vec::new(), false);
        for tenant in tenants {
            let row = rows.get(&master.subject_lookup(tenant, subject)).map_err(Failure::from)?;
            let Some(row) = row.map(|row| row.value()) else { continue };
            match key_file(&self.dir, master)?.key(row).map_err(ReadError::of_file)? {
                Ok(key) => names.push(subject_ref(&key, subject)),
                Err(_) => lost = true,
            }
        }
        if names.is_empty() && lost { Err(ReadError::Erased) } else { Ok(names) }
    }
}

/// The task whose own subject this is: it has no key that is looked up by name.
fn own(subject: &str) -> Option<TaskId> {
    subject.strip_prefix("task:")?.parse().ok()
}

// === impl Asked ===

impl Asked<'_> {
    fn matches(&self, leaf: &Leaf) -> bool {
        let called = |names: &Option<Vec<String>>, here: &[String]| {
            names.as_ref().is_none_or(|names| here.iter().any(|name| names.contains(name)))
        };
        self.filter.matches(leaf)
            && self.own.is_none_or(|task| leaf.task == Some(task))
            && called(&self.subjects, &leaf.subjects)
            && called(&self.workflows, leaf.workflow.as_slice())
    }
}

#[cfg(test)]
mod tests;
