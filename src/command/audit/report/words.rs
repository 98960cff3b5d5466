//! Numbers, times and sentences of the page.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use tidegate_audit::report::{Monthly, Reached, Residency, Signed, Verdict};
use tidegate_schemas::subject::Lane;

/// Months by their number.
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// That a checkpoint was signed over other records than those of the report.
pub(super) fn refuted(monthly: &Monthly) -> Option<String> {
    let refuted = |signed: &Option<Signed>| {
        signed.as_ref().filter(|signed| !signed.proven).map(|signed| count(signed.size, "record"))
    };
    let others = "was signed over other records than these";
    if let Some(of) = refuted(&monthly.record.kept) {
        return Some(format!(
            "the checkpoint of {of} that was kept outside {others}: the record is an older copy, was cut short or was changed."
        ));
    }
    refuted(&monthly.record.signed).map(|of| format!("the checkpoint of {of} {others}."))
}

/// What is signed of it, and what is not.
pub(super) fn signed(monthly: &Monthly) -> String {
    let record = &monthly.record;
    let Some(signed) = &record.signed else {
        return "No signed checkpoint was held against them: nobody vouches for this record but whoever keeps its file.".to_owned();
    };
    if !signed.proven {
        return "They are not those that the newest checkpoint was signed over, so no claim is proven."
            .to_owned();
    }
    if record.kept.as_ref().is_some_and(|kept| !kept.proven) {
        return "They are not those of a checkpoint that was kept outside the record, so no claim is proven."
            .to_owned();
    }
    let kept = match &record.kept {
        None => String::new(),
        Some(kept) => {
            format!(" So they do that of the first {}, which was kept outside.", number(kept.size))
        }
    };
    let later = match record.unsigned() {
        0 => String::new(),
        some => format!(
            " {} came after it and {} not signed yet.",
            count(some, "record"),
            if some == 1 { "is" } else { "are" }
        ),
    };
    format!(
        "They give the root of the signed checkpoint of the first {}, which was recomputed from them.{kept}{later}",
        count(signed.size, "record")
    )
}

/// `1,234,567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// So many of a thing, with an `s` where it is not one.
pub(super) fn count(number_of: u64, thing: &str) -> String {
    let s = if number_of == 1 { "" } else { "s" };
    format!("{} {thing}{s}", number(number_of))
}

/// Bytes in the largest unit that leaves a whole number before the point.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1_024.0, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Millionths of a US dollar, as dollars; all digits where it is little.
pub(super) fn usd(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    match micros {
        0 => "0".to_owned(),
        1_000_000.. => format!("{}.{:02}", number(whole), rest / 10_000),
        _ => format!("0.{rest:06}"),
    }
}

/// `2026-11-23 08:30:01`.
pub(super) fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-23`.
pub(super) fn day(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// `November 2026`.
pub(super) fn month(monthly: &Monthly) -> String {
    let first = monthly.from.to_zoned(TimeZone::UTC).date();
    let name =
        usize::try_from(first.month() - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default();
    format!("{name} {}", first.year())
}

/// Milliseconds in the unit that a person would take.
pub(super) fn wait(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        120_000..7_200_000 => format!("{:.1} min", ms as f64 / 6e4),
        _ => format!("{:.1} h", ms as f64 / 3.6e6),
    }
}

/// An enum's word on the wire, as words.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    super::super::words::word(value).replace('_', " ")
}

/// Whose report it is.
pub(super) fn whose(monthly: &Monthly) -> String {
    monthly.tenant.as_ref().map_or_else(|| "all tenants".to_owned(), ToString::to_string)
}

/// The whole report in one line.
pub(super) fn summary(monthly: &Monthly) -> String {
    format!(
        "{}, {}: {}, {} submitted, {} to providers, {} bytes left",
        whose(monthly),
        monthly.month,
        count(monthly.covered.records, "record"),
        count(monthly.tasks.submitted, "task"),
        count(monthly.left.attempts, "call"),
        number(monthly.left.bytes)
    )
}

/// What the record says of one class, as one sentence.
pub(super) fn statement(residency: &Residency, blind: bool) -> String {
    let class = residency.class.as_str();
    let within: Vec<&str> = residency.within.iter().flatten().map(|region| region.as_str()).collect();
    let within = within.join(", ");
    match residency.verdict {
        Verdict::Holds => format!("No record of class {class} reached a destination outside {within}."),
        Verdict::Unproven => format!(
            "No record of class {class} that was seen reached a destination outside {within}, but not everything could be seen."
        ),
        Verdict::NotShown => format!(
            "Not shown, as no signed checkpoint vouches for these records. By the file as it is, no record of class {class} reached a destination outside {within}."
        ),
        Verdict::Broken => {
            let named: Vec<String> = residency
                .offences
                .iter()
                .map(|one| format!("record {} ({})", one.index, one.region))
                .collect();
            let more = residency.outside.saturating_sub(named.len() as u64);
            let more = if more > 0 { format!(" and {} more", number(more)) } else { String::new() };
            format!(
                "{} of class {class} reached a destination outside {within}: {}{more}.",
                count(residency.outside, "record"),
                named.join(", ")
            )
        }
        Verdict::Told => told(class, &residency.reached, blind),
    }
}

fn told(class: &str, reached: &[Reached], blind: bool) -> String {
    let seen = if blind { " that was seen" } else { "" };
    if reached.is_empty() {
        return format!("No record of class {class}{seen} reached any destination.");
    }
    let mut regions: Vec<&str> = reached.iter().map(|one| one.region.as_str()).collect();
    regions.dedup();
    let provider =
        if reached.iter().any(|one| one.lane == Lane::Cloud) { "" } else { ", and none left the local lane" };
    format!(
        "No record of class {class}{seen} reached a destination outside {}{provider}.",
        regions.join(", ")
    )
}
