#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jiff::SignedDuration;
use tidegate_engine::{EntitySpan, FinishReason, ModelInfo, Timings, Usage};
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use tidegate_schemas::redact::Token;
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::task::{Input, Kind};
use tidegate_schemas::vault::{Issued, Scope};
use tidegate_schemas::work::RedactWork;

use super::*;
use crate::life::Arrived;
use crate::local_work::{given, name};
use crate::redaction::job::Job;

fn found(start: usize, end: usize, entity: &str, score: f32) -> EntitySpan {
    EntitySpan { start, end, entity: entity.to_owned(), score }
}

fn entities() -> BTreeMap<Name, Name> {
    [(name("person"), name("personal")), (name("address"), name("personal"))].into()
}

/// What is replaced in texts, as the model found it.
fn told<'t>(texts: &[&'t str], found: Vec<Vec<EntitySpan>>, of: &BTreeMap<Name, Name>) -> Vec<Vec<&'t str>> {
    let scans: Vec<TextScan> = found.into_iter().map(TextScan::Read).collect();
    let spans = replaced(texts, &vec![Vec::new(); texts.len()], &scans, of).unwrap();
    let words = texts.iter().zip(&spans);
    words.map(|(text, spans)| spans.iter().map(|span| &text[span.start..span.end]).collect()).collect()
}

#[test]
fn redact_replaces_what_a_model_found_unsure_as_it_is_and_only_what_the_bundle_names() {
    let text = "Jane Doe of Bonn";
    let spans = || vec![vec![found(0, 8, "person", 0.31), found(12, 16, "place", 0.99)]];
    assert_eq!(told(&[text], spans(), &entities()), [["Jane Doe"]]);
    // Negative control: a bundle that lists towns has them replaced.
    let listed = entities().into_iter().chain([(name("place"), name("personal"))]).collect();
    assert_eq!(told(&[text], spans(), &listed), [["Jane Doe", "Bonn"]]);
}

#[test]
fn redact_replaces_a_name_wherever_else_it_stands() {
    let texts = ["Jane Smith-Doe called", "(Smith) said the smith Al, Smithers"];
    let spans = |score| vec![vec![found(0, 14, "person", score)], Vec::new()];
    assert_eq!(told(&texts, spans(0.9), &entities()), [vec!["Jane Smith-Doe"], vec!["Smith"]]);
    assert_eq!(
        told(&texts, spans(0.4), &entities()),
        [vec!["Jane Smith-Doe"], vec![]],
        "negative control: unsure"
    );
}

#[test]
fn redact_replaces_nothing_of_texts_that_the_model_cannot_read() {
    let texts = ["Jane", "Анна"];
    let read = |scan| replaced(&texts, &[vec![], vec![]], &[TextScan::Read(Vec::new()), scan], &entities());
    assert!(read(TextScan::UnknownScript).is_none());
    assert_eq!(read(TextScan::Read(Vec::new())), Some(vec![vec![], vec![]]), "negative control");
}

fn by_model(required: bool) -> ByModel {
    ByModel { sha256: "ab".repeat(32).parse().ok(), entities: entities(), required }
}

#[test]
fn redact_needs_the_pinned_model_and_short_texts_in_time() {
    let now = Timestamp::now();
    let pinned = Models { scan: true, scan_sha256: by_model(true).sha256, ..Models::default() };
    let other = Models { scan_sha256: "cd".repeat(32).parse().ok(), ..pinned.clone() };
    let long = "x".repeat(SCAN_BYTES_MAX + 1);
    let late = now - longest() - SignedDuration::from_secs(1);
    let go =
        |text: &str, published, models: &Models| no_go((&[text], published), &by_model(true), models, now);
    assert_eq!(go("Jane", now, &pinned), None, "negative control");
    assert_eq!(go("Jane", now, &Models::default()), Some(Code::NoCapableDestination));
    assert_eq!(go("Jane", now, &other), Some(Code::WrongModel));
    assert_eq!(go(&long, now, &pinned), Some(Code::TooLarge));
    assert_eq!(go("Jane", late, &pinned), Some(Code::Overloaded));
}

