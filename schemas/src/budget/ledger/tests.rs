#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jiff::SignedDuration;

use super::super::Cap;
use super::*;
use crate::ids::Name;

mod many;

fn at(text: &str) -> Timestamp {
    format!("2026-11-23T{text}Z").parse().unwrap()
}

fn ledger() -> Ledger {
    Ledger::new(Scope::Tenant { tenant: Name::new("acme").unwrap() })
}

fn most(requests: u64, tokens: u64, usd_micros: u64) -> Amounts {
    Amounts { requests, tokens, usd_micros }
}

fn caps(list: &[(Window, Cap)]) -> Caps {
    list.iter().copied().collect()
}

fn requests(count: u64) -> Cap {
    Cap { requests: Some(count), ..Cap::default() }
}

fn refused(reserved: Reserved) -> Spent {
    match reserved {
        Reserved::Refused(spent) => spent,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn budget_windows_are_aligned_to_utc() {
    let rows = [
        (Window::Minute, "12:34:56", "12:34:00", "12:35:00"),
        (Window::Hour, "12:34:56", "12:00:00", "13:00:00"),
        (Window::Minute, "12:34:00", "12:34:00", "12:35:00"),
    ];
    for (window, moment, start, end) in rows {
        assert_eq!(window.start(at(moment)), at(start));
        assert_eq!(window.end(at(start)), at(end));
    }
    assert_eq!(Window::Day.start(at("12:34:56")), at("00:00:00"));
    let before_1970 = Timestamp::from_second(-1).unwrap();
    assert_eq!(Window::Minute.start(before_1970), Timestamp::from_second(-60).unwrap());
}

#[test]
fn budget_each_unit_and_window_has_its_own_limit_and_the_one_that_lasts_longest_is_named() {
    let now = at("12:00:30");
    let rows = [
        (caps(&[(Window::Minute, requests(0))]), Some((Window::Minute, Unit::Requests))),
        (
            caps(&[(Window::Hour, Cap { tokens: Some(9), ..Cap::default() })]),
            Some((Window::Hour, Unit::Tokens)),
        ),
        (
            caps(&[(Window::Day, Cap { usd_micros: Some(4), ..Cap::default() })]),
            Some((Window::Day, Unit::UsdMicros)),
        ),
        (
            caps(&[(Window::Minute, requests(0)), (Window::Day, requests(0))]),
            Some((Window::Day, Unit::Requests)),
        ),
        (caps(&[(Window::Day, Cap { requests: Some(1), tokens: Some(10), usd_micros: Some(5) })]), None),
        (caps(&[(Window::Day, Cap::default())]), None),
        (Caps::new(), None),
    ];
    for (caps, expected) in rows {
        let reserved = ledger().reserve(&caps, "t/1", 1, most(1, 10, 5), now);
        match expected {
            None => assert_eq!(reserved, Reserved::New, "{caps:?}"),
            Some((window, unit)) => {
                let spent = refused(reserved);
                assert_eq!((spent.window, spent.unit), (window, unit), "{caps:?}");
                assert_eq!(spent.until, window.end(window.start(now)));
            }
        }
    }
}

#[test]
fn budget_what_is_settled_frees_what_was_reserved_too_much_and_a_new_window_begins_at_nothing() {
    let caps = caps(&[(Window::Minute, Cap { tokens: Some(100), ..Cap::default() })]);
    let mut ledger = ledger();
    assert_eq!(ledger.reserve(&caps, "a/1", 1, most(1, 80, 0), at("12:00:00")), Reserved::New);
    refused(ledger.reserve(&caps, "b/1", 2, most(1, 30, 0), at("12:00:01")));
    assert!(ledger.settle("a/1", most(1, 20, 0)));
    assert!(!ledger.settle("a/1", most(1, 20, 0)), "once");
    assert_eq!(ledger.reserve(&caps, "b/1", 2, most(1, 80, 0), at("12:00:02")), Reserved::New);
    assert_eq!(ledger.counts(Window::Minute, at("12:00:03")).tokens, 100);
    assert_eq!(ledger.spent(&caps, at("12:00:03")).unwrap().until, at("12:01:00"));
    assert_eq!(ledger.spent(&caps, at("12:01:00")), None, "the window has ended");
    assert_eq!(ledger.counts(Window::Minute, at("12:01:00")).tokens, 0);
    assert_eq!(ledger.reserve(&caps, "c/1", 3, most(1, 100, 0), at("12:01:00")), Reserved::New);
    // Whoever is heard of after his window has ended counts nowhere in it.
    ledger.settle("b/1", most(1, 80, 0));
    assert_eq!(ledger.counts(Window::Minute, at("12:01:01")).tokens, 100);
}

#[test]
fn budget_the_same_attempt_is_reserved_once_whoever_delivers_it() {
    let caps = caps(&[(Window::Hour, requests(1))]);
    let mut ledger = ledger();
    let now = at("12:00:00");
    assert_eq!(ledger.reserve(&caps, "a/1", 1, most(1, 0, 0), now), Reserved::New);
    assert_eq!(ledger.reserve(&caps, "a/1", 2, most(1, 0, 0), now), Reserved::Known);
    assert_eq!(ledger.counts(Window::Hour, now).requests, 1);
    assert!(!ledger.release("a/1", 1), "it was taken over, and may have left");
    assert!(ledger.release("a/1", 2));
    assert_eq!(ledger.counts(Window::Hour, now).requests, 0);
}

#[test]
fn budget_of_a_worker_that_died_stays_counted_until_its_window_ends() {
    let caps = caps(&[(Window::Minute, requests(1)), (Window::Hour, requests(3))]);
    let mut ledger = ledger();
    assert_eq!(ledger.reserve(&caps, "a/1", 1, most(1, 0, 0), at("12:00:00")), Reserved::New);
    refused(ledger.reserve(&caps, "b/1", 2, most(1, 0, 0), at("12:00:59")));
    assert_eq!(ledger.reserve(&caps, "b/1", 2, most(1, 0, 0), at("12:01:00")), Reserved::New);
    assert_eq!(ledger.counts(Window::Hour, at("12:01:00")).requests, 2, "in the hour it still counts");
    // The attempt itself, delivered again later, counts in the minute that it is made in, and in the hour once.
    refused(ledger.reserve(&caps, "a/1", 3, most(1, 0, 0), at("12:01:30")));
    assert_eq!(ledger.reserve(&caps, "a/1", 3, most(1, 0, 0), at("12:02:00")), Reserved::Known);
    let (minute, hour) =
        (ledger.counts(Window::Minute, at("12:02:00")), ledger.counts(Window::Hour, at("12:02:00")));
    assert_eq!((minute.requests, hour.requests), (1, 2));
}

#[test]
fn budget_of_a_clock_that_is_behind_counts_in_the_newest_window() {
    let caps = caps(&[(Window::Minute, requests(2))]);
    let mut ledger = ledger();
    ledger.reserve(&caps, "a/1", 1, most(1, 0, 0), at("12:01:00"));
    assert_eq!(ledger.reserve(&caps, "b/1", 2, most(1, 0, 0), at("12:00:58")), Reserved::New);
    let spent = refused(ledger.reserve(&caps, "c/1", 3, most(1, 0, 0), at("12:00:59")));
    assert_eq!(spent.until, at("12:02:00"));
}

#[test]
fn budget_of_a_limit_that_comes_and_goes_is_counted_all_the_while() {
    let day = caps(&[(Window::Day, requests(2))]);
    let mut ledger = ledger();
    ledger.reserve(&day, "a/1", 1, most(1, 0, 0), at("12:00:00"));
    // Work that was decided before the limit, or after it was taken away, counts all the same.
    assert_eq!(ledger.reserve(&Caps::new(), "b/1", 2, most(1, 0, 0), at("12:00:01")), Reserved::New);
    refused(ledger.reserve(&day, "c/1", 3, most(1, 0, 0), at("12:00:02")));
}

#[test]
fn budget_ledgers_stay_small_and_what_is_folded_stays_counted() {
    let caps = caps(&[(Window::Day, Cap::default())]);
    let mut ledger = ledger();
    let begin = at("12:00:00");
    for number in 0..RESERVATIONS_MAX + 10 {
        let now = begin + SignedDuration::from_millis(i64::try_from(number).unwrap());
        ledger.reserve(&caps, &format!("t{number}/1"), 1, most(1, 2, 3), now);
    }
    let count = u64::try_from(RESERVATIONS_MAX + 10).unwrap();
    assert_eq!(ledger.open.len(), RESERVATIONS_MAX);
    assert_eq!(ledger.counts(Window::Day, begin), most(count, 2 * count, 3 * count));
    assert!(!ledger.settle("t0/1", most(1, 0, 0)), "the oldest can no more be settled");
    assert!(serde_json::to_vec(&ledger).unwrap().len() < 256 * 1024);
}

#[test]
fn budget_that_is_smaller_than_a_request_says_that_no_window_has_room() {
    let now = at("12:00:30");
    let tokens = |count| Cap { tokens: Some(count), ..Cap::default() };
    let minute = caps(&[(Window::Minute, tokens(5)), (Window::Day, tokens(100))]);
    let spent = refused(ledger().reserve(&minute, "a", 1, most(1, 6, 0), now));
    assert_eq!((spent.window, spent.never), (Window::Minute, true), "though the day ends later");
    assert!(spent.to_string().contains("less than it may use"), "{spent}");
    assert!(Spent::last_for_ever(std::slice::from_ref(&spent)));
    // Negative control: what only another one has used is there again when the window ends.
    let mut shared = ledger();
    assert_eq!(shared.reserve(&minute, "a", 1, most(1, 4, 0), now), Reserved::New);
    let later = refused(shared.reserve(&minute, "b", 1, most(1, 4, 0), now));
    assert_eq!((later.never, later.until), (false, at("12:01:00")));
    assert!(!Spent::last_for_ever(std::slice::from_ref(&later)) && !Spent::last_for_ever(&[]));
    // A provider's limit that is too small is none at another provider.
    let name = |text: &str| Name::new(text).unwrap();
    let elsewhere = Spent { of: Scope::Provider { provider: name("p") }, ..spent };
    assert!(!Spent::last_for_ever(&[elsewhere.clone(), later.clone()]) && Spent::last_for_ever(&[elsewhere]));
    assert!(Spent::last_for_ever(&[spent, later]));
}

#[test]
fn budget_of_another_version_is_not_read_by_halves() {
    let mut written = serde_json::to_value(ledger()).unwrap();
    assert!(serde_json::from_value::<Ledger>(written.clone()).is_ok(), "negative control");
    written["schema_version"] = 2.into();
    assert!(serde_json::from_value::<Ledger>(written).is_err());
}

#[test]
fn budget_window_that_a_clock_ahead_began_counts_up_to_twice_in_a_true_minute() {
    let (caps, one) = (caps(&[(Window::Minute, requests(3))]), most(1, 0, 0));
    let mut ledger = ledger();
    let reserve = |ledger: &mut Ledger, ids: std::ops::Range<u8>, now| {
        ids.filter(|id| ledger.reserve(&caps, &id.to_string(), 1, one, now) == Reserved::New).count()
    };
    assert_eq!(
        reserve(&mut ledger, 0..9, at("12:00:10")),
        3,
        "negative control: a true clock passes nothing"
    );
    assert_eq!(reserve(&mut ledger, 10..19, at("12:01:10")), 3, "a clock that is a minute ahead");
    // No further: whose clock is right counts in the window that was begun.
    assert_eq!(reserve(&mut ledger, 20..29, at("12:00:20")), 0);
    assert_eq!(
        reserve(&mut ledger, 30..39, at("12:01:20")),
        0,
        "nor is there room again when its true time comes"
    );
}
