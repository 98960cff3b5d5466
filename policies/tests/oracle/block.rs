//! A generated world and tasks in it, each with what the oracle rules, and what the judge is given.

use tidegate_policies::{Compared, Judge, Plain};
use tidegate_schemas::decision::{Decision, Facts};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::Task;

use crate::compare::{Breach, breaches};
use crate::dice::Dice;
use crate::ruling::{Ruling, rule};
use crate::scene::{Scene, Terms, World};
use crate::{door, generate, people};

/// A world, from which any number of tasks come.
pub(crate) struct Block<'a> {
    dice: Dice,
    terms: &'a Terms,
    world: World,
    pub(crate) directory: Directory,
    hash: Digest,
}

/// A task that the door let in.
pub(crate) struct Row {
    pub(crate) scene: Scene,
    pub(crate) ruling: Ruling,
    task: Task,
    facts: Facts,
}

impl<'a> Block<'a> {
    pub(crate) fn new(terms: &'a Terms, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let world = people::world(&mut dice);
        let directory = door::directory(&world);
        let hash = directory.hash();
        Self { dice, terms, world, directory, hash }
    }

    /// The next task. None: the door refuses it, as the oracle says.
    pub(crate) fn row(&mut self) -> Option<Row> {
        let scene = generate::scene(&mut self.dice, self.terms);
        let (ruling, task) = (rule(self.terms, &self.world, &scene), door::task(&scene));
        match (ruling, task) {
            (Some(ruling), Some(task)) => {
                let facts = door::facts(self.terms, &scene, self.hash);
                Some(Row { scene, ruling, task, facts })
            }
            (None, None) => None,
            (None, Some(_)) => panic!("the door lets in what the prose refuses: {scene:#?}"),
            (Some(_), None) => panic!("the door refuses what the prose lets in: {scene:#?}"),
        }
    }
}

impl Row {
    pub(crate) fn decision(&self, judge: &Judge, directory: &Directory) -> Decision {
        judge.decide(&self.task, directory, &self.facts)
    }

    /// Asks everything about it, of a judge and of Cedar's own authoriser.
    pub(crate) fn ask_plainly(
        &self,
        plain: &Plain,
        judge: &Judge,
        directory: &Directory,
        into: &mut Compared,
    ) {
        plain.compare(judge, &self.task, directory, &self.facts, into);
    }

    /// In what this judge differs from the oracle.
    pub(crate) fn breaches(&self, judge: &Judge, terms: &Terms, directory: &Directory) -> Vec<Breach> {
        breaches(terms, &self.scene, &self.ruling, &self.decision(judge, directory))
    }
}
