#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn failed() -> Failed {
    Failed {
        transient: true,
        published: false,
        attempts: 1,
        attempts_max: 3,
        retry_after: None,
        left: Duration::from_secs(300),
    }
}

fn first(failed: Failed) -> Option<Duration> {
    Pauses::default().next(failed)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn tries_again_only_where_that_is_right() {
    let table = [
        ("by the book", failed(), true),
        ("an error that stays", Failed { transient: false, ..failed() }, false),
        ("text was handed on", Failed { published: true, ..failed() }, false),
        ("the last attempt", Failed { attempts: 3, ..failed() }, false),
        ("no time left", Failed { left: Duration::from_millis(300), ..failed() }, false),
        ("asked for 120 s", Failed { retry_after: Some(secs(120)), ..failed() }, true),
        ("asked for 121 s", Failed { retry_after: Some(secs(121)), ..failed() }, false),
        (
            "asked past the deadline",
            Failed { retry_after: Some(secs(60)), left: secs(60), ..failed() },
            false,
        ),
    ];
    for (what, failed, again) in table {
        assert_eq!(first(failed).is_some(), again, "{what}");
    }
}

#[test]
fn pauses_grow_and_part_callers() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let mut pauses = Pauses::default();
        let lot: Vec<Duration> =
            (0..5).map(|_| pauses.next(Failed { attempts_max: 9, ..failed() }).unwrap()).collect();
        assert!(lot[0] >= Duration::from_millis(375) && lot[0] <= Duration::from_millis(625), "{lot:?}");
        assert!(lot.windows(2).all(|pair| pair[1] > pair[0]), "{lot:?}");
        seen.insert(lot[0]);
    }
    assert!(seen.len() > 32, "jitter parts callers");
}

#[test]
fn a_pause_that_is_asked_for_is_kept_with_some_more() {
    for _ in 0..64 {
        let pause = first(Failed { retry_after: Some(secs(7)), ..failed() }).unwrap();
        assert!(pause > secs(7) && pause <= secs(8), "{pause:?}");
    }
}

#[test]
fn retry_after_reads_seconds_dates_and_milliseconds() {
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    let table: [(Option<&str>, Option<&str>, Option<Duration>); 12] = [
        (Some("7"), None, Some(secs(7))),
        (Some(" 0 "), None, Some(secs(0))),
        (Some("1.5"), None, Some(Duration::from_millis(1_500))),
        (Some("Sun, 06 Nov 1994 08:50:07 GMT"), None, Some(secs(30))),
        (Some("Sunday, 06-Nov-94 08:50:07 GMT"), None, Some(secs(30))),
        (Some("Sun Nov  6 08:50:07 1994"), None, Some(secs(30))),
        (Some("Sun, 06 Nov 1994 08:00:00 GMT"), None, Some(secs(0))),
        (Some("7"), Some("250"), Some(Duration::from_millis(250))),
        (Some("-1"), None, None),
        (Some("NaN"), None, None),
        (Some("soon"), None, None),
        (None, None, None),
    ];
    for (text, millis, expected) in table {
        assert_eq!(retry_after(text, millis, now), expected, "{text:?} {millis:?}");
    }
}
