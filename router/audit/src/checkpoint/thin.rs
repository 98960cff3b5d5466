//! Which checkpoints a record keeps. One a second would outgrow the record that it signs little of; so of old ones a few stay,
//! and their number grows with records and not with time. Whoever kept one that goes is held to it as before: a root is made from
//! the tree, not from a note.

use std::ops::ControlFlow;

/// Newest checkpoints, all of which stay.
const NEWEST: usize = 1_024;
/// Of older ones the newest in so many records stays.
const SPAN: u64 = 4_096;

/// Epoch and records of a checkpoint.
pub(crate) type Place = (u64, u64);

/// Tells of each checkpoint whether it stays, the newest first, until told to stop. The first one of a history always does: it
/// says where the history began.
pub(crate) fn sift<E>(
    newest_first: impl Iterator<Item = Result<Place, E>>,
    mut each: impl FnMut(Place, bool) -> ControlFlow<()>,
) -> Result<(), E> {
    let (mut places, mut seen, mut last) = (newest_first.peekable(), 0, None);
    while let Some(place) = places.next() {
        let (epoch, size) = place?;
        let begins = !matches!(places.peek(), Some(Ok((before, _))) if *before == epoch);
        let span = (epoch, size / SPAN);
        let stays = seen < NEWEST || begins || last != Some(span);
        (seen, last) = (seen + 1, Some(span));
        if each((epoch, size), stays).is_break() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn kept(places: &[Place]) -> Vec<Place> {
        let mut kept = Vec::new();
        let newest_first = places.iter().rev().map(|place| Ok::<_, Infallible>(*place));
        let Ok(()) = sift(newest_first, |place, stays| {
            kept.extend(stays.then_some(place));
            ControlFlow::Continue(())
        });
        kept.reverse();
        kept
    }

    #[test]
    fn checkpoints_of_old_stay_by_records_and_new_ones_all() {
        let all: Vec<Place> = (1..=20_000).map(|size| (1, size)).collect();
        let found = kept(&all);
        let newest = 20_000 - NEWEST as u64 + 1;
        let old: Vec<u64> = found.iter().map(|(_, size)| *size).filter(|size| *size < newest).collect();
        assert_eq!(old, [1, 4_095, 8_191, 12_287, 16_383]);
        assert_eq!(found.len(), old.len() + NEWEST, "all new ones");
        assert_eq!(kept(&found), found, "what stays, stays");
        assert_eq!(kept(&all[..NEWEST]), &all[..NEWEST], "negative control: few are all kept");
    }

    #[test]
    fn checkpoints_that_begin_and_end_a_history_stay() {
        let before = (10..=3_000).map(|size| (1, size));
        let all: Vec<Place> = before.chain((2_500..=9_000).map(|size| (2, size))).collect();
        let found = kept(&all);
        for place in [(1, 10), (1, 3_000), (2, 2_500), (2, 4_095), (2, 9_000)] {
            assert!(found.contains(&place), "{place:?}");
        }
        assert!(!found.contains(&(1, 2_999)), "negative control");
    }
}
