//! A provider's stream of events. The first byte says in what pieces it comes.

use tidegate_providers::sse::{Event, Events, SseError};

use super::{Target, none};

pub(super) const TARGET: Target = Target {
    name: "sse",
    run,
    made: none,
    words: &[
        "data: ",
        "data:",
        "event: ",
        "\r\n",
        "\r",
        "\n\n",
        ":",
        "\u{feff}",
        "[DONE]",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}",
    ],
    rounds: 20_000,
};

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, Option<SseError>) {
    let (mut events, mut all) = (Events::default(), Vec::new());
    for piece in pieces {
        match events.push(piece) {
            Ok(more) => all.extend(more),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

fn run(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let one_by_one = read(stream.chunks(1));
    let size = usize::from(first % 61) + 1;
    let pieces = read(stream.chunks(size));
    // An error takes the events of its own piece along.
    assert_eq!(one_by_one.1, pieces.1, "an error depends on the pieces of {size}");
    assert!(one_by_one.0.starts_with(&pieces.0), "events depend on the pieces of {size}");
    assert!(
        pieces.1.is_some() || one_by_one.0.len() == pieces.0.len(),
        "events are lost in pieces of {size}"
    );
    let bytes: usize = pieces.0.iter().map(|event| event.data.len() + event.name.len()).sum();
    assert!(bytes <= stream.len(), "more than came");
}
