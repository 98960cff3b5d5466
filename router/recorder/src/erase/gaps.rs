//! Gaps that an erasure left: what the recorder said it deletes is no loss.

use tidegate_audit::GapReason;
use tidegate_bus::{ApiError, Bus};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::subject::EVENTS;

use super::RECORDER;

/// First and last sequence.
pub(crate) type Range = (u64, u64);

/// What erasures deleted of a stream, as the recorder said.
pub(crate) async fn of(bus: &Bus, wanted: &str) -> Result<Vec<Range>, ApiError> {
    let (mut found, mut next) = (Vec::new(), 1);
    while let Some(stored) = bus.first_from(EVENTS, RECORDER, next).await? {
        next = stored.sequence + 1;
        match json::read::<Control>(&stored.payload, MESSAGE_BYTES_MAX).map(|control| control.act) {
            Ok(Act::EraseMessages { stream, ranges, .. }) if stream == wanted => found.extend(ranges),
            _ => {}
        }
    }
    Ok(merge(found))
}

/// Ranges in order, none of which touches another.
fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        match merged.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// Sequences in order, as ranges.
pub(super) fn join(sequences: &[u64]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*sequence) => *last = *sequence,
            _ => ranges.push((*sequence, *sequence)),
        }
    }
    ranges
}

/// A gap in parts, each with its reason: `reason` where no erasure explains it. `erased` comes from [`of`].
pub(crate) fn split(gap: Range, reason: GapReason, erased: &[Range]) -> Vec<(Range, GapReason)> {
    let (mut at, end) = gap;
    let mut parts = Vec::new();
    let before = erased.partition_point(|(_, to)| *to < at);
    for (from, to) in erased.iter().skip(before).take_while(|(from, _)| *from <= end) {
        let (from, to) = ((*from).max(at), (*to).min(end));
        if from > at {
            parts.push(((at, from - 1), reason));
        }
        parts.push(((from, to), GapReason::Erased));
        let Some(next) = to.checked_add(1) else { return parts };
        at = next;
    }
    if at <= end {
        parts.push(((at, end), reason));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erase_explains_exactly_what_was_said() {
        const OTHER: GapReason = GapReason::Deleted;
        const ERASED: GapReason = GapReason::Erased;
        type Row<'a> = (Range, &'a [Range], &'a [(Range, GapReason)]);
        let rows: [Row<'_>; 7] = [
            ((3, 5), &[], &[((3, 5), OTHER)]),
            ((3, 5), &[(3, 5)], &[((3, 5), ERASED)]),
            ((3, 5), &[(1, 9)], &[((3, 5), ERASED)]),
            (
                (3, 9),
                &[(4, 4), (6, 7)],
                &[((3, 3), OTHER), ((4, 4), ERASED), ((5, 5), OTHER), ((6, 7), ERASED), ((8, 9), OTHER)],
            ),
            // Said twice, and overlapping.
            ((3, 5), &[(3, 4), (3, 4), (4, 5)], &[((3, 5), ERASED)]),
            ((3, 5), &[(1, 2), (6, 9)], &[((3, 5), OTHER)]),
            ((1, u64::MAX), &[(2, u64::MAX)], &[((1, 1), OTHER), ((2, u64::MAX), ERASED)]),
        ];
        for (gap, erased, parts) in rows {
            assert_eq!(split(gap, OTHER, &merge(erased.to_vec())), parts, "{gap:?} {erased:?}");
        }
        assert_eq!(join(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
    }
}
