//! Changed inputs: of JSON its values, of anything else its bytes. The same for the same seeds and number.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value};

/// Most changes to one input.
const CHANGES_MAX: u32 = 4;
/// Longest that an input grows to, bytes.
const BYTES_MAX: usize = 256 * 1024;

/// One changed input of the seeds.
#[must_use]
pub fn mutated(seeds: &[Vec<u8>], words: &[&str], number: u64) -> Vec<u8> {
    let mut dice = StdRng::seed_from_u64(number);
    let data = seeds.choose(&mut dice).cloned().unwrap_or_default();
    several(data, seeds, words, &mut dice)
}

/// One changed form of an input that came from these seeds.
#[must_use]
pub fn changed(data: Vec<u8>, seeds: &[Vec<u8>], words: &[&str], number: u64) -> Vec<u8> {
    several(data, seeds, words, &mut StdRng::seed_from_u64(number))
}

fn several(mut data: Vec<u8>, seeds: &[Vec<u8>], words: &[&str], dice: &mut StdRng) -> Vec<u8> {
    for _ in 0..dice.random_range(1..=CHANGES_MAX) {
        if dice.random_bool(0.5) && json(&mut data, dice) {
            continue;
        }
        bytes(&mut data, seeds, words, dice);
        data.truncate(BYTES_MAX);
    }
    data
}

/// Changes a value of the JSON that the data ends with, where it does.
fn json(data: &mut Vec<u8>, dice: &mut StdRng) -> bool {
    let begin = data.windows(2).position(|two| two == b"\n\n").map_or(0, |at| at + 2);
    let Ok(mut value) = serde_json::from_slice::<Value>(&data[begin..]) else { return false };
    let count = values(&value);
    let other = {
        let at = dice.random_range(0..count);
        nth(&mut value, at).map_or(Value::Null, |found| found.clone())
    };
    let at = dice.random_range(0..count);
    if let Some(found) = nth(&mut value, at) {
        change(found, other, dice);
    }
    data.truncate(begin);
    data.extend(value.to_string().into_bytes());
    true
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(all) => all.iter_mut().collect(),
        Value::Object(all) => all.values_mut().collect(),
        _ => Vec::new(),
    }
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(values).sum(),
        Value::Object(all) => all.values().map(values).sum(),
        _ => 0,
    }
}

fn nth(value: &mut Value, at: usize) -> Option<&mut Value> {
    if at == 0 {
        return Some(value);
    }
    let mut left = at - 1;
    for child in children(value) {
        let count = values(child);
        if left < count {
            return nth(child, left);
        }
        left -= count;
    }
    None
}

fn change(value: &mut Value, other: Value, dice: &mut StdRng) {
    match (dice.random_range(0..8), &mut *value) {
        (0, Value::Object(all)) => drop_one(all, dice),
        (1, Value::Object(all)) => {
            all.insert(
                ["id", "input", "", "labels", "quollzephyr"]
                    .choose(dice)
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
                other,
            );
        }
        (0, Value::Array(all)) => all.clear(),
        (1, Value::Array(all)) => all.extend(std::iter::repeat_n(other, dice.random_range(1..300))),
        (2, _) => *value = Value::Null,
        (3, _) => {
            let numbers: [Value; 4] = [0.into(), (-1).into(), u64::MAX.into(), 1e300.into()];
            *value = numbers.choose(dice).cloned().unwrap_or_default();
        }
        (4, _) => {
            *value = ["", "quollzephyr", "\u{0}", "\u{202e}", "restricted"]
                .choose(dice)
                .copied()
                .unwrap_or_default()
                .into()
        }
        (5, _) => *value = "x".repeat(dice.random_range(1..5_000)).into(),
        (6, _) => *value = (0..dice.random_range(1..40)).fold(other, |inner, _| Value::Array(vec![inner])),
        _ => *value = other,
    }
}

fn drop_one(all: &mut Map<String, Value>, dice: &mut StdRng) {
    let keys: Vec<String> = all.keys().cloned().collect();
    if let Some(key) = keys.choose(dice) {
        all.remove(key);
    }
}

/// Changes bytes: one, a few, a word, a piece of another seed.
fn bytes(data: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], dice: &mut StdRng) {
    let at = dice.random_range(0..=data.len());
    let end = (at + dice.random_range(0..16)).min(data.len());
    match dice.random_range(0..8) {
        0 if at < data.len() => data[at] ^= 1 << dice.random_range(0..8),
        1 if at < data.len() => data[at] = dice.random(),
        2 => drop(data.drain(at..end)),
        3 => data.truncate(at),
        4 => {
            let piece = data[at..end].repeat(dice.random_range(1..200));
            drop(data.splice(at..at, piece));
        }
        5 => {
            let other = seeds.choose(dice).cloned().unwrap_or_default();
            let from = dice.random_range(0..=other.len());
            data.truncate(at);
            data.extend(&other[from..]);
        }
        6 => {
            let number = [0_u64, 1, 255, u64::from(u32::MAX), 1 << 40, u64::MAX]
                .choose(dice)
                .copied()
                .unwrap_or_default();
            let (number, end) = (number.to_le_bytes(), (at + 8).min(data.len()));
            drop(data.splice(at..end, number));
        }
        _ => {
            let word = words.choose(dice).copied().unwrap_or_default();
            drop(data.splice(at..at, word.bytes()));
        }
    }
}
