//! The page and the JSON of a report.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::ExitCode;

use tidegate_audit::report::{Anomaly, Monthly, Offence, Place, Question, Ran, Reached, Refused, Verdict};
use tidegate_audit::{Entry, Flag, Item, Keys, MasterKey, Options, Reader, Signer, Store};
use tidegate_schemas::code::Code;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::subject::Lane;

use super::law::{Answered, Kept, clauses};
use super::{Told, page, words};

/// What would break out of a page that does not escape.
const MARKUP: &str = "<script>alert('1')</script>\"><img src=x onerror=y>";

/// The report of a record with one task that nobody took up, held against its checkpoint.
fn monthly(now: &str) -> Monthly {
    claimed(now, &[], true)
}

/// The same with claims, and a checkpoint or none.
fn claimed(now: &str, claims: &[(Sensitivity, &str)], vouched: bool) -> Monthly {
    let dir = tempfile::tempdir().unwrap();
    let (master, signer) = (MasterKey::from_bytes([7; 32]), Signer::from_bytes(&[5; 32], "tidegate/test"));
    let mut store = Store::open(dir.path(), Keys { master, signer }, &Options::default()).unwrap();
    let task = Entry {
        stream: "TASKS_acme".to_owned(),
        sequence: 1,
        subject: "task.acme.bot.embed".to_owned(),
        time: "2026-11-23T08:30:00Z".parse().unwrap(),
        headers: Vec::new(),
        payload: r#"{"labels":{"sensitivity":"internal"},"input":{"texts":["x"]}}"#.into(),
    };
    store.append(&[Item::Message(task)]).unwrap();
    let note = store.checkpoint().unwrap();
    let public = Signer::from_bytes(&[5; 32], "tidegate/test").public();
    drop(store);
    let claims = claims.iter().map(|(class, region)| (*class, [region.parse().unwrap()].into()));
    let question = Question {
        tenant: None,
        month: "2026-11".parse().unwrap(),
        now: now.parse().unwrap(),
        within: claims.collect(),
        checkpoint: vouched.then(|| public.open(&note).unwrap()),
        kept: Vec::new(),
    };
    Reader::open(dir.path(), None).unwrap().monthly(&question, &mut |_, _| {}).unwrap()
}

fn shown(monthly: &Monthly) -> String {
    let clauses = clauses(monthly, None);
    let told =
        Told { cell: Some("dev"), monthly, verify: "tidegate audit verify", proof: None, clauses: &clauses };
    page::render(&told).unwrap()
}

/// Fills every text that the page shows and that a record could hold.
fn filled(mut monthly: Monthly, text: &str) -> Monthly {
    let text = || text.to_owned();
    monthly.places.push(Place {
        class: Sensitivity::Restricted,
        lane: Lane::Cloud,
        region: text(),
        provider: text(),
        model: text(),
        ran: Ran::default(),
    });
    monthly.rejections.push(Refused { code: Some(Code::PolicyDenied), policies: vec![text()], tasks: 1 });
    monthly.tenants[0].tenant = text();
    let class = monthly.residency.last_mut().unwrap();
    class.verdict = Verdict::Broken;
    class.outside = 1;
    class.offences.push(Offence { index: 57, region: text() });
    class.reached.push(Reached {
        region: text(),
        lane: Lane::Cloud,
        dispatched: 1,
        attempts: 1,
        indices: None,
        times: None,
    });
    monthly
}