/// Work that redacts a text in which recognisers found nothing.
fn job(text: &str, required: bool) -> Job {
    let mut given =
        given("redact", serde_json::json!({ "messages": [{ "role": "user", "content": text }] }), "x");
    given.pinned = None;
    let input = Input::read(Kind::Chat, &given.input.to_string()).unwrap();
    let scope = Scope { tenant: name("acme"), agent: name("helpdesk"), session: None, task: given.id() };
    let spans = vec![Vec::new(); input.texts().len()];
    let work = RedactWork { schema_version: 1, scope, input, spans, by_model: Some(by_model(required)) };
    let payload: bytes::Bytes = serde_json::to_vec(&work).unwrap().into();
    let decision = serde_json::to_string(&given.decision(given.salt.digest(&payload))).unwrap();
    let message = Arrived {
        position: Position::new("WORK_LOCAL", 9),
        subject: given.subject(),
        headers: given.headers().with(header::DECISION, decision),
        payload,
        delivered: 1,
        published: Timestamp::now(),
        span: 1,
    };
    Job::read(&message).map_err(|refused| refused.sentence).unwrap()
}

/// What the engine says of texts that it has read.
fn output(scans: Vec<TextScan>) -> Output {
    let text = |text: &str| text.to_owned();
    let model = ModelInfo {
        kind: text("scan"),
        name: text("rampart"),
        architecture: text("bert"),
        quantisation: text("F32"),
        sha256: "ab".repeat(32),
        context_tokens: 512,
        threads: 1,
        kernels: text("avx2"),
        adapter_sha256: None,
    };
    let (usage, zero) = (Usage { input_tokens: 10, output_tokens: 0 }, std::time::Duration::ZERO);
    let timings = Timings { queued: zero, prompt: zero, decode: zero };
    let content = OutputContent::Scanned(scans);
    Output { content, finish: FinishReason::Stop, usage, timings, model: model.into() }
}

fn reason(step: &crate::life::Message) -> StepReason {
    serde_json::from_slice::<Step>(&step.payload).unwrap().reason
}

#[test]
fn redact_gives_up_without_the_model_where_the_decision_rests_on_it() {
    let step = job("Ask Jane", true).unread(Code::NoCapableDestination).unwrap();
    assert_eq!(reason(&step), StepReason::Fallback { code: Code::NoCapableDestination });
    assert!(job("Ask Jane", false).unread(Code::NoCapableDestination).is_none(), "negative control");
}

#[test]
fn redact_says_what_a_model_found_and_where() {
    let mut job = job("Ask Jane Doe, please", true);
    assert!(job.question().unwrap().values.is_empty(), "negative control: nothing was recognised");
    let scan = TextScan::Read(vec![found(4, 12, "person", 0.9)]);
    job.join(&output(vec![scan])).unwrap();
    let asked = job.question().unwrap();
    assert_eq!(
        asked.values.iter().map(|value| value.value.expose().as_str()).collect::<Vec<_>>(),
        ["Jane Doe"]
    );
    let token: Token = "<PERSON_k7f3q2xa>".parse().unwrap();
    let (step, known) = job.answer(&asked, &Issued { tokens: vec![token] }).unwrap();
    assert_eq!(known.len(), 1);
    let StepReason::Redacted { input, spans, by_model, tokens } = reason(&step) else { panic!("redacted") };
    assert_eq!((input.texts()[0], tokens, spans[0].len()), ("Ask <PERSON_k7f3q2xa>, please", 1, 1));
    assert_eq!(by_model.unwrap().findings, [(name("person"), 1)].into());
    assert!(!String::from_utf8(step.payload.to_vec()).unwrap().contains("Jane"));
    // What it cannot read it does not call clean.
    assert_eq!(job.join(&output(vec![TextScan::UnknownScript])), Err(Code::ModelFailed));
}
