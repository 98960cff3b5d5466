//! The counts against the tables: every sequence of every stream is accounted for, and no task is lost.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use super::{Fault, Level, Report};
use crate::error::Failure;
use crate::read::Reader;
use crate::store::Heads;
use crate::table;
use crate::task::Row;

/// What is wrong beside the records themselves, in a report of its own.
pub(super) fn check(reader: &Reader, heads: &Heads, level: Level) -> Result<Report, Failure> {
    let mut report = Report::new(level, 0, 0);
    if level != Level::Quick {
        for (stream, (number, next)) in &heads.streams {
            sequences(&*reader.begin()?, stream, *number, *next, &mut report)?;
        }
    }
    if !is_conserved(&*reader.begin()?, level)? {
        report.add(None, None, Fault::Conservation);
    }
    Ok(report)
}

/// Checks that each sequence of a stream is recorded or lies in a recorded gap.
fn sequences(
    txn: &ReadTransaction,
    stream: &str,
    number: u32,
    next: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let (start, end) = (table::source(number, 0), table::source(number, next));
    let mut gaps = BTreeMap::new();
    for row in txn.open_table(table::GAPS)?.range::<&[u8; 12]>(&start..&end)? {
        let (key, value) = row?;
        gaps.insert(table::sequence_of(key.value()), value.value().0);
    }
    // What was pruned is accounted for as a whole; until it is in no index, by its rows too.
    let mut pruned = BTreeMap::new();
    if Heads::read(txn)?.live_first > 0 {
        for row in txn.open_table(table::PRUNED)?.range::<&[u8; 12]>(&start..&end)? {
            let (key, span) = row?;
            pruned.insert(table::sequence_of(key.value()), span.value().0);
        }
    }
    gaps.retain(|from, _| !lies_in(&pruned, *from));
    gaps.extend(&pruned);
    let src = txn.open_table(table::SRC)?;
    let mut expected = 1;
    for row in src.range::<&[u8; 12]>(&start..&end)? {
        let sequence = table::sequence_of(row?.0.value());
        if lies_in(&pruned, sequence) {
            continue;
        }
        expected = over_gaps(&gaps, expected);
        if sequence != expected {
            report.add(None, Some(format!("{stream}:{expected}")), Fault::Sequence);
        }
        expected = sequence + 1;
    }
    if over_gaps(&gaps, expected) != next {
        report.add(None, Some(format!("{stream}:{expected}")), Fault::Sequence);
    }
    Ok(())
}

/// Whether one of these spans has a sequence.
fn lies_in(spans: &BTreeMap<u64, u64>, sequence: u64) -> bool {
    spans.range(..=sequence).next_back().is_some_and(|(_, to)| *to >= sequence)
}

/// The sequence after the gaps that begin here.
fn over_gaps(gaps: &BTreeMap<u64, u64>, mut at: u64) -> u64 {
    while let Some(last) = gaps.get(&at) {
        at = last.saturating_add(1);
    }
    at
}

/// Checks that accepted = ended + open, by the counts and, beyond a quick check, by the rows themselves.
fn is_conserved(txn: &ReadTransaction, level: Level) -> Result<bool, Failure> {
    let heads = Heads::read(txn)?;
    let open = txn.open_table(table::OPEN)?.len()?;
    let mut sound = heads.accepted == heads.ended + open;
    if level != Level::Quick {
        let meta = txn.open_table(table::META)?;
        let count = |name: &str| -> Result<u64, Failure> { Ok(meta.get(name)?.map_or(0, |row| row.value())) };
        let (mut accepted, mut ended) =
            (count(table::META_PRUNED_ACCEPTED)?, count(table::META_PRUNED_ENDED)?);
        for row in txn.open_table(table::TASKS)?.iter()? {
            let row = serde_json::from_slice::<Row>(row?.1.value()).ok();
            let opened = row.as_ref().is_some_and(|row| row.opened.is_some());
            accepted += u64::from(opened);
            ended += u64::from(opened && row.is_some_and(|row| row.terminal.is_some()));
        }
        sound &= accepted == heads.accepted && ended == heads.ended;
    }
    sound &= txn.open_table(table::REC)?.len()?.saturating_add(heads.live_first) == heads.records;
    Ok(sound)
}
