//! The streams' copies of what was erased: said on record, then deleted one by one, their bytes overwritten.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use tidegate_audit::Erasure;
use tidegate_audit::erase::Holding;
use tidegate_audit::leaf::RANGES_MAX;
use tidegate_bus::{ApiError, Bus};
use tidegate_schemas::control::Act;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{REPLAY, RESULTS};

use super::desk::{EraseError, say};
use super::gaps::join;
use crate::shared::Shared;

/// Messages that are deleted at once.
const AT_ONCE: usize = 16;
/// Said of each.
const REASON: &str = "messages of a data subject that is erased are deleted";

/// Sequences by stream, in order.
pub(super) type Copies = BTreeMap<String, Vec<u64>>;

/// What the record holds of a data subject, and where its messages stand, or stood.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) held: Holding,
    pub(super) copies: Copies,
}

/// Looks on through the record from where it was looked at last.
pub(super) async fn look(
    shared: &Shared,
    erasure: &Erasure,
    mut looked: Looked,
) -> Result<Looked, EraseError> {
    let Erasure { tenant, subjects, .. } = erasure.clone();
    let read = shared.read(move |reader| {
        let Looked { held, copies } = &mut looked;
        reader.look_on(held, &tenant, &subjects, &mut |record| {
            let source = &record.leaf.source;
            copies.entry(source.stream.clone()).or_default().push(source.sequence);
            Ok(())
        })?;
        Ok(looked)
    });
    Ok(read.await.ok_or(EraseError::Closed)??)
}

/// How many of them the streams hold.
pub(super) async fn count(bus: &Bus, copies: &Copies) -> Result<u64, EraseError> {
    let mut there = replayed(bus, copies).await?.len() as u64;
    for (stream, sequences) in copies {
        let one = |sequence| bus.get(stream, sequence);
        let mut answers = futures::stream::iter(sequences.iter().copied()).map(one).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            there += u64::from(answer?.is_some());
        }
    }
    Ok(there)
}

/// Deletes them. Done again it deletes the rest.
pub(super) async fn delete(bus: &Bus, erasure: &Erasure, copies: &Copies) -> Result<(), EraseError> {
    let event = erasure.event;
    for (stream, sequences) in copies {
        for (id, act) in acts(event, stream, sequences) {
            say(bus, event, act, REASON, id).await?;
        }
    }
    // A result keeps a second one of its task out, so it goes last.
    let (results, others): (Vec<_>, Vec<_>) = copies.iter().partition(|(stream, _)| *stream == RESULTS);
    for (stream, sequences) in others.into_iter().chain(results) {
        all_of(bus, stream, sequences).await?;
    }
    Ok(all_of(bus, REPLAY, &replayed(bus, copies).await?).await?)
}

/// What is said of messages that go, with the id of each act: the same ones are said once, and where more was found since,
/// that is said too.
fn acts(event: u64, stream: &str, sequences: &[u64]) -> Vec<(String, Act)> {
    let ranges = join(sequences);
    let one = |ranges: &[(u64, u64)]| {
        let id = format!("erase-messages:{event}:{stream}:{}", digest(ranges));
        (id, Act::EraseMessages { event, stream: stream.to_owned(), ranges: ranges.to_vec() })
    };
    ranges.chunks(RANGES_MAX).map(one).collect()
}

fn digest(ranges: &[(u64, u64)]) -> Digest {
    let numbers = ranges.iter().flat_map(|(from, to)| [from.to_be_bytes(), to.to_be_bytes()]);
    Digest::plain(&numbers.flatten().collect::<Vec<u8>>())
}

/// Deletes messages of one stream.
async fn all_of(bus: &Bus, stream: &str, sequences: &[u64]) -> Result<(), ApiError> {
    if sequences.is_empty() {
        return Ok(());
    }
    let first = match bus.stream_info(stream).await {
        Ok(state) => state.first,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    let there = sequences.iter().copied().filter(|sequence| *sequence >= first);
    let one = |sequence| bus.delete(stream, sequence, true);
    let mut answers = futures::stream::iter(there).map(one).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// What replays brought of these messages into their own stream.
async fn replayed(bus: &Bus, copies: &Copies) -> Result<Vec<u64>, ApiError> {
    let erased = |of: &Position| {
        copies.get(&of.stream).is_some_and(|sequences| sequences.binary_search(&of.sequence).is_ok())
    };
    let found = all_replayed(bus).await?.into_iter().filter(|(_, of)| erased(of));
    Ok(found.map(|(sequence, _)| sequence).collect())
}

/// What the stream of replays holds: the sequence of each message there, and the message that it is a copy of.
pub(crate) async fn all_replayed(bus: &Bus) -> Result<Vec<(u64, Position)>, ApiError> {
    let mut found = Vec::new();
    let mut next = match bus.stream_info(REPLAY).await {
        Ok(state) => state.first,
        Err(error) if error.is_not_found() => return Ok(found),
        Err(error) => return Err(error),
    };
    while let Some(stored) = bus.first_from(REPLAY, ">", next).await? {
        next = stored.sequence + 1;
        let of = stored.header(header::REPLAY_POSITION).and_then(|text| text.parse::<Position>().ok());
        found.extend(of.map(|of| (stored.sequence, of)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ids(event: u64, stream: &str, sequences: &[u64]) -> Vec<String> {
        acts(event, stream, sequences).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn erase_says_the_same_messages_under_the_same_id_and_others_under_another() {
        let first = ids(7, "RESULTS", &[1, 2, 5]);
        assert_eq!(first.len(), 1);
        assert_eq!(ids(7, "RESULTS", &[1, 2, 5]), first, "said again it is absorbed");
        for (event, stream, sequences) in
            [(7, "RESULTS", &[1, 2, 5, 6][..]), (8, "RESULTS", &[1, 2, 5]), (7, "TASKS_acme", &[1, 2, 5])]
        {
            assert_ne!(ids(event, stream, sequences), first, "{event} {stream} {sequences:?}");
        }
        // More than an act takes are several acts, each of its own id, and together they name all.
        let many: Vec<u64> = (0..=RANGES_MAX as u64).map(|n| 2 * n + 1).collect();
        let said = acts(7, "RESULTS", &many);
        let different: BTreeSet<&String> = said.iter().map(|(id, _)| id).collect();
        assert_eq!((said.len(), different.len()), (2, 2));
        let named = said.iter().flat_map(|(_, act)| match act {
            Act::EraseMessages { ranges, .. } => ranges.clone(),
            _ => Vec::new(),
        });
        assert_eq!(named.map(|(from, _)| from).collect::<Vec<_>>(), many);
        // One more at the beginning moves all that follow it into other acts: none may be taken for one said before.
        let moved: Vec<u64> = (0..=RANGES_MAX as u64 + 1).map(|n| 2 * n + 1).collect();
        assert_ne!(ids(7, "RESULTS", &moved)[1], said[1].0, "a count of acts would be the same");
    }
}
