//! CloudEvents 1.0, binary mode over NATS: what a producer's `ce-*` headers say of a task.
//!
//! Plain JSON without any of them is as welcome. Structured mode is refused with a sentence.

use jiff::Timestamp;

use crate::code::{Code, Refused};
use crate::header::{self, Headers};
use crate::ids::{Identifier, Name};
use crate::labels::{Labels, Raise, Sensitivity};
use crate::trace::TraceParent;

/// What the headers say.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// `ce-id`: the task's id.
    pub id: Option<String>,
    /// `ce-correlationid`: the workflow.
    pub workflow: Option<Identifier>,
    /// `ce-expirytime`: the latest deadline.
    pub expiry: Option<Timestamp>,
    /// `traceparent`; one that is malformed is ignored, as the standard says.
    pub trace: Option<TraceParent>,
    sensitivity: Option<Sensitivity>,
    categories: Vec<Name>,
    regulations: Vec<Name>,
}

/// Reads the headers of a task.
///
/// # Errors
/// [`Code::InvalidHeaders`] when an attribute is malformed or the event is in structured mode.
pub fn read(headers: &Headers) -> Result<Told, Refused> {
    let bad = |name: &str, rule: &str| {
        Refused::new(Code::InvalidHeaders, format!("header `{name}` must be {rule}"))
    };
    if headers.get("content-type").is_some_and(|t| t.starts_with("application/cloudevents")) {
        return Err(Refused::new(
            Code::InvalidHeaders,
            "structured CloudEvents are not accepted; send binary mode or plain JSON",
        ));
    }
    if headers.get("ce-specversion").is_some_and(|version| version != "1.0") {
        return Err(bad("ce-specversion", "1.0"));
    }
    let workflow = match headers.get(header::WORKFLOW) {
        None => None,
        Some(text) => Some(Identifier::new(text).map_err(|error| bad(header::WORKFLOW, error.rule))?),
    };
    let expiry = match headers.get("ce-expirytime") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| bad("ce-expirytime", "an RFC 3339 time"))?),
    };
    Ok(Told {
        id: headers.get(header::ID).map(str::to_owned),
        workflow,
        expiry,
        trace: headers.get(header::TRACEPARENT).and_then(|text| text.parse().ok()),
        sensitivity: headers.get("ce-dataclassification").map(sensitivity),
        categories: names(headers, "ce-datacategory")?,
        regulations: names(headers, "ce-dataregulation")?,
    })
}

/// A word that is not known is the most restrictive one.
fn sensitivity(text: &str) -> Sensitivity {
    match text.trim().to_ascii_lowercase().as_str() {
        "public" => Sensitivity::Public,
        "internal" => Sensitivity::Internal,
        "confidential" => Sensitivity::Confidential,
        _ => Sensitivity::Restricted,
    }
}

fn names(headers: &Headers, name: &str) -> Result<Vec<Name>, Refused> {
    let Some(list) = headers.get(name) else { return Ok(Vec::new()) };
    list.split(',')
        .map(|item| Name::new(item.trim().to_ascii_lowercase()))
        .collect::<Result<_, _>>()
        .map_err(|error| Refused::new(Code::InvalidHeaders, format!("each item of header `{name}`: {error}")))
}

impl Told {
    /// The labels of body and headers together: the stricter of both.
    ///
    /// # Errors
    /// [`Code::LabelsMissing`] when neither declares a sensitivity.
    pub fn labels(&self, body: Option<Labels>) -> Result<Labels, Refused> {
        let base = match (body, self.sensitivity) {
            (Some(labels), _) => labels,
            (None, Some(sensitivity)) => Labels::of(sensitivity),
            (None, None) => {
                return Err(Refused::new(
                    Code::LabelsMissing,
                    "declare `labels` with a `sensitivity` of public, internal, confidential or restricted",
                ));
            }
        };
        Ok(base.raised_by(&Raise {
            sensitivity: self.sensitivity.unwrap_or(Sensitivity::Public),
            categories: self.categories.iter().cloned().collect(),
            regulations: self.regulations.iter().cloned().collect(),
            ..Raise::default()
        }))
    }
}
