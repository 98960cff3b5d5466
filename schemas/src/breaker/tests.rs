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

/// An attempt of task `task` that was let through as others are.
fn plain(id: &str, task: u128) -> Attempt<'_> {
    Attempt { id, task: TaskId(uuid::Uuid::from_u128(task)), is_probe: false }
}

fn probe(id: &str) -> Attempt<'_> {
    Attempt { is_probe: true, ..plain(id, 1_000) }
}

/// One whose place failed so many tasks.
fn failed(times: u32) -> Breaker {
    let mut breaker = Breaker::new(place("m"));
    (0..times).for_each(|task| breaker.heard(plain("t/1", u128::from(task)), Health::Down, ms(0)));
    breaker
}

#[test]
fn breaker_opens_after_failures_in_a_row_and_not_before() {
    assert_eq!(failed(FAILURES_MAX - 1).admit("a/1", ms(0)), Admission::Go);
    assert_eq!(failed(FAILURES_MAX).admit("a/1", ms(0)), Admission::Wait(ms(OPEN_MS)));
    let mut mixed = failed(FAILURES_MAX - 1);
    mixed.heard(plain("a/1", 90), Health::Up, ms(0));
    mixed.heard(plain("b/1", 91), Health::Down, ms(0));
    assert_eq!(mixed.admit("c/1", ms(0)), Admission::Go, "in a row");
    let mut silent = failed(FAILURES_MAX - 1);
    silent.heard(plain("a/1", 90), Health::Unknown, ms(0));
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
    breaker.heard(probe("a/1"), Health::Down, until);
    assert!(matches!(&breaker.state, State::Probing { probe, .. } if probe == "c/1"), "late: {breaker:?}");
    breaker.heard(probe("c/1"), Health::Unknown, until);
    assert_eq!(breaker.admit("d/1", until), Admission::Probe, "one that was not made makes room at once");
}

#[test]
fn breaker_closes_when_its_probe_is_answered_and_opens_for_longer_when_it_fails() {
    let mut breaker = failed(FAILURES_MAX);
    let mut now = ms(OPEN_MS);
    for trip in 1..10_u32 {
        assert_eq!(breaker.admit("p/1", now), Admission::Probe);
        breaker.heard(probe("p/1"), Health::Down, now);
        let longer = (OPEN_MS << trip).min(OPEN_MS_MAX);
        assert_eq!(breaker.admit("x/1", now), Admission::Wait(after(now, longer)), "trip {trip}");
        now = after(now, longer);
    }
    assert_eq!(breaker.admit("p/2", now), Admission::Probe);
    breaker.heard(probe("p/2"), Health::Up, now);
    assert_eq!(breaker, Breaker::new(place("m")), "as if nothing had been");
    assert!(breaker.is_calm() && !failed(1).is_calm());
}

#[test]
fn breaker_hears_nobody_but_its_probe_while_it_is_open() {
    let open = failed(FAILURES_MAX);
    for health in [Health::Up, Health::Down, Health::Unknown] {
        let mut breaker = open.clone();
        breaker.heard(plain("before/1", 90), health, ms(1));
        assert_eq!(breaker, open, "an attempt that began before: {health:?}");
        let mut probing = open.clone();
        probing.admit("probe/1", ms(OPEN_MS));
        let before = probing.clone();
        probing.heard(plain("before/1", 90), health, ms(OPEN_MS));
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

#[test]
fn breaker_closes_by_a_probe_that_takes_longer_than_it_keeps_others_out() {
    let mut breaker = failed(FAILURES_MAX);
    let (first, second) = (ms(OPEN_MS), ms(OPEN_MS + PROBE_MS));
    assert_eq!(breaker.admit("a/1", first), Admission::Probe);
    assert_eq!(breaker.admit("b/1", second), Admission::Probe, "nothing was heard of the first");
    let (probing, late) = (breaker.clone(), after(second, 10_000));
    breaker.heard(probe("a/1"), Health::Up, late);
    assert_eq!(breaker, Breaker::new(place("m")), "the first is answered after 70 s");
    // Its answer is news of the place also where another probe failed meanwhile.
    let mut open = probing.clone();
    open.heard(probe("b/1"), Health::Down, second);
    assert!(matches!(open.state, State::Open { .. }));
    open.heard(probe("a/1"), Health::Up, late);
    assert_eq!(open.state, State::Closed);
    // Negative control: who was never a probe closes nothing, whatever its id.
    let mut other = probing.clone();
    other.heard(plain("a/1", 1_000), Health::Up, late);
    assert_eq!(other, probing);
}

#[test]
fn breaker_knows_its_probe_again_when_the_answer_to_its_write_was_lost() {
    let mut breaker = failed(FAILURES_MAX);
    assert_eq!(breaker.admit("a/1", ms(OPEN_MS)), Admission::Probe);
    let written = breaker.clone();
    assert_eq!(breaker.admit("a/1", ms(OPEN_MS + 5)), Admission::Probe, "read again");
    assert_eq!(breaker, written, "and written no second time");
    assert!(matches!(breaker.admit("b/1", ms(OPEN_MS + 5)), Admission::Wait(_)), "negative control");
}

#[test]
fn breaker_counts_the_attempts_of_one_task_once() {
    let mut breaker = Breaker::new(place("m"));
    for number in 0..10 * FAILURES_MAX {
        breaker.heard(plain(&format!("{number}/1"), 7), Health::Down, ms(0));
    }
    assert_eq!((breaker.failures, &breaker.state), (1, &State::Closed), "one text may be the fault");
    // Negative control: as many of different tasks open it, the first among them.
    for task in 1..u128::from(FAILURES_MAX) {
        assert_eq!(breaker.state, State::Closed);
        breaker.heard(plain("t/1", 100 + task), Health::Down, ms(0));
    }
    assert!(matches!(breaker.state, State::Open { .. }));
    assert!(breaker.failed.is_empty(), "nobody is remembered for longer than it counts");
}

#[test]
fn breaker_of_another_version_is_not_read_by_halves() {
    let written = serde_json::to_value(failed(2)).unwrap();
    let read = |value: &serde_json::Value| serde_json::from_value::<Breaker>(value.clone());
    assert_eq!(read(&written).unwrap(), failed(2), "negative control");
    let mut later = written.clone();
    later["schema_version"] = 2.into();
    assert!(read(&later).is_err());
    // As it was written before tasks were told apart.
    let mut before = written;
    before.as_object_mut().unwrap().remove("failed");
    assert_eq!(read(&before).unwrap().failures, 2);
}
