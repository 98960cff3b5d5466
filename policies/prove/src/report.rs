//! What was found, as text for people and JSON for programs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_policies::Bundle;

use crate::compare::{Change, Comparison, Outcome};
use crate::suite::{Finding, Verdict};
use crate::witness::Counterexample;

/// Everything holds, and nothing got wider.
const OK: u8 = 0;
/// Something does not hold.
const REFUTED: u8 = 1;
/// Access to the cloud got wider.
const WIDER: u8 = 2;
/// Something could not be proven.
const NOT_PROVEN: u8 = 3;

/// What was found about a bundle.
#[derive(Debug)]
pub struct Report {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Each question and what came of it.
    pub findings: Vec<Finding>,
    /// How it differs from another, where that was asked.
    pub comparison: Option<Comparison>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Exit status: 0 everything is proven and nothing wider, 1 something is refuted, 2 access to the cloud got wider,
    /// 3 something could not be proven.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let outcome = self.comparison.as_ref().map(Comparison::outcome);
        let [_, refuted, unproven] = self.counts();
        if refuted > 0 {
            REFUTED
        } else if outcome == Some(Outcome::Wider) {
            WIDER
        } else if unproven > 0
            || outcome == Some(Outcome::NotProven)
            || (self.findings.is_empty() && outcome.is_none())
        {
            NOT_PROVEN
        } else {
            OK
        }
    }

    /// How many are proven, refuted and not proven.
    fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for finding in &self.findings {
            counts[match finding.verdict {
                Verdict::Proven => 0,
                Verdict::Refuted { .. } => 1,
                Verdict::NotProven(_) => 2,
            }] += 1;
        }
        counts
    }

    /// The report for people. What is asked of every policy is one line where it holds.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let [proven, refuted, unproven] = self.counts();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        let _ = writeln!(
            out,
            "{proven} proven, {refuted} refuted, {unproven} not proven in {:.1} s\nbundle {} {}",
            self.took.as_secs_f64(),
            self.bundle.manifest().name,
            self.bundle.hash()
        );
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let of_every = [
            ("never-fails:", "no policy can fail to evaluate"),
            ("applies:", "every policy applies to some request"),
        ];
        let grouped = |finding: &Finding| of_every.iter().any(|(prefix, _)| finding.id.starts_with(prefix));
        for finding in &self.findings {
            if !grouped(finding) || !matches!(finding.verdict, Verdict::Proven) {
                row(out, finding)?;
            }
        }
        for (prefix, title) in of_every {
            let of: Vec<&Finding> =
                self.findings.iter().filter(|finding| finding.id.starts_with(prefix)).collect();
            if !of.is_empty() && of.iter().all(|finding| matches!(finding.verdict, Verdict::Proven)) {
                let ms: u128 = of.iter().map(|finding| finding.took.as_millis()).sum();
                writeln!(
                    out,
                    "proven      {:<34} {title} ({} policies, {ms} ms)",
                    prefix.trim_end_matches(':'),
                    of.len()
                )?;
            }
        }
        self.comparison.iter().try_for_each(|comparison| compared(out, comparison))
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let [proven, refuted, unproven] = self.counts();
        json!({
            "bundle": self.bundle.hash(),
            "proven": proven,
            "refuted": refuted,
            "not_proven": unproven,
            "took_ms": ms(self.took),
            "findings": self.findings.iter().map(|finding| {
                let mut row = told(&finding.verdict);
                row["id"] = finding.id.clone().into();
                row["title"] = finding.title.clone().into();
                row["owner"] = finding.owner.clone().into();
                row["took_ms"] = ms(finding.took).into();
                row
            }).collect::<Vec<_>>(),
            "against": self.comparison.as_ref().map(|comparison| json!({
                "bundle": comparison.against.hash(),
                "cloud_access": comparison.outcome().as_str(),
                "doubt": comparison.doubt,
                "took_ms": ms(comparison.took),
                "changes": comparison.changes.iter().map(|change| json!({
                    "destination": change.destination,
                    "access": change.access.as_str(),
                    "outcome": change.outcome().as_str(),
                    "not_wider": told(&change.not_wider),
                    "not_narrower": told(&change.not_narrower),
                })).collect::<Vec<_>>(),
            })),
        })
    }
}

fn ms(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn told(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Proven => json!({ "verdict": "proven" }),
        Verdict::Refuted { why, counterexample } => {
            json!({ "verdict": "refuted", "why": why, "counterexample": counterexample })
        }
        Verdict::NotProven(reason) => json!({ "verdict": "not_proven", "why": reason.to_string() }),
    }
}

fn row(out: &mut String, finding: &Finding) -> std::fmt::Result {
    let Finding { id, title, owner, verdict, took } = finding;
    let word = match verdict {
        Verdict::Proven => "proven",
        Verdict::Refuted { .. } => "REFUTED",
        Verdict::NotProven(_) => "NOT PROVEN",
    };
    writeln!(out, "{word:<11} {id:<34} {title} ({} ms)", took.as_millis())?;
    match verdict {
        Verdict::Proven => Ok(()),
        Verdict::NotProven(reason) => writeln!(out, "  why        {reason}\n  ask        {owner}"),
        Verdict::Refuted { why, counterexample } => {
            writeln!(out, "  why        {why}\n  ask        {owner}")?;
            counterexample.iter().try_for_each(|example| shown(out, example))
        }
    }
}

fn shown(out: &mut String, example: &Counterexample) -> std::fmt::Result {
    writeln!(out, "  principal  {}", example.principal)?;
    if !example.groups.is_empty() {
        writeln!(out, "  in         {}", example.groups.join(", "))?;
    }
    writeln!(
        out,
        "  action     {}\n  resource   {}\n  context    {}",
        example.action, example.resource, example.context
    )?;
    if let Some(why) = &example.no_task {
        writeln!(out, "  as a task  none: {why}")?;
    }
    let Some(task) = &example.task else { return Ok(()) };
    writeln!(out, "  the judge  {}", task.decided)?;
    writeln!(out, "  as a task  {}", task.envelope)?;
    writeln!(
        out,
        "             tidegate policy explain - --tenant {} --agent {} --kind {}",
        task.tenant, task.agent, task.kind
    )?;
    for (title, text) in
        [("as a case", &task.case), ("who there is, for cases/directory.toml", &task.directory)]
    {
        writeln!(out, "  {title}:")?;
        for line in text.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

fn compared(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let against = &comparison.against;
    writeln!(out, "\ncloud access against {} {}:", against.manifest().name, against.hash())?;
    for change in &comparison.changes {
        let Change { destination, access, not_wider, not_narrower } = change;
        writeln!(out, "{:<11} {destination} ({})", change.outcome().as_str(), access.as_str())?;
        for verdict in [not_wider, not_narrower] {
            match verdict {
                Verdict::Proven => {}
                Verdict::NotProven(why) => writeln!(out, "  why        {why}")?,
                Verdict::Refuted { why, counterexample } => {
                    writeln!(out, "  why        {why}")?;
                    counterexample.iter().try_for_each(|example| shown(out, example))?;
                }
            }
        }
    }
    if let Some(doubt) = &comparison.doubt {
        writeln!(out, "not proven  {doubt}")?;
    }
    writeln!(out, "cloud access: {}\n", comparison.outcome().as_str())
}
