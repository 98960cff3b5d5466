//! The pool `scan`: what a model found goes back as a step, and so does each reason why none could look.

use jiff::SignedDuration;
use tidegate_engine::{EntitySpan, TextScan};
use tidegate_schemas::scan::SCAN_MS_MAX;

use super::*;
use crate::local_work::{Given, given};

/// Texts to scan.
fn scan(texts: &[&str]) -> Given {
    given("scan", json!({ "texts": texts }), "rampart")
}

fn with_classifier() -> Models {
    Models { scan: true, ..models() }
}

fn begin_scan(message: &Arrived, models: &Models) -> (Life, Step) {
    Life::begin(message, &context(models, &[]))
}

fn reason(step: Step) -> StepReason {
    let message = sent(step);
    assert_eq!(message.subject, "step.local.acme");
    serde_json::from_slice::<StepWire>(&message.payload).unwrap().reason
}

fn span(entity: &str, score: f32) -> EntitySpan {
    EntitySpan { start: 0, end: 4, entity: entity.to_owned(), score }
}

/// What the router is told after the engine answered this.
fn told(ran: Ran) -> StepReason {
    let models = with_classifier();
    let (mut life, step) = begin_scan(&arrived(&scan(&["Ask Maria."])), &models);
    let Action::Run(run) = step.action else { panic!("expected a run") };
    let JobInput::Scan { texts } = run.input else { panic!("expected a scan") };
    assert_eq!(texts, ["Ask Maria."]);
    assert!(run.deltas.is_none());
    let told = reason(life.next(Event::Ran(ran), &context(&models, &[])));
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &context(&models, &[]))), Disposition::Ack);
    told
}

fn read(texts: Vec<TextScan>) -> Ran {
    Ran::Finished(Box::new(output(OutputContent::Scanned(texts), FinishReason::Stop)))
}

fn failed(code: Code) -> StepReason {
    StepReason::ScanFailed { code }
}

#[test]
fn scan_findings_go_back_as_counts_and_never_as_text() {
    let spans = vec![span("person", 0.9), span("person", 0.6), span("phone", 0.4)];
    let StepReason::Scanned { model, findings } = told(read(vec![TextScan::Read(spans)])) else {
        panic!("expected a scan")
    };
    assert_eq!(model.to_string(), "ab".repeat(32));
    assert_eq!(findings, [(name("person"), 2)].into(), "what is unsure is no label");
    let nothing = told(read(vec![TextScan::Read(Vec::new())]));
    assert!(matches!(nothing, StepReason::Scanned { findings, .. } if findings.is_empty()), "control");
}

#[test]
fn scan_of_an_unknown_script_is_a_failure_and_not_nothing_found() {
    let texts = vec![TextScan::Read(Vec::new()), TextScan::UnknownScript];
    assert_eq!(told(read(texts)), failed(Code::ModelFailed));
    let odd = Ran::Finished(Box::new(output(OutputContent::Text(String::new()), FinishReason::Stop)));
    assert_eq!(told(odd), failed(Code::ModelFailed));
}

#[test]
fn scan_that_fails_or_takes_too_long_goes_back_and_fails_no_task() {
    let rows = [
        (EngineError::Panicked, Code::ModelFailed),
        (EngineError::DeadlineExceeded, Code::DeadlineExceeded),
        (EngineError::Model { doing: "labelling" }, Code::ModelFailed),
        (EngineError::UnsupportedKind { kind: "scan" }, Code::NoCapableDestination),
    ];
    for (error, code) in rows {
        assert_eq!(told(Ran::Failed(error, None)), failed(code));
    }
    // Another process takes it up: nothing is said yet.
    let models = with_classifier();
    let (mut life, _) = begin_scan(&arrived(&scan(&["x"])), &models);
    let later = life.next(Event::Ran(Ran::NotTaken(SubmitError::Stopped)), &context(&models, &[]));
    assert!(matches!(done(later), Disposition::Retry { .. }));
}

#[test]
fn scan_without_the_classifier_or_by_other_weights_goes_back_at_once() {
    let given = scan(&["Ask Maria."]);
    assert_eq!(reason(begin_scan(&arrived(&given), &models()).1), failed(Code::NoCapableDestination));
    let (_, step) = begin_scan(&arrived(&given), &with_classifier());
    assert!(matches!(step.action, Action::Run(_)), "negative control");
    let pinned = Given { pinned: Some("cd".repeat(32).parse().unwrap()), ..given.clone() };
    let other = Models { scan_sha256: Some("ab".repeat(32).parse().unwrap()), ..with_classifier() };
    assert_eq!(reason(begin_scan(&arrived(&pinned), &other).1), failed(Code::WrongModel));
    let same = Models { scan_sha256: pinned.pinned, ..with_classifier() };
    assert!(matches!(begin_scan(&arrived(&pinned), &same).1.action, Action::Run(_)), "negative control");
    // Switched off.
    let off = [Switch { target: Some(name("scan")), ..Switch::default() }];
    let (_, step) = Life::begin(&arrived(&given), &context(&with_classifier(), &off));
    assert_eq!(reason(step), failed(Code::LaneOff));
}

#[test]
fn scan_that_waited_too_long_goes_back_and_none_runs_longer_than_that() {
    let models = with_classifier();
    let mut message = arrived(&scan(&["x"]));
    let (_, step) = begin_scan(&message, &models);
    let Action::Run(run) = step.action else { panic!("expected a run") };
    let longest = SignedDuration::from_millis(i64::try_from(SCAN_MS_MAX).unwrap());
    assert!(run.deadline <= Timestamp::now() + longest, "negative control: the task's deadline is later");
    message.published = Timestamp::now() - longest - SignedDuration::from_secs(1);
    let (mut life, step) = begin_scan(&message, &models);
    assert!(matches!(step.action, Action::Look { .. }), "it may have ended meanwhile");
    assert_eq!(reason(life.next(Event::Looked(false), &context(&models, &[]))), failed(Code::Overloaded));
}
