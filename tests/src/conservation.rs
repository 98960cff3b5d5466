//! Conservation: accepted = terminal + open, exactly one terminal a task (the first invariant).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tidegate_schemas::header;
use tidegate_schemas::subject::RESULTS;

use crate::client::Operator;

/// What the streams hold, as far as conservation looks at it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Positions of accepted tasks.
    pub accepted: BTreeSet<String>,
    /// Task position → positions of its terminal results.
    pub terminals: BTreeMap<String, Vec<String>>,
}

impl Ledger {
    /// What the streams hold now of the tasks of `acme`, the only tenant of a new cell.
    ///
    /// # Errors
    /// When a stream cannot be read.
    pub async fn read(operator: &Operator) -> Result<Self> {
        let mut ledger = Self::default();
        operator.messages("TASKS_acme").await?.values().for_each(|stored| ledger.accept(stored));
        operator.messages(RESULTS).await?.values().for_each(|stored| ledger.end(stored));
        Ok(ledger)
    }

    /// Notes an accepted task.
    pub fn accept(&mut self, stored: &tidegate_bus::Stored) {
        self.accepted.insert(format!("{}:{}", stored.stream, stored.sequence));
    }

    /// Notes a terminal result.
    pub fn end(&mut self, stored: &tidegate_bus::Stored) {
        let of = stored.header(header::TASK).unwrap_or("nowhere").to_owned();
        self.terminals.entry(of).or_default().push(format!("{}:{}", stored.stream, stored.sequence));
    }

    /// Accepted tasks without a terminal.
    #[must_use]
    pub fn open(&self) -> Vec<String> {
        self.accepted.iter().filter(|task| !self.terminals.contains_key(*task)).cloned().collect()
    }

    /// What breaks conservation once everything has drained; nothing when it holds.
    #[must_use]
    pub fn breaches(&self) -> Vec<String> {
        let open = self.open().into_iter().map(|task| format!("{task} has no terminal"));
        let double = self
            .terminals
            .iter()
            .filter(|(_, ends)| ends.len() > 1)
            .map(|(task, ends)| format!("{task} has {} terminals", ends.len()));
        let foreign = self
            .terminals
            .keys()
            .filter(|task| !self.accepted.contains(*task))
            .map(|task| format!("a terminal for {task}, which was not accepted"));
        open.chain(double).chain(foreign).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn whole() -> Ledger {
        let accepted = ["TASKS_a:1", "TASKS_a:2"].map(str::to_owned).into();
        let terminals = [("TASKS_a:1", "RESULTS:1"), ("TASKS_a:2", "RESULTS:2")];
        let terminals = terminals.map(|(task, end)| (task.to_owned(), vec![end.to_owned()])).into();
        Ledger { accepted, terminals }
    }

    #[test]
    fn a_lost_task_a_double_and_a_foreign_terminal_are_breaches() {
        assert!(whole().breaches().is_empty());
        let mut lost = whole();
        lost.terminals.remove("TASKS_a:2");
        assert_eq!(lost.breaches(), ["TASKS_a:2 has no terminal"]);
        let mut double = whole();
        double.terminals.get_mut("TASKS_a:1").unwrap().push("RESULTS:3".into());
        assert_eq!(double.breaches(), ["TASKS_a:1 has 2 terminals"]);
        let mut foreign = whole();
        foreign.terminals.insert("TASKS_b:9".into(), vec!["RESULTS:4".into()]);
        assert_eq!(foreign.breaches().len(), 1);
    }
}
