use super::super::pace::NARROW;
use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    bytes: usize,
    since: Instant,
}

impl Sized for Entry {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn alone(&self) -> bool {
        false
    }
    fn since(&self) -> Instant {
        self.since
    }
}

fn queue_of(count: usize, bytes: usize, since: Instant) -> Queue<Entry> {
    let mut queue = Queue::new(PublishMode::Adaptive);
    (0..count).for_each(|_| queue.push(Entry { bytes, since }));
    queue
}

/// What goes until nothing more does: singles, sizes of batches, and whether the queue then waits for time.
fn drain(queue: &mut Queue<Entry>, now: Instant) -> (usize, Vec<usize>, bool) {
    let (mut singles, mut batches) = (0, Vec::new());
    loop {
        match queue.next_move(now) {
            Move::Single(_) => singles += 1,
            Move::Batch(entries) => batches.push(entries.len()),
            Move::WaitUntil(_) => return (singles, batches, true),
            Move::Nothing => return (singles, batches, false),
        }
    }
}

/// Teaches a queue that a single takes the server this long, however many are on their way.
fn teach(queue: &mut Queue<Entry>, single: Option<Duration>) {
    if let Some(single) = single {
        let t0 = Instant::now();
        (0..5_000).for_each(|index| queue.pace.single_taken(t0 + single * index, true));
    }
}

#[test]
fn few_go_single_many_go_in_batches_where_that_pays_off() {
    let t0 = Instant::now();
    let (dear, cheap) = (Some(Duration::from_micros(280)), Some(Duration::from_micros(10)));
    let rows = [
        ("nothing", dear, 0, 1, 0, (0, vec![], false)),
        ("few", dear, 5, 1, 0, (5, vec![], false)),
        ("many, just come", dear, 40, 1, 0, (0, vec![], true)),
        ("many, lingered", dear, 40, 1, 3, (0, vec![40], false)),
        ("full", dear, 1_000, 1, 0, (0, vec![1_000], false)),
        ("more than two batches", dear, 3_500, 1, 0, (0, vec![1_000, 1_000], false)),
        ("too large for batches", dear, 64, 1024 * 1024, 3, (32, vec![], false)),
        ("batches limited by bytes", dear, 300, 64 * 1024, 0, (0, vec![64, 64], false)),
        ("nothing known yet", None, 3_500, 1, 3, (32, vec![], false)),
        ("singles cost no fsync", cheap, 3_500, 1, 3, (1_024, vec![], false)),
    ];
    for (name, single, count, bytes, later_ms, expected) in rows {
        let mut queue = queue_of(count, bytes, t0);
        teach(&mut queue, single);
        assert_eq!(drain(&mut queue, t0 + Duration::from_millis(later_ms)), expected, "{name}");
    }
}

#[test]
fn while_a_batch_is_under_way_the_next_one_fills() {
    let t0 = Instant::now();
    let mut queue = queue_of(40, 1, t0);
    teach(&mut queue, Some(Duration::from_micros(280)));
    let late = t0 + LINGER_IDLE;
    assert_eq!(drain(&mut queue, late), (0, vec![40], false));
    (0..33).for_each(|_| queue.push(Entry { bytes: 1, since: late }));
    assert_eq!(drain(&mut queue, late + LINGER_IDLE), (0, vec![], true), "lingers longer behind a batch");
    assert_eq!(drain(&mut queue, late + LINGER_BUSY), (0, vec![33], false));
    queue.returned(true);
    queue.returned(true);
    assert!(queue.is_empty());
}

#[test]
fn the_window_of_singles_is_kept() {
    let t0 = Instant::now();
    let mut queue = queue_of(0, 1, t0);
    (0..100).for_each(|_| queue.push_alone(Entry { bytes: 1, since: t0 }));
    assert_eq!(drain(&mut queue, t0), (NARROW, vec![], false));
    queue.returned(false);
    assert_eq!(drain(&mut queue, t0), (1, vec![], false));
    assert_eq!(queue.expired(|_| true).len(), 100 - NARROW - 1);
}
