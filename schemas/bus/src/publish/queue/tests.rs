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
        match queue.next_move(now, false) {
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
        ("fewer than a batch is worth", dear, 15, 1, 0, (15, vec![], false)),
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
    (0..32).for_each(|_| queue.push(Entry { bytes: 1, since: late }));
    let later = late + LINGER_BUSY - Duration::from_millis(1);
    queue.push(Entry { bytes: 1, since: later });
    assert_eq!(drain(&mut queue, later), (0, vec![], true), "lingers longer behind a batch");
    assert_eq!(drain(&mut queue, late + LINGER_BUSY), (0, vec![33], false));
    queue.returned(true);
    queue.returned(true);
    assert!(queue.is_empty());
}

/// Lets a message come every `gap` for so long, and takes what goes: singles, and sizes of batches.
fn flow(queue: &mut Queue<Entry>, gap: Duration, span: Duration) -> (usize, Vec<usize>) {
    let (t0, mut now) = (Instant::now(), Duration::ZERO);
    let (mut singles, mut batches) = (0, Vec::new());
    while now < span {
        queue.push(Entry { bytes: 1, since: t0 + now });
        let (alone, together, _) = drain(queue, t0 + now);
        (0..alone).for_each(|_| queue.returned(false));
        together.iter().for_each(|_| queue.returned(true));
        (singles, batches) = (singles + alone, [batches, together].concat());
        now += gap;
    }
    (singles, batches)
}

#[test]
fn what_comes_steadily_is_gathered_where_singles_are_dear() {
    let (us, second) = (Duration::from_micros, Duration::from_secs(1));
    // 4,000 a second: batches of what comes in 10 ms, all but the first 100 ms.
    let (singles, batches) = flow(&mut queue_of(0, 1, Instant::now()), us(250), second);
    assert!(
        singles < 450 && !batches.is_empty() && batches.iter().all(|size| (30..=45).contains(size)),
        "{singles} {batches:?}"
    );
    // 1,000 a second: nobody waits.
    assert_eq!(flow(&mut queue_of(0, 1, Instant::now()), us(1_000), second), (1_000, vec![]));
    // Where they are cheap, known from a crowd or from those that were alone, nobody waits either.
    let mut known = queue_of(0, 1, Instant::now());
    teach(&mut known, Some(us(10)));
    let mut alone = queue_of(0, 1, Instant::now());
    (0..64).for_each(|at| alone.single_taken(Instant::now(), us(if at % 4 == 0 { 90 } else { 900 }), 1));
    for mut queue in [known, alone] {
        assert_eq!(
            flow(&mut queue, us(250), Duration::from_millis(900)),
            (3_600, vec![]),
            "{:?}",
            queue.pace
        );
    }
}

#[test]
fn behind_a_backlog_batches_grow() {
    let (t0, mut queue) = (Instant::now(), queue_of(0, 1, Instant::now()));
    teach(&mut queue, Some(Duration::from_micros(280)));
    let mut sizes = Vec::new();
    for at in 0..2_000 {
        let now = t0 + Duration::from_micros(250) * at;
        queue.push(Entry { bytes: 1, since: now });
        loop {
            match queue.next_move(now, true) {
                Move::Single(_) => queue.returned(false),
                Move::Batch(entries) => {
                    sizes.push(entries.len());
                    queue.returned(true);
                }
                Move::WaitUntil(_) | Move::Nothing => break,
            }
        }
    }
    assert!(!sizes.is_empty() && sizes.iter().all(|size| (115..=130).contains(size)), "{sizes:?}");
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
