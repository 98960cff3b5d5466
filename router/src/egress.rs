//! Whether work may leave at all: the record answers and is not far behind, and the clock is one that tickets can be timed
//! by. What is not known permits nothing; local work goes on.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidegate_schemas::limits::CLOCK_SKEW_MS_MAX;
use tidegate_schemas::standing::Standing;

/// How long an answer of the record counts: a recorder that is started again must not close the cloud.
const ANSWER_COUNTS: Duration = Duration::from_secs(5);
/// Messages that the record may be behind the streams, count: about a quarter of a minute of all that a cell can take.
const BEHIND_MAX: u64 = 50_000;
/// How long a clock that jumped must go on steadily before it is trusted again.
const STEADY: Duration = Duration::from_secs(30);

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Egress {
    /// Nobody asks: a router without a record, in benchmarks.
    Unwatched,
    /// It may until then, unless it is looked at again. Passing closes it, whatever became of who looks.
    Until(Duration),
    /// It may not.
    Closed(Why),
}

/// Why nothing may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The record has not answered for too long, or never.
    Silent,
    /// The record is too far behind.
    Behind,
    /// The clock jumped, or differs from the recorder's.
    Clock,
}

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Monotonic time since the start.
    pub(crate) at: Duration,
    /// The time by this machine's clock.
    pub(crate) wall: Timestamp,
    /// What the record answered, if it did.
    pub(crate) standing: Option<Standing>,
}

/// What earlier looks left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// When the record last gave an answer that counts.
    answered: Option<Duration>,
    /// The look before: monotonic and wall time.
    before: Option<(Duration, Timestamp)>,
    /// When the clock last jumped.
    jumped: Option<Duration>,
}

// === impl Egress ===

impl Egress {
    /// Whether work may leave, so long after the start.
    pub(crate) fn is_open(self, at: Duration) -> bool {
        match self {
            Self::Unwatched => true,
            Self::Until(end) => at < end,
            Self::Closed(_) => false,
        }
    }
}

// === impl Why ===

impl Why {
    /// The reason, and what to do, in one sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Silent => {
                "nothing goes to the cloud: the record does not answer or cannot be written; see the recorder"
            }
            Self::Behind => {
                "nothing goes to the cloud: the record is too far behind the streams; it catches up"
            }
            Self::Clock => {
                "nothing goes to the cloud: the clock jumped, or differs from the recorder's; check the time service"
            }
        }
    }
}

// === impl Watch ===

impl Watch {
    /// What is known after another look.
    pub(crate) fn after(&mut self, look: &Look) -> Egress {
        let limit = SignedDuration::from_millis(CLOCK_SKEW_MS_MAX);
        if let Some((at, wall)) = self.before.replace((look.at, look.wall)) {
            let passed = SignedDuration::try_from(look.at.saturating_sub(at)).unwrap_or(SignedDuration::MAX);
            let told = look.wall.duration_since(wall);
            if told.saturating_sub(passed).abs() > limit {
                self.jumped = Some(look.at);
            }
        }
        let differs = look.standing.as_ref().is_some_and(|s| s.now.duration_since(look.wall).abs() > limit);
        if differs || self.jumped.is_some_and(|jumped| look.at.saturating_sub(jumped) < STEADY) {
            return Egress::Closed(Why::Clock);
        }
        if look.standing.as_ref().is_some_and(|standing| standing.behind <= BEHIND_MAX) {
            self.answered = Some(look.at);
        }
        match self.answered.map(|answered| answered + ANSWER_COUNTS) {
            Some(end) if look.at < end => Egress::Until(end),
            _ if look.standing.is_some() => Egress::Closed(Why::Behind),
            _ => Egress::Closed(Why::Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since the start, the wall clock's seconds, and messages behind with the recorder's clock, if it answered.
    type Row = (u64, i64, Option<(u64, i64)>);

    fn told(rows: &[Row]) -> Vec<Egress> {
        let second = |s: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(s);
        let mut watch = Watch::default();
        let look = |(at, wall, standing): &Row| Look {
            at: Duration::from_secs(*at),
            wall: second(*wall),
            standing: standing.map(|(behind, now)| Standing { open: None, behind, now: second(now) }),
        };
        rows.iter().map(|row| watch.after(&look(row))).collect()
    }

    fn until(seconds: u64) -> Egress {
        Egress::Until(Duration::from_secs(seconds))
    }

    #[test]
    fn without_a_record_or_a_clock_nothing_leaves() {
        use Egress::Closed;
        let table: [(&str, Vec<Row>, Vec<Egress>); 6] = [
            ("never heard of", vec![(0, 100, None)], vec![Closed(Why::Silent)]),
            ("negative control: it answers", vec![(0, 100, Some((0, 100)))], vec![until(5)]),
            (
                "silent for a moment, then for too long, and back",
                vec![(0, 100, Some((0, 100))), (4, 104, None), (5, 105, None), (6, 106, Some((9, 104)))],
                vec![until(5), until(5), Closed(Why::Silent), until(11)],
            ),
            (
                "far behind",
                vec![(0, 100, Some((50_001, 100))), (1, 101, Some((50_000, 101)))],
                vec![Closed(Why::Behind), until(6)],
            ),
            (
                "the recorder's clock is another",
                vec![(0, 100, Some((0, 100))), (1, 101, Some((0, 107))), (2, 102, Some((0, 97)))],
                vec![until(5), Closed(Why::Clock), until(7)],
            ),
            (
                "the clock jumps, back too, and is trusted again when it has been steady",
                vec![
                    (0, 100, Some((0, 100))),
                    (1, 201, Some((0, 201))),
                    (2, 102, Some((0, 102))),
                    (31, 131, Some((0, 131))),
                    (32, 132, Some((0, 132))),
                ],
                vec![until(5), Closed(Why::Clock), Closed(Why::Clock), Closed(Why::Clock), until(37)],
            ),
        ];
        for (name, rows, expected) in table {
            assert_eq!(told(&rows), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_looked_at_again_closes_by_itself() {
        let at = Duration::from_secs;
        assert!(until(5).is_open(at(4)), "negative control");
        assert!(!until(5).is_open(at(5)));
        assert!(!Egress::Closed(Why::Silent).is_open(at(0)));
        assert!(Egress::Unwatched.is_open(at(9)));
    }
}
