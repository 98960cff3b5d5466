//! What a person asks for, as the record's filter.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_audit::Filter;
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::labels::{Sensitivity, Stakes};

use crate::cli::{FilterArgs, QueryArgs};
use crate::output;

/// One page of a filter.
pub(in crate::command) fn page(args: QueryArgs) -> Result<Filter> {
    Ok(Filter {
        after: args
            .after
            .map(|text| text.parse().map_err(|error| output::usage(format!("--after: {error}"))))
            .transpose()?,
        limit: Some(args.limit),
        ..of(args.filter)?
    })
}

/// Whether one page of it can be asked for: what is wrong by itself needs no record to be told.
pub(super) fn check(mut args: QueryArgs) -> Result<()> {
    args.filter.judged_by = None;
    page(args).map(drop)
}

/// Reads a filter from the command line; first digits of a bundle's hash are looked up before ([`super::judged`]).
pub(in crate::command) fn of(args: FilterArgs) -> Result<Filter> {
    read(args).map_err(|error| output::usage(output::sentence(&error)))
}

fn read(args: FilterArgs) -> Result<Filter> {
    Ok(Filter {
        tenant: args.tenant,
        agent: args.agent,
        task: args.task,
        kind: word("--kind", args.kind)?,
        task_kind: word("--task-kind", args.task_kind)?,
        code: word("--code", args.code)?,
        state: word("--state", args.state)?,
        outcome: word("--outcome", args.outcome)?,
        destination: args.destination.map(Name::new).transpose().context("--destination")?,
        policy: args.policy,
        bundle: args
            .judged_by
            .map(|hash| hash.whole().with_context(|| format!("--judged-by: {hash} is no whole hash")))
            .transpose()?,
        sensitivity: args
            .sensitivity
            .map(|text| label("--sensitivity", text, Sensitivity::as_str))
            .transpose()?,
        stakes: args.stakes.map(|text| label("--stakes", text, Stakes::as_str)).transpose()?,
        category: args.category,
        regulation: args.regulation,
        residency: args.residency,
        consent: args.consent,
        purpose: args.purpose,
        subject: args.subject.map(Identifier::new).transpose().context("--subject")?,
        subject_ref: args.subject_ref.map(|text| text.to_ascii_lowercase()),
        trace: args.trace.map(|text| text.to_ascii_lowercase()),
        workflow: args.workflow.map(Identifier::new).transpose().context("--workflow")?,
        from: args.from.map(|text| text.parse()).transpose().context("--from, an RFC 3339 time")?,
        to: args.to.map(|text| text.parse()).transpose().context("--to, an RFC 3339 time")?,
        anomalies: args.anomalies,
        after: None,
        limit: None,
    })
}

/// A word of a closed list; what is not one is answered with the list.
fn word<T: DeserializeOwned>(flag: &str, text: Option<String>) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    match serde_json::from_value(Value::String(text)) {
        Ok(found) => Ok(Some(found)),
        Err(error) => bail!("{flag}: {error}"),
    }
}

/// A label. An unknown one counts as the most restrictive on the wire; asked for by a person it is a mistake.
fn label<T: DeserializeOwned + Copy>(flag: &str, text: String, name: fn(T) -> &'static str) -> Result<T> {
    match serde_json::from_value(Value::String(text.clone())) {
        Ok(found) if name(found) == text => Ok(found),
        _ => bail!("{flag}: `{text}` is not one of the labels; --help names them"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_audit::RecordKind;
    use tidegate_schemas::decision::Outcome;

    use super::page;
    use crate::cli::{FilterArgs, QueryArgs};

    fn query(filter: FilterArgs, after: &str) -> QueryArgs {
        QueryArgs { filter, after: Some(after.into()), limit: 7 }
    }

    #[test]
    fn words_and_times_are_read_or_answered_with_what_they_may_be() {
        let good = FilterArgs {
            kind: Some("result".into()),
            outcome: Some("cloud".into()),
            regulation: Some("gdpr".parse().unwrap()),
            from: Some("2026-11-01T00:00:00Z".into()),
            ..FilterArgs::default()
        };
        let filter = page(query(good, "41")).unwrap();
        assert_eq!((filter.kind, filter.outcome), (Some(RecordKind::Result), Some(Outcome::Cloud)));
        assert_eq!((filter.limit, filter.after.is_some()), (Some(7), true));
        assert_eq!(filter.regulation.as_ref().map(|name| name.as_str()), Some("gdpr"));
        assert_eq!((filter.category, filter.residency), (None, None));
        let bad = [
            (FilterArgs { kind: Some("results".into()), ..FilterArgs::default() }, "41", "`result`"),
            (FilterArgs { outcome: Some("edge".into()), ..FilterArgs::default() }, "41", "`cloud`"),
            (FilterArgs { from: Some("yesterday".into()), ..FilterArgs::default() }, "41", "--from"),
            (FilterArgs { sensitivity: Some("secret".into()), ..FilterArgs::default() }, "41", "`secret`"),
            (FilterArgs { judged_by: "4f1c00".parse().ok(), ..FilterArgs::default() }, "41", "--judged-by"),
            (FilterArgs::default(), "next", "--after"),
        ];
        for (filter, after, names) in bad {
            let said = format!("{:#}", page(query(filter, after)).unwrap_err());
            assert!(said.contains(names), "{said}");
        }
    }
}
