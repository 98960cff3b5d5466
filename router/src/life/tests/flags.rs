//! Feature flags: for whom they are on, at each step of a task, and what a decision says of them.

use std::collections::BTreeSet;

use tidegate_schemas::flag::{FlagSetting, Portion};
use tidegate_schemas::release::ShareBy;

use super::*;

fn set(world: &mut World, flag: &str, share_bp: u16) {
    let others = Portion { share_bp, by: ShareBy::Workflow };
    world.flags.insert(name(flag), FlagSetting { others, tenants: BTreeMap::new() });
}

fn in_flow(flow: usize) -> Value {
    let mut task = public();
    task["workflow"] = json!(format!("flow-{flow}"));
    task
}

fn first(world: &World, task: &Value) -> Decision {
    decision(sent(&world.begin(task_at(1, task)).1))
}

#[test]
fn a_flag_is_on_for_a_workflow_at_each_of_its_steps_and_is_a_fact_of_each_decision() {
    let mut world = World::new();
    set(&mut world, "stay-local", 5_000);
    let reason = json!({ "reason": "expired" });
    let mut kept = [BTreeSet::new(), BTreeSet::new()];
    for flow in 0..40 {
        let told = first(&world, &in_flow(flow));
        let is_on = told.facts.flags.contains(&name("stay-local"));
        assert_eq!(told.outcome, if is_on { Outcome::Local } else { Outcome::Cloud }, "flow {flow}");
        assert_eq!((told.facts.flags_revision, told.facts.release_revision), (3, 4));
        kept[usize::from(is_on)].insert(flow);
        let other = with_text(&in_flow(flow), "Why is there a tide?");
        assert_eq!(first(&world, &other).facts.flags, told.facts.flags, "flow {flow}");
        if !is_on {
            let again = decision(&decided_again(&world, &in_flow(flow), &reason));
            assert_eq!((again.facts.hop, again.facts.flags), (1, told.facts.flags), "flow {flow}");
        }
    }
    assert!(kept.iter().all(|flows| flows.len() > 5), "{kept:?}");
    // Who is in stays in.
    set(&mut world, "stay-local", 8_000);
    assert!(kept[1].iter().all(|flow| first(&world, &in_flow(*flow)).outcome == Outcome::Local));
    world.flags.clear();
    assert!(kept[1].iter().all(|flow| first(&world, &in_flow(*flow)).outcome == Outcome::Cloud), "control");
}

#[test]
fn a_flag_that_comes_on_later_keeps_what_comes_back_from_leaving_again() {
    let mut world = World::new();
    let reason = json!({ "reason": "expired" });
    let again = |world: &World| {
        let (task, work, back) = returned(&World::new(), &public(), &reason);
        let (mut life, _) = world.begin(back);
        world.next(&mut life, Event::Loaded(vec![Some(work)]));
        decision(sent(&world.next(&mut life, Event::Loaded(vec![Some(task)]))))
    };
    assert_eq!(again(&world).outcome, Outcome::Cloud, "negative control: its ticket is renewed");
    set(&mut world, "stay-local", 10_000);
    assert_eq!(again(&world).outcome, Outcome::Local);
}

#[test]
fn a_flag_that_the_bundle_does_not_declare_is_told_and_changes_nothing() {
    let mut world = World::new();
    let plain = first(&world, &public());
    set(&mut world, "go-anywhere", 10_000);
    let told = first(&world, &public());
    assert_eq!(told.facts.flags, [name("go-anywhere")].into());
    assert_eq!((told.outcome, &told.considered), (plain.outcome, &plain.considered));
}
