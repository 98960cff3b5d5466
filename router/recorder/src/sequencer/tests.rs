use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidegate_audit::{Entry, Gap, GapReason, Item};

use super::Sequencer;

fn message(stream: &str, sequence: u64, cause: Option<&str>) -> Item {
    let headers = cause.map(|cause| ("Tidegate-Cause".to_owned(), cause.to_owned()));
    let subject = if stream.starts_with("TASKS") { "task.a.b.chat" } else { "result.a.b.c" };
    Item::Message(Entry {
        stream: stream.to_owned(),
        sequence,
        subject: subject.to_owned(),
        time: Timestamp::UNIX_EPOCH,
        headers: headers.into_iter().collect(),
        payload: "12345678".into(),
    })
}

fn taken(sequencer: &mut Sequencer, now: Instant) -> Vec<String> {
    let items = sequencer.take(now, 100, 1_000_000);
    items.iter().map(|item| format!("{}:{}", item.stream(), item.first())).collect()
}

fn with(items: Vec<Item>) -> Sequencer {
    let mut sequencer = Sequencer::default();
    items.into_iter().for_each(|item| sequencer.push(item));
    sequencer
}

#[test]
fn a_cause_comes_before_its_effect() {
    let now = Instant::now();
    let cases = [
        (
            "later in another stream",
            vec![message("A", 1, Some("B:2")), message("B", 1, None), message("B", 2, None)],
            vec!["B:1", "B:2", "A:1"],
        ),
        (
            "a chain",
            vec![
                message("A", 1, Some("B:1")),
                message("B", 1, Some("C:1")),
                message("C", 1, None),
                message("A", 2, None),
            ],
            vec!["C:1", "B:1", "A:1", "A:2"],
        ),
        ("its own stream", vec![message("A", 1, None), message("A", 2, Some("A:1"))], vec!["A:1", "A:2"]),
        ("itself", vec![message("A", 1, Some("A:1"))], vec!["A:1"]),
        ("what a producer claims", vec![message("TASKS_a", 1, Some("B:9"))], vec!["TASKS_a:1"]),
    ];
    for (name, items, expected) in cases {
        assert_eq!(taken(&mut with(items), now), expected, "{name}");
    }
}

#[test]
fn a_cause_that_was_recorded_earlier_holds_nothing() {
    let mut sequencer = with(vec![message("A", 5, Some("B:7"))]);
    assert_eq!(taken(&mut sequencer, Instant::now()), Vec::<String>::new());
    sequencer.open("B", 7);
    assert_eq!(taken(&mut sequencer, Instant::now()), ["A:5"]);
}

#[test]
fn a_gap_counts_as_there() {
    let gap = Gap {
        stream: "B".to_owned(),
        from: 1,
        to: 9,
        reason: GapReason::Deleted,
        time: Timestamp::UNIX_EPOCH,
    };
    let mut sequencer = with(vec![message("A", 1, Some("B:4")), Item::Gap(gap)]);
    assert_eq!(taken(&mut sequencer, Instant::now()), ["B:1", "A:1"]);
}

#[test]
fn a_cause_that_does_not_come_is_given_up() {
    let start = Instant::now();
    let mut sequencer = with(vec![message("A", 1, Some("B:4")), message("A", 2, None)]);
    assert_eq!(taken(&mut sequencer, start), Vec::<String>::new());
    let later = start + Duration::from_secs(3);
    assert_eq!(taken(&mut sequencer, later), Vec::<String>::new());
    let blocked = sequencer.blocked();
    assert_eq!((blocked.len(), blocked[0].since, blocked[0].cause.to_string()), (1, start, "B:4".to_owned()));
    sequencer.give_up("A");
    assert_eq!(sequencer.blocked(), []);
    assert_eq!(taken(&mut sequencer, later), ["A:1", "A:2"]);
    assert_eq!(sequencer.waiting(), 0);
}

#[test]
fn what_is_only_late_is_not_given_up() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let since = |sequencer: &Sequencer| sequencer.blocked().first().map(|blocked| blocked.since);
    let mut sequencer = with(vec![message("A", 1, Some("B:4"))]);
    taken(&mut sequencer, start);
    taken(&mut sequencer, after(1));
    assert_eq!(since(&sequencer), Some(start), "negative control: nothing comes");
    sequencer.push(message("B", 1, None));
    taken(&mut sequencer, after(2));
    assert_eq!(since(&sequencer), Some(after(2)), "its stream is behind and comes");
    sequencer.stood_still(after(9));
    assert_eq!(since(&sequencer), Some(after(9)), "nothing could come");
    (2..=4).for_each(|sequence| sequencer.push(message("B", sequence, None)));
    assert_eq!(taken(&mut sequencer, after(10)), ["B:2", "B:3", "B:4", "A:1"]);
}

#[test]
fn batches_are_bounded() {
    let now = Instant::now();
    let mut sequencer = with((1..=10).map(|n| message("A", n, None)).collect());
    assert_eq!(sequencer.take(now, 4, 1_000_000).len(), 4);
    let item = sequencer.take(now, 1, 1_000_000);
    let weight = match &item[0] {
        Item::Message(entry) => entry.weight_bytes(),
        Item::Gap(_) => 0,
    };
    assert_eq!(sequencer.take(now, 100, weight * 2).len(), 2);
    assert_eq!(sequencer.take(now, 100, 1).len(), 1, "never stuck on a large one");
    assert_eq!(sequencer.waiting(), 2);
}
