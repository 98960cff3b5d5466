//! The targets, one a file.

mod bundle;
mod control;
mod envelope;
mod finder;
mod gguf;
mod headers;
mod redact;
mod sse;
mod ticket;

/// What reads bytes of others.
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Feeds it; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Seeds that are made rather than kept.
    pub made: fn() -> Vec<Vec<u8>>,
    /// Words that its form knows.
    pub words: &'static [&'static str],
    /// How many changed inputs a test feeds it.
    pub rounds: u32,
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    envelope::TARGET,
    headers::TARGET,
    ticket::TARGET,
    sse::TARGET,
    finder::TARGET,
    redact::TARGET,
    bundle::TARGET,
    gguf::TARGET,
];

/// Targets with a fault that was put there, which has to be found.
pub const CONTROLS: [Target; 2] = [control::DEEP, control::SLOW];

/// A word that stands in contents of seeds, and that no sentence for a producer may quote.
const CANARY: &str = "quollzephyr";

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Lines of headers, `name: value`, up to an empty one; and what comes after it.
fn headed(data: &[u8]) -> (Vec<(&str, &str)>, &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((&[][..], data), |at| (&data[..at], &data[at + 2..]));
    let lines = std::str::from_utf8(head).unwrap_or_default().lines();
    (lines.map(|line| line.split_once(": ").unwrap_or((line, ""))).collect(), body)
}
