//! A month of the calendar, in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

/// A month, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    first: Date,
}

/// Why a text is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a month as YYYY-MM, like 2026-11")]
pub struct BadMonth;

// === impl Month ===

impl Month {
    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Timestamp {
        moment(self.first)
    }

    /// The first moment after it.
    #[must_use]
    pub fn end(self) -> Timestamp {
        moment(self.first.last_of_month().tomorrow().unwrap_or(Date::MAX))
    }
}

/// Midnight of a day in UTC.
fn moment(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

impl FromStr for Month {
    type Err = BadMonth;
    fn from_str(text: &str) -> Result<Self, BadMonth> {
        let digits = |text: &str, count: usize| {
            (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.to_owned())
        };
        let (year, month) = text.split_once('-').ok_or(BadMonth)?;
        let year = digits(year, 4).and_then(|year| year.parse::<i16>().ok()).ok_or(BadMonth)?;
        let month = digits(month, 2).and_then(|month| month.parse::<i8>().ok()).ok_or(BadMonth)?;
        Date::new(year, month, 1).map(|first| Self { first }).map_err(|_| BadMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
