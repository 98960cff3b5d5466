#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn place(model: &str) -> Place {
    let name = |text: &str| Name::new(text).unwrap();
    Place { provider: name("openai"), endpoint: name("eu"), model: model.to_owned() }
}

/// Milliseconds after some moment.
fn ms(ms: i64) -> Timestamp {
    let begin: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    begin + SignedDuration::from_millis(ms)
}

fn failed(times: u32) -> Breaker {
    let mut breaker = Breaker::new(place("m"));
    (0..times).for_each(|number| breaker.heard(&format!("t{number}/1"), Health::Down, ms(0)));
    breaker
}

#[test]
fn breaker_opens_after_failures_in_a_row_and_not_before() {
    assert_eq!(failed(FAILURES_MAX - 1).admit("a/1", ms(0)), Admission::Go);
    assert_eq!(failed(FAILURES_MAX).admit("a/1", ms(0)), Admission::Wait(ms(OPEN_MS)));
    let mut mixed = failed(FAILURES_MAX - 1);
    mixed.heard("a/1", Health::Up, ms(0));
    mixed.heard("b/1", Health::Down, ms(0));
    assert_eq!(mixed.admit("c/1", ms(0)), Admission::Go, "in a row");
    let mut silent = failed(FAILURES_MAX - 1);
    silent.heard("a/1", Health::Unknown, ms(0));
    assert_eq!(silent.failures, FAILURES_MAX - 1, "who knows nothing says nothing");
}

#[test]
fn breaker_lets_one_probe_through_at_a_time() {
    let mut breaker = failed(FAILURES_MAX);
    assert_eq!(breaker.admit("a/1", ms(OPEN_MS - 1)), Admission::Wait(ms(OPEN_MS)));
    assert_eq!(breaker.admit("a/1", ms(OPEN_MS)), Admission::Probe);
    let until = ms(OPEN_MS + PROBE_MS);
    assert_eq!(breaker.admit("b/1", ms(OPEN_MS)), Admission::Wait(until));
    assert_eq!(breaker.broken(ms(OPEN_MS)).unwrap().until, until);
    // A probe that was never heard of again does not keep it shut for ever.
    assert_eq!(breaker.admit("c/1", until), Admission::Probe);
    breaker.heard("a/1", Health::Up, until);
    assert!(matches!(&breaker.state, State::Probing { probe, .. } if probe == "c/1"), "late: {breaker:?}");
    breaker.heard("c/1", Health::Unknown, until);
    assert_eq!(breaker.admit("d/1", until), Admission::Probe, "one that was not made makes room at once");
}

#[test]
fn breaker_closes_when_its_probe_is_answered_and_opens_for_longer_when_it_fails() {
    let mut breaker = failed(FAILURES_MAX);
    let mut now = ms(OPEN_MS);
    for trip in 1..10_u32 {
        assert_eq!(breaker.admit("p/1", now), Admission::Probe);
        breaker.heard("p/1", Health::Down, now);
        let longer = (OPEN_MS << trip).min(OPEN_MS_MAX);
        assert_eq!(breaker.admit("x/1", now), Admission::Wait(after(now, longer)), "trip {trip}");
        now = after(now, longer);
    }
    assert_eq!(breaker.admit("p/2", now), Admission::Probe);
    breaker.heard("p/2", Health::Up, now);
    assert_eq!(breaker, Breaker::new(place("m")), "as if nothing had been");
    assert!(breaker.is_calm() && !failed(1).is_calm());
}

#[test]
fn breaker_hears_nobody_but_its_probe_while_it_is_open() {
    let open = failed(FAILURES_MAX);
    for health in [Health::Up, Health::Down, Health::Unknown] {
        let mut breaker = open.clone();
        breaker.heard("before/1", health, ms(1));
        assert_eq!(breaker, open, "an attempt that began before: {health:?}");
        let mut probing = open.clone();
        probing.admit("probe/1", ms(OPEN_MS));
        let before = probing.clone();
        probing.heard("before/1", health, ms(OPEN_MS));
        assert_eq!(probing, before, "{health:?}");
    }
}

#[test]
fn breaker_is_of_one_place_and_of_no_other() {
    let name = |text: &str| Name::new(text).unwrap();
    let all = [
        place("m"),
        place("n"),
        place("org/m:latest"),
        Place { endpoint: name("us"), ..place("m") },
        Place { provider: name("other"), ..place("m") },
    ];
    let keys: std::collections::BTreeSet<String> = all.iter().map(Place::key).collect();
    assert_eq!(keys.len(), all.len());
    let fits = |key: &String| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    assert!(keys.iter().all(fits), "{keys:?}");
}
