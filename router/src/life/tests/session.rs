//! What a session has held counts for its later tasks.

use tidegate_schemas::labels::{Labels, Sensitivity};

use super::*;

fn of_session(text: &str) -> Value {
    let mut task = body(&json!({ "sensitivity": "public" }), text);
    task["session"] = json!("s1");
    task
}

fn held(sensitivity: Sensitivity) -> Labels {
    Labels::of(sensitivity)
}

fn recalled(world: &World, life: &mut Life, labels: Option<(Labels, u64)>) -> Step {
    world.next(life, Event::Recalled(labels))
}

#[test]
fn session_that_held_more_keeps_later_tasks_inside() {
    let world = World::new();
    for (before, lane) in [
        (None, "work.cloud."),
        (Some((held(Sensitivity::Public), 3)), "work.cloud."),
        (Some((held(Sensitivity::Confidential), 3)), "work.local."),
        (Some((held(Sensitivity::Restricted), 3)), "work.local."),
    ] {
        let (mut life, step) = world.begin(task_at(1, &of_session("What is a tide?")));
        assert!(matches!(step.action, Action::Recall(_)), "{step:?}");
        let step = recalled(&world, &mut life, before.clone());
        let message = sent(&step);
        assert!(message.subject.starts_with(lane), "{before:?}: {}", message.subject);
        assert_eq!(
            decision(message).facts.session,
            before.map(|(labels, _)| labels),
            "a fact of the decision"
        );
    }
    let (_, step) = world.begin(task_at(1, &public()));
    assert!(matches!(step.action, Action::Send(_)), "negative control: without a session nobody is asked");
}

/// What a model would find is known too late to be held against the session, so none looks.
#[test]
fn session_tasks_are_not_scanned_and_nothing_internal_of_one_leaves() {
    let world = World::new();
    let internal = |session: bool| {
        let mut task = body(&json!({ "sensitivity": "internal" }), "Summarise the release notes.");
        if session {
            task["session"] = json!("s1");
        }
        task
    };
    let (mut life, _) = world.begin(task_at(1, &internal(true)));
    let step = recalled(&world, &mut life, Some((held(Sensitivity::Internal), 3)));
    assert!(sent(&step).subject.starts_with("work.local.default."), "{}", sent(&step).subject);
    let (_, step) = world.begin(task_at(1, &internal(false)));
    assert!(sent(&step).subject.starts_with("work.local.scan."), "negative control");
}

#[test]
fn session_is_raised_before_anything_is_sent_and_by_who_came_late_anew() {
    let world = World::new();
    let (mut life, _) = world.begin(task_at(1, &of_session("Write to jane.doe@example.org")));
    let step = recalled(&world, &mut life, None);
    let Action::Remember { key, labels, revision } = &step.action else { panic!("{step:?}") };
    assert!(key.starts_with("acme.") && !key.contains("s1"), "{key}");
    assert_eq!((labels.sensitivity, *revision), (Sensitivity::Confidential, None));
    // Somebody else wrote meanwhile: it is read again, and only rises.
    let step = world.next(&mut life, Event::Remembered(false));
    assert!(matches!(step.action, Action::Recall(_)), "{step:?}");
    let step = recalled(&world, &mut life, Some((held(Sensitivity::Restricted), 9)));
    let Action::Remember { labels, revision, .. } = &step.action else { panic!("{step:?}") };
    assert_eq!((labels.sensitivity, *revision), (Sensitivity::Restricted, Some(9)));
    let step = world.next(&mut life, Event::Remembered(true));
    assert!(sent(&step).subject.starts_with("work.local."));
}
