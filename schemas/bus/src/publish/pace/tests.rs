use super::*;

/// A server with one disk, or none to wait for, and a client that gets its turn only so often.
struct Server {
    /// What it works on a single, one after the other.
    single: Duration,
    /// How often the client takes what was acknowledged and sends anew.
    turn: Duration,
}

impl Server {
    /// Lets a pace meet the server with a full queue for so long.
    fn meet(&self, pace: &mut Pace, from: Instant, span: Duration) -> Instant {
        let mut now = from;
        while now < from + span {
            // In one turn the window goes, as far as the server gets meanwhile.
            let sent = pace.window();
            let needed = self.single * u32::try_from(sent).unwrap_or(u32::MAX);
            now += self.turn.max(needed);
            (0..sent).for_each(|_| pace.single_taken(now, true));
        }
        now
    }
}

#[test]
fn an_fsync_is_told_from_waiting_for_a_turn() {
    let us = Duration::from_micros;
    let rows = [
        ("no sync, quiet", us(8), us(150), true),
        ("no sync, and others at work", us(8), us(4_000), true),
        ("no sync, and many others at work", us(25), us(20_000), true),
        ("a sync each, quiet", us(280), us(150), false),
        ("a sync each, and others at work", us(280), us(4_000), false),
        ("a slow sync each", us(4_000), us(4_000), false),
    ];
    for (name, single, turn, cheap) in rows {
        let mut pace = Pace::default();
        Server { single, turn }.meet(&mut pace, Instant::now(), Duration::from_secs(4));
        assert_eq!(pace.window(), if cheap { WIDE } else { NARROW }, "{name}: {pace:?}");
        assert_eq!(pace.batch_pays_off(Instant::now(), 1_000), !cheap, "{name}");
    }
}

#[test]
fn what_changed_is_learned_anew() {
    let mut pace = Pace::default();
    let (quick, slow) = (Duration::from_micros(10), Duration::from_micros(300));
    let turn = Duration::from_micros(150);
    let now = Server { single: quick, turn }.meet(&mut pace, Instant::now(), Duration::from_secs(1));
    assert_eq!(pace.window(), WIDE);
    let now = Server { single: slow, turn }.meet(&mut pace, now, KNOWN * 2);
    assert!(pace.batch_pays_off(now, 100), "{pace:?}");
    Server { single: quick, turn }.meet(&mut pace, now, KNOWN_DEAR * 2);
    assert_eq!(pace.window(), WIDE);
}

#[test]
fn what_goes_without_waiting_tells_nothing() {
    let (mut pace, t0) = (Pace::default(), Instant::now());
    (0..5_000).for_each(|index| pace.single_taken(t0 + Duration::from_millis(1) * index, false));
    assert_eq!(pace.singles, Singles::Unknown);
}

#[test]
fn what_is_known_is_forgotten_also_while_nothing_waits() {
    let mut pace = Pace::default();
    let (single, turn) = (Duration::from_micros(10), Duration::from_micros(150));
    let now = Server { single, turn }.meet(&mut pace, Instant::now(), Duration::from_secs(1));
    assert_eq!(pace.singles, Singles::Cheap);
    pace.single_taken(now + KNOWN * 2, false);
    assert_eq!(pace.singles, Singles::Unknown);
}

#[test]
fn one_that_was_alone_and_quick_cost_no_fsync() {
    let mut pace = Pace::default();
    assert!(pace.dear().is_some(), "dear until something else is known");
    (0..200).for_each(|_| pace.lone_taken(Duration::from_micros(350)));
    assert!(pace.dear().is_some());
    (0..20).for_each(|_| pace.lone_taken(Duration::from_micros(120)));
    assert!(pace.dear().is_none());
}

#[test]
fn the_cost_of_a_batch_follows_the_last_ones() {
    let mut pace = Pace::default();
    (0..200).for_each(|_| pace.batch_taken(Instant::now(), Duration::from_millis(40), 2));
    assert!((19..=20).contains(&pace.batch.as_millis()), "{:?}", pace.batch);
}

#[test]
fn a_slow_batch_is_forgotten() {
    let (mut pace, t0) = (Pace::default(), Instant::now());
    (0..100).for_each(|_| pace.batch_taken(t0, Duration::from_secs(1), 1));
    assert!(!pace.batch_pays_off(t0, 100));
    assert!(pace.batch_pays_off(t0 + KNOWN, 100));
}
