//! Random records: what is made anew from any copy is the same record.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{backup, export, goes_on, restore, same, signed, whole};
use crate::copy::{Rebuild, rebuild};
use crate::entry::{Entry, Gap, GapReason, Item};
use crate::export::Form;
use crate::fixture::{at, cancel, items, result, review, task, verdict, work};
use crate::read::Reader;

/// Streams grow in order; each step is a kind of message and a task's number.
#[derive(Default)]
struct Growing {
    next: BTreeMap<String, u64>,
    items: Vec<Item>,
}

impl Growing {
    fn sequence(&self, stream: &str) -> u64 {
        self.next.get(stream).copied().unwrap_or(1)
    }

    fn add(&mut self, entry: Entry) {
        self.next.insert(entry.stream.clone(), entry.sequence + 1);
        self.items.push(Item::Message(entry));
    }

    fn step(&mut self, (kind, n): (u8, u64)) {
        let (tasks, works, results, events) = (
            self.sequence("TASKS_acme"),
            self.sequence("WORK_LOCAL"),
            self.sequence("RESULTS"),
            self.sequence("EVENTS"),
        );
        let cause = format!("TASKS_acme:{n}");
        match kind {
            0 | 1 => self.add(task(n, tasks)),
            2 => self.add(work(n, works, &cause)),
            3 => self.add(result(n, results, "WORK_LOCAL:1", "completed")),
            4 => self.add(result(n, results, &cause, "rejected")),
            5 => self.add(review(n, events, &cause)),
            6 => self.add(verdict(events, &format!("EVENTS:{n}"))),
            7 => self.add(cancel(n, tasks)),
            8 => {
                let mut bad = task(n, tasks);
                bad.payload = "no task".into();
                self.add(bad);
            }
            9 => {
                let mut of_another = task(n, self.sequence("TASKS_globex"));
                of_another.stream = "TASKS_globex".to_owned();
                of_another.subject = "task.globex.crawler.chat".to_owned();
                self.add(of_another);
            }
            10 => {
                let mut odd = result(n, results, &cause, "working");
                odd.payload = if n % 2 == 0 { "{".into() } else { odd.payload };
                self.add(odd);
            }
            _ => {
                let (from, to) = (works, works + n);
                let reason =
                    [GapReason::Trimmed, GapReason::Deleted, GapReason::Unexplained][(n % 3) as usize];
                let stream = "WORK_LOCAL".to_owned();
                self.next.insert(stream.clone(), to + 1);
                self.items.push(Item::Gap(Gap { stream, from, to, reason, time: at(1) }));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rebuild_of_any_record_gives_the_same_root_rows_and_answers(
        steps in prop::collection::vec((0_u8..12, 1_u64..7), 1..60),
        cut in 0_usize..60,
    ) {
        let mut growing = Growing::default();
        steps.into_iter().for_each(|step| growing.step(step));
        let (first, second) = growing.items.split_at(cut.min(growing.items.len()));
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        signed(&of("record"), &[first.to_vec(), second.to_vec()]);
        let reader = Reader::open(&of("record"), None).unwrap();
        backup(&reader, &of("backup"));
        restore(&of("backup"), &of("restored")).unwrap();
        let key_file = of("record").join("keys.bin");
        for (form, from, to) in [(Form::Lines, "lines", "of-lines"), (Form::Tiles, "tiles", "of-tiles")] {
            let from = [export(&reader, &of(from), form, 0)];
            let what = Rebuild { from: &from, key_file: Some(&key_file), key: None };
            let made = rebuild(what, &of(to), &mut |_, _| {}).unwrap();
            prop_assert_eq!(made.bodies_missing, 0);
        }
        for made in ["restored", "of-lines", "of-tiles"] {
            same(&of("record"), &of(made));
            whole(&of(made));
        }
        let next = growing.sequence("EVENTS");
        goes_on(&of("restored"), &items([review(1, next, "TASKS_acme:1")]));
    }
}
