//! How often what was reached: a comparison that never meets a guarantee says nothing about it.

use std::collections::BTreeMap;

use crate::ruling::Ruling;
use crate::words::Set;

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Tasks, those refused at the door among them.
    pub(crate) tasks: usize,
    pub(crate) refused: usize,
    /// By outcome, and by code where it is rejected.
    pub(crate) outcomes: BTreeMap<&'static str, usize>,
    /// By what was said of a place.
    pub(crate) verdicts: BTreeMap<String, usize>,
    /// Tasks by guarantee that kept them from a place, had a person agree, or permitted them.
    pub(crate) guarantees: BTreeMap<&'static str, usize>,
    /// The same, where nothing else stood in the way.
    pub(crate) alone: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(crate) fn add(&mut self, ruling: &Ruling) {
        *self.outcomes.entry(ruling.outcome.as_str()).or_default() += 1;
        if let Some(code) = ruling.code {
            *self.outcomes.entry(code).or_default() += 1;
        }
        let (mut met, mut alone) = (Set::new(), Set::new());
        for view in &ruling.views {
            *self.verdicts.entry(format!("{:?}", view.verdict)).or_default() += 1;
            met.extend(&view.because);
            if view.alone {
                alone.extend(&view.because);
            }
        }
        met.into_iter().for_each(|id| *self.guarantees.entry(id).or_default() += 1);
        alone.into_iter().for_each(|id| *self.alone.entry(id).or_default() += 1);
    }

    pub(crate) fn join(mut self, other: Self) -> Self {
        self.tasks += other.tasks;
        self.refused += other.refused;
        let pairs = [
            (&mut self.outcomes, other.outcomes),
            (&mut self.guarantees, other.guarantees),
            (&mut self.alone, other.alone),
        ];
        for (mine, theirs) in pairs {
            theirs.into_iter().for_each(|(name, count)| *mine.entry(name).or_default() += count);
        }
        for (name, count) in other.verdicts {
            *self.verdicts.entry(name).or_default() += count;
        }
        self
    }
}