#[test]
fn report_no_text_of_the_record_breaks_out_of_the_page() {
    let now = "2026-12-01T09:00:00Z";
    let page = shown(&filled(monthly(now), MARKUP));
    assert_eq!(page.matches("&lt;script&gt;").count(), 7, "each of the texts is shown, as text");
    for tag in ["<script", "<img", "onerror=y>"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert!(page.contains("default-src 'none'"), "and should one break out, nothing runs");
    // Negative control: a plain text is shown as it is.
    assert_eq!(shown(&filled(monthly(now), "plain-7f3a")).matches("plain-7f3a").count(), 7);
}

#[test]
fn report_the_page_needs_nothing_else_and_every_link_leads_somewhere() {
    let page = shown(&filled(monthly("2026-12-01T09:00:00Z"), "x"));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let links: Vec<&str> = page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() >= 10, "{links:?}");
    for link in links {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
    for begun in ["table", "section", "dl", "ul", "ol", "h2", "p", "div", "td", "tr", "main"] {
        let opened =
            page.matches(&format!("<{begun}>")).count() + page.matches(&format!("<{begun} ")).count();
        assert_eq!(opened, page.matches(&format!("</{begun}>")).count(), "{begun}");
    }
}

#[test]
fn report_says_first_what_must_be_read_first() {
    let ended = monthly("2026-12-01T09:00:00Z");
    let quiet = "The record's newest message is older than the month's end";
    let mut odd = ended.clone();
    odd.record.damaged.count = 2;
    odd.record.damaged.first = vec![41, 42];
    odd.anomalies.push(Anomaly { flag: Flag::Orphan, records: odd.record.damaged.clone() });
    let mut pruned = ended.clone();
    pruned.record.pruned_unread = 256;
    let mut empty = ended.clone();
    empty.covered.records = 0;
    let cases = [
        ("negative control", ended.clone(), quiet, false),
        ("damaged", odd, "the first is record 41", true),
        ("broken", filled(ended, "us"), "1 record of class restricted reached a destination outside", true),
        ("pruned", pruned, "256 records that may be of this month were pruned", true),
        ("empty", empty, "No record of all tenants falls in this month.", true),
        ("not over", monthly("2026-11-24T00:00:00Z"), "The month had not ended", true),
    ];
    for (name, monthly, says, only_here) in cases {
        let page = shown(&monthly).replace("&#x27;", "'");
        assert!(page.contains(says), "{name}: {says}");
        let control = shown(&self::monthly("2026-12-01T09:00:00Z")).replace("&#x27;", "'");
        assert_eq!(!control.contains(says), only_here, "{name}");
    }
}

#[test]
fn report_shows_no_claim_that_nobody_vouches_for() {
    let now = "2026-12-01T09:00:00Z";
    let claims = [(Sensitivity::Internal, "eu")];
    let (shown_claim, unsigned) = (claimed(now, &claims, true), claimed(now, &claims, false));
    let held = "give the root of the signed checkpoint";
    // Negative control: with a checkpoint the same records show it.
    let page = shown(&shown_claim);
    assert!(page.contains("claim holds") && page.contains(held) && !page.contains("not shown"));
    assert_eq!(super::status(&shown_claim), ExitCode::SUCCESS);
    let page = shown(&unsigned);
    for says in [
        "<span class=\"tag\">not shown</span>",
        "A residency claim is not shown",
        "Not shown, as no signed checkpoint vouches for these records.",
        "No record of class public that was seen reached any destination.",
        "No signed checkpoint was held against them",
    ] {
        assert!(page.contains(says), "{says}");
    }
    assert!(!page.contains("claim holds") && !page.contains(held));
    assert_eq!(super::status(&unsigned), ExitCode::from(2));
    let json = |monthly: &Monthly| serde_json::to_value(monthly).unwrap()["residency"][1]["verdict"].clone();
    assert_eq!((json(&shown_claim), json(&unsigned)), ("holds".into(), "not_shown".into()));
}

#[test]
fn report_the_clauses_say_what_is_not_answered_too() {
    let monthly = monthly("2026-12-01T09:00:00Z");
    let cell = |records_days| Some(Kept { records_days, bodies_days: 30 });
    let told = clauses(&monthly, cell(400));
    let articles = ["Art. 12(1)", "Art. 19(1)", "Art. 26(6)"].map(str::to_owned);
    // The whole family but AU-15, which was withdrawn.
    let family = (1..=16).filter(|number| *number != 15).map(|number| format!("AU-{number}"));
    for clause in articles.into_iter().chain(family) {
        assert_eq!(told.iter().filter(|one| one.clause == clause).count(), 1, "{clause}");
    }
    for (kept, says, not) in [
        (cell(400), "stay 400 days", "less than six"),
        (cell(90), "stay 90 days as this cell's `cell.toml` has it, which is less than six months", "400"),
        (None, "which is not at hand", "less than six"),
    ] {
        for clause in ["Art. 19(1)", "Art. 26(6)", "AU-11"] {
            let told = clauses(&monthly, kept);
            let how = &told.iter().find(|one| one.clause == clause).unwrap().how;
            assert!(how.contains(says) && !how.contains(not), "{clause}: {how}");
        }
    }
    let of = |answered| told.iter().filter(|one| one.answered == answered).count();
    assert!(of(Answered::Yes) > 0 && of(Answered::Partly) > 0 && of(Answered::No) > 0);
    assert!(told.iter().all(|one| !one.asks.is_empty() && !one.how.is_empty()));
    let kept = told.iter().find(|one| one.clause == "AU-11").unwrap();
    assert!(kept.how.contains("reaches back to 2026-11-23, 8 days: not yet six months"), "{}", kept.how);
}

#[test]
fn report_as_json_is_the_report_and_the_clauses() {
    let monthly = filled(monthly("2026-12-01T09:00:00Z"), "us");
    let clauses = clauses(&monthly, None);
    let told = Told {
        cell: None,
        monthly: &monthly,
        verify: "tidegate audit verify",
        proof: None,
        clauses: &clauses,
    };
    let json = serde_json::to_value(&told).unwrap();
    let expected = [
        ("/v", serde_json::json!(1)),
        ("/tenant", serde_json::json!(null)),
        ("/month", serde_json::json!("2026-11")),
        ("/ended", serde_json::json!(true)),
        ("/record/records", serde_json::json!(1)),
        ("/record/head", serde_json::json!(monthly.record.head)),
        (
            "/covered",
            serde_json::json!({"records": 1, "of_the_cell": 0, "indices": {"first": 0, "last": 0},
            "times": {"first": "2026-11-23T08:30:00Z", "last": "2026-11-23T08:30:00Z"}}),
        ),
        (
            "/tasks",
            serde_json::json!({"submitted": 1, "repeated": 0, "unreadable": 0, "withdrawn": 0, "ended": 0}),
        ),
        ("/places/0/provider", serde_json::json!("us")),
        ("/rejections/0", serde_json::json!({"code": "policy_denied", "policies": ["us"], "tasks": 1})),
        ("/residency/3/class", serde_json::json!("restricted")),
        ("/residency/3/verdict", serde_json::json!("broken")),
        ("/residency/3/offences", serde_json::json!([{"index": 57, "region": "us"}])),
        ("/clauses/0/answered", serde_json::json!("yes")),
        ("/verify", serde_json::json!("tidegate audit verify")),
    ];
    for (path, value) in expected {
        assert_eq!(json.pointer(path), Some(&value), "{path}");
    }
}

#[test]
fn figures_read_as_people_write_them() {
    let numbers = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
    assert!(numbers.iter().all(|(number, text)| words::number(*number) == *text));
    let bytes =
        [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (u64::MAX, "16.0 EiB")];
    for (bytes, text) in bytes {
        assert_eq!(words::bytes(bytes), text);
    }
    let money = [(0, "0"), (19, "0.000019"), (1_000_000, "1.00"), (1_234_560_000, "1,234.56")];
    for (micros, text) in money {
        assert_eq!(words::usd(micros), text);
    }
    let waits = [(7, "7 ms"), (1_500, "1.5 s"), (150_000, "2.5 min"), (9_000_000, "2.5 h")];
    for (ms, text) in waits {
        assert_eq!(words::wait(ms), text);
    }
}
