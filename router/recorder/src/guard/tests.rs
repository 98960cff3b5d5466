//! Canaries by what the record says of them: equal ones, worse ones, and what does not count.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_audit::Leaf;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{Canary, Candidates, Guard, Guards, ShareBy};

use super::trial::Trial;
use super::{GuardLine, GuardState};

/// Seeded dice (splitmix64, Steele et al. 2014).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 1 so often, else 0.
    pub(super) fn once(&mut self, often: f64) -> f64 {
        f64::from(u8::from(self.is(often)))
    }

    fn is(&mut self, often: f64) -> bool {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) < often * 4_294_967_296.0
    }

    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

fn canary() -> Digest {
    Digest::plain(b"canary")
}

fn active() -> Digest {
    Digest::plain(b"active")
}

fn trial(unguarded: &[Guard]) -> Trial {
    let unguarded: Guards = unguarded.iter().copied().collect();
    let canary = Canary { hash: canary(), share_bp: 1_000, by: ShareBy::Workflow, since: 7, unguarded };
    Trial::of(&Candidates { canary: Some(canary), ..Candidates::only(7, active()) }).unwrap()
}

/// How often a bundle's tasks come to something, and how long and dear they are.
#[derive(Clone, Copy)]
struct Ways {
    errors: f64,
    rejections: f64,
    cloud: f64,
    failures: f64,
    held: f64,
    overturned: f64,
    ms: u64,
    micros: u64,
}

const USUAL: Ways = Ways {
    errors: 0.0,
    rejections: 0.05,
    cloud: 0.3,
    failures: 0.03,
    held: 0.5,
    overturned: 0.1,
    ms: 1_000,
    micros: 1_000,
};

/// Leaves of one message, so far as a trial looks at them.
fn leaf(kind: &str, task: u128, more: &serde_json::Value) -> Leaf {
    let mut leaf = json!({
        "v": 1, "id": uuid::Uuid::nil(), "index": 0, "time": "2026-11-23T08:30:00Z", "kind": kind,
        "tenant": if task.is_multiple_of(3) { "acme" } else { "globex" }, "agent": "helpdesk",
        "task": uuid::Uuid::from_u128(task),
        "source": { "stream": "EVENTS", "sequence": 1 },
    });
    for (key, value) in more.as_object().unwrap() {
        leaf[key] = value.clone();
    }
    serde_json::from_value(leaf).unwrap()
}

fn decision(outcome: &str, bundle: Digest) -> serde_json::Value {
    json!({ "id": uuid::Uuid::nil(), "outcome": outcome, "sensitivity": "public", "stakes": "low",
            "scan": "none", "hop": 0, "bundle": bundle, "directory": bundle })
}

fn result(state: &str, ms: u64, micros: u64) -> serde_json::Value {
    json!({ "state": state, "detail": { "result": {
        "usage": { "input_tokens": 1, "output_tokens": 1 }, "cost_usd_micros": micros, "attempts": 1,
        "timings": { "total_ms": ms, "queued_ms": 0, "run_ms": ms } } } })
}

/// What the record says of one task that a bundle decided.
fn task(dice: &mut Dice, n: u128, bundle: Digest, ways: Ways) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let failed = dice.is(ways.errors);
    if failed || dice.is(ways.rejections) {
        let code = if failed { "judge_failed" } else { "policy_denied" };
        let mut ended = result("rejected", 1, 0);
        ended["code"] = json!(code);
        ended["decision"] = decision("reject", bundle);
        leaves.push(leaf("result", n, &ended));
        return leaves;
    }
    if dice.is(ways.held) {
        leaves.push(leaf("review", n, &json!({ "decision": decision("hold", bundle) })));
        let action = if dice.is(ways.overturned) { "edit" } else { "approve" };
        leaves.push(leaf("verdict", n, &json!({ "detail": { "verdict": {
            "queue": "default", "reviewer": "ann", "action": action, "review": "EVENTS:1", "content": bundle } } })));
    }
    let lane = if dice.is(ways.cloud) { "cloud" } else { "local" };
    leaves.push(leaf(
        "work",
        n,
        &json!({ "cause": "EVENTS:1", "decision": decision(lane, bundle), "detail": { "work": { "lane": lane, "target": "t" } } }),
    ));
    let state = if dice.is(ways.failures) { "failed" } else { "completed" };
    let (ms, micros) = (ways.ms / 2 + dice.up_to(ways.ms), ways.micros / 2 + dice.up_to(ways.micros));
    leaves.push(leaf("result", n, &result(state, ms, micros)));
    leaves
}

/// So many tasks, every fourth by the canary; where it alarms it ends. Guard and tasks until then.
fn tried(dice: &mut Dice, trial: &mut Trial, tasks: u128, ways: Ways) -> Option<(Guard, u128)> {
    for n in 0..tasks {
        let (bundle, ways) = if n.is_multiple_of(4) { (canary(), ways) } else { (active(), USUAL) };
        for leaf in task(dice, n, bundle, ways) {
            trial.see(&leaf);
        }
        if let Some(guard) = trial.alarm() {
            return Some((guard, n));
        }
    }
    None
}

fn line(trial: &Trial, guard: Guard) -> GuardLine {
    trial.lines().into_iter().find(|line| line.guard == guard).unwrap()
}

#[test]
fn a_canary_that_does_as_the_active_bundle_does_is_not_taken_back() {
    let mut dice = Dice::new(3);
    // One in a hundred may be, over its whole life.
    let taken = (0..60).filter(|_| tried(&mut dice, &mut trial(&[]), 800, USUAL).is_some()).count();
    assert!(taken <= 3, "{taken} of 60");
}

/// In how many of so many runs an equal canary is taken back, where tasks of a workflow end alike, or all tasks of a time do.
fn taken_back(runs: u32, named: bool, ways: impl Fn(&mut Dice, u128) -> Vec<(u128, bool, bool)>) -> u32 {
    let mut dice = Dice::new(7);
    let run = |dice: &mut Dice| {
        let mut trial = trial(&[]);
        for (n, is_canary, fails) in ways(dice, 3_000) {
            let bundle = if is_canary { canary() } else { active() };
            let often = if fails { 1.0 } else { 0.0 };
            let alike = Ways { failures: often, rejections: 0.0, held: 0.0, ..USUAL };
            for mut leaf in task(dice, n, bundle, alike) {
                leaf.workflow = named.then(|| format!("{:x}", n >> 32));
                trial.see(&leaf);
            }
            if trial.alarm().is_some() {
                return true;
            }
        }
        false
    };
    (0..runs).map(|_| u32::from(run(&mut dice))).sum()
}

#[test]
fn tasks_of_a_workflow_that_end_alike_are_one_observation() {
    // Ten workflows at once of fifty tasks each; every fifth is the canary's, three in a hundred fail altogether.
    let flows = |dice: &mut Dice, tasks: u128| {
        let (mut open, mut next) = (Vec::new(), 0_u128);
        let mut all = Vec::new();
        for _ in 0..tasks {
            while open.len() < 10 {
                next += 1;
                open.push((next << 32, 50, dice.is(0.2), dice.is(0.03)));
            }
            let at = usize::try_from(dice.up_to(10)).unwrap();
            let (id, left, is_canary, fails) = open[at];
            all.push((id + left, is_canary, fails));
            if left > 1 {
                open[at] = (id, left - 1, is_canary, fails);
            } else {
                open.remove(at);
            }
        }
        all
    };
    assert!(taken_back(40, true, flows) <= 2, "one in a hundred may be");
    // Negative control: each task by itself counts fifty times what was seen once.
    assert!(taken_back(40, false, flows) >= 5);
}

#[test]
fn what_changes_for_everybody_is_not_the_canary_s() {
    // Every twentieth is the canary's; from the middle on nine of ten fail, whoever decided.
    let outage = |dice: &mut Dice, tasks: u128| {
        let often = |n| if n < tasks / 2 { 0.03 } else { 0.9 };
        (0..tasks).map(|n| (n << 32, dice.is(0.05), dice.is(often(n)))).collect()
    };
    assert!(taken_back(60, false, outage) <= 2, "one in a hundred may be");
    // Negative control: only for the canary.
    let worse = |dice: &mut Dice, tasks: u128| {
        let decided = |dice: &mut Dice, n| {
            let is_canary = dice.is(0.05);
            (n << 32, is_canary, dice.is(if is_canary { 0.9 } else { 0.03 }))
        };
        (0..tasks).map(|n| decided(dice, n)).collect()
    };
    assert!(taken_back(20, false, worse) >= 19);
}

#[test]
fn other_guards_are_another_trial_and_another_share_is_the_same() {
    let trial = trial(&[]);
    let now = |share_bp, guards: &[Guard]| {
        let unguarded: Guards = guards.iter().copied().collect();
        let canary = Canary { hash: canary(), share_bp, by: ShareBy::Workflow, since: 7, unguarded };
        Candidates { canary: Some(canary), ..Candidates::only(9, active()) }
    };
    assert!(trial.is_of(&now(5_000, &[])));
    assert!(!trial.is_of(&now(1_000, &[Guard::Rejections])));
}

#[test]
fn what_no_router_did_in_time_is_told_again() {
    let mut trial = trial(&[]);
    assert!(tried(&mut Dice::new(5), &mut trial, 1_000, Ways { rejections: 1.0, ..USUAL }).is_some());
    let now = Instant::now();
    trial.is_still_here(now);
    trial.told(now);
    trial.is_still_here(now + Duration::from_secs(4));
    assert_eq!((trial.alarm(), trial.attempts()), (None, 1), "negative control: a router may be at it");
    trial.is_still_here(now + Duration::from_secs(5));
    assert_eq!(trial.alarm(), Some(Guard::Rejections));
}

#[test]
fn the_guard_that_sees_it_is_named_and_one_that_does_not_watch_sees_nothing() {
    let rows = [
        (Guard::Errors, Ways { errors: 0.3, rejections: 0.0, ..USUAL }),
        (Guard::Rejections, Ways { rejections: 0.4, ..USUAL }),
        (Guard::CloudShare, Ways { cloud: 0.9, ..USUAL }),
        (Guard::Failures, Ways { failures: 0.4, ..USUAL }),
        (Guard::Cost, Ways { micros: 3_000, ..USUAL }),
        (Guard::Latency, Ways { ms: 3_000, ..USUAL }),
        (Guard::Overturns, Ways { overturned: 0.9, ..USUAL }),
    ];
    for (guard, ways) in rows {
        // What cannot be judged is rejected, too.
        let more: &[Guard] = if guard == Guard::Errors { &[Guard::Rejections] } else { &[] };
        let mut worse = trial(more);
        let found = tried(&mut Dice::new(4), &mut worse, 2_000, ways);
        assert_eq!(found.map(|(guard, _)| guard), Some(guard));
        assert_eq!(line(&worse, guard).state, GuardState::Alarm);
        assert!(worse.reason(guard).contains(guard.as_str()), "the act names it");
        let mut unguarded = trial(&[more, &[guard]].concat());
        assert_eq!(tried(&mut Dice::new(4), &mut unguarded, 2_000, ways), None, "{guard:?}");
        assert_eq!(line(&unguarded, guard).state, GuardState::Off);
    }
}

/// The same tasks, as if they were all of one tenant.
fn of_one_tenant(mut leaf: Leaf) -> Leaf {
    leaf.tenant = Some(Name::new("acme").unwrap());
    leaf
}

/// So many tasks of five tenants, every fourth by the canary; how it goes with each tenant's tasks there. The alarm, if there is one.
fn spoilt(
    dice: &mut Dice,
    trial: &mut Trial,
    ways: impl Fn(u64) -> Ways,
    told: impl Fn(Leaf) -> Leaf,
) -> Option<Guard> {
    for n in 0..2_000 {
        let tenant = dice.up_to(5);
        let is_canary = dice.is(0.25);
        let (bundle, ways) = if is_canary { (canary(), ways(tenant)) } else { (active(), USUAL) };
        for mut leaf in task(dice, n, bundle, ways) {
            leaf.tenant = Some(Name::new(format!("t{tenant}")).unwrap());
            trial.see(&told(leaf));
        }
        if trial.alarm().is_some() {
            break;
        }
    }
    trial.alarm()
}

#[test]
fn a_canary_that_one_tenant_alone_spoils_stays_and_the_tenant_is_named() {
    let mut dice = Dice::new(11);
    let bad = |tenant| if tenant == 3 { Ways { failures: 1.0, ..USUAL } } else { USUAL };
    let mut named = 0;
    for _ in 0..12 {
        let mut trial = trial(&[]);
        assert_eq!(spoilt(&mut dice, &mut trial, bad, |leaf| leaf), None);
        let line = line(&trial, Guard::Failures);
        assert_eq!(line.state, GuardState::Watching);
        named += u32::from(line.alone == Some(Name::new("t3").unwrap()));
        assert_eq!((trial.newly_alone().len(), trial.newly_alone().len()), (1, 0), "told once");
    }
    assert_eq!(named, 12);
    // Negative controls: as one tenant's it is taken back, and where all suffer it is.
    let taken = spoilt(&mut dice, &mut trial(&[]), bad, of_one_tenant);
    assert_eq!(taken, Some(Guard::Failures));
    let all = |_| Ways { failures: 0.6, ..USUAL };
    let mut harmed = trial(&[]);
    assert_eq!(spoilt(&mut dice, &mut harmed, all, |leaf| leaf), Some(Guard::Failures));
    assert_eq!(line(&harmed, Guard::Failures).alone, None);
}

#[test]
fn a_tenant_s_flood_takes_nothing_of_what_is_new_and_what_it_took_is_counted() {
    let flood = |tenant: &str, trial: &mut Trial| {
        for n in 0..30_000_u32 {
            for kind in ["task", "result"] {
                // Open tasks, and workflows that are over.
                let n = u128::from(n) + if kind == "task" { 1_000_000 } else { 2_000_000 };
                let mut more = json!({ "workflow": format!("w{n}") });
                if kind == "result" {
                    more["state"] = json!("rejected");
                    more["decision"] = decision("reject", active());
                }
                let mut leaf = leaf(kind, n, &more);
                leaf.tenant = Some(Name::new(tenant).unwrap());
                trial.see(&leaf);
            }
        }
    };
    let seen = |flooded: &str, is_open_before: bool| {
        let (mut dice, mut trial) = (Dice::new(12), trial(&[]));
        let mut later = Vec::new();
        let mut leaves = |n| {
            let mut leaves = task(&mut dice, n, canary(), Ways { rejections: 0.0, ..USUAL });
            for leaf in &mut leaves {
                leaf.tenant = Some(Name::new("globex").unwrap());
                leaf.workflow = Some(format!("own{n}"));
            }
            leaves
        };
        for n in 0..200 {
            let mut leaves = leaves(n);
            later.push(leaves.pop().unwrap());
            // What is new comes after the flood, else it is open while it comes.
            match is_open_before {
                true => leaves.iter().for_each(|leaf| trial.see(leaf)),
                false => later.splice(later.len() - 1..later.len() - 1, leaves).for_each(drop),
            }
        }
        flood(flooded, &mut trial);
        let before = line(&trial, Guard::Failures).canary.tasks;
        later.iter().for_each(|leaf| trial.see(leaf));
        (line(&trial, Guard::Failures).canary.tasks - before, trial.forgotten())
    };
    assert_eq!(seen("acme", false), (200, 10_000));
    assert_eq!(seen("acme", true), (200, 10_000));
    assert_eq!(seen("globex", false), (200, 10_001), "also after its own flood");
    assert_eq!(seen("globex", true), (0, 10_200), "negative control: what was open and is forgotten");
}

#[test]
fn a_message_that_comes_again_after_its_result_is_not_followed_for_ever() {
    let mut trial = trial(&[]);
    let leaf = |kind, n| {
        let mut leaf = leaf(kind, n, &json!({}));
        leaf.tenant = Some(Name::new("acme").unwrap());
        leaf
    };
    for n in 0..15_000 {
        for kind in ["task", "result", "task"] {
            trial.see(&leaf(kind, n));
        }
    }
    let open = |trial: &mut Trial| (50_000..60_000).for_each(|n| trial.see(&leaf("task", n)));
    open(&mut trial);
    assert_eq!(trial.forgotten(), 0);
    // Negative control: as many that have not ended.
    (20_000..35_000).for_each(|n| trial.see(&leaf("task", n)));
    assert_eq!(trial.forgotten(), 5_000);
}

#[test]
fn a_verdict_counts_with_what_follows_it_and_one_that_led_nowhere_says_nothing() {
    let overturned = |verdicts: &[(u64, &str)], follows: u64, state: &str| {
        let mut trial = trial(&[]);
        trial.see(&leaf("review", 1, &json!({ "decision": decision("hold", canary()) })));
        for (sequence, action) in verdicts {
            trial.see(&leaf(
                "verdict",
                1,
                &json!({ "source": { "stream": "EVENTS", "sequence": sequence },
                "detail": { "verdict": { "queue": "default", "reviewer": "ann", "action": action,
                    "review": "EVENTS:1", "content": canary() } } }),
            ));
        }
        let cause = format!("EVENTS:{follows}");
        let mut ended = result(state, 1, 0);
        if state == "completed" {
            trial.see(&leaf("work", 1, &json!({ "cause": cause, "decision": decision("local", canary()) })));
        } else {
            ended["cause"] = json!(cause);
        }
        trial.see(&leaf("result", 1, &ended));
        let arm = line(&trial, Guard::Overturns).canary;
        (arm.tasks, arm.sum)
    };
    let late = [(2, "approve"), (3, "reject"), (4, "edit")];
    assert_eq!(overturned(&late, 2, "completed"), (1, 0), "the others came too late");
    assert_eq!(overturned(&late, 3, "rejected"), (1, 1));
    assert_eq!(overturned(&late, 4, "completed"), (1, 1));
    assert_eq!(overturned(&late, 9, "failed"), (0, 0), "nobody decided in time");
}

#[test]
fn a_canary_that_rejects_everything_is_taken_back_after_a_few_tasks() {
    let ways = Ways { rejections: 1.0, ..USUAL };
    let (guard, tasks) = tried(&mut Dice::new(5), &mut trial(&[]), 1_000, ways).unwrap();
    // Each of the two tenants shows it, one of which has a third of the tasks.
    assert!(guard == Guard::Rejections && tasks < 240, "{guard:?} after {tasks}");
    let all = |_| ways;
    let mut alone = trial(&[]);
    assert_eq!(spoilt(&mut Dice::new(5), &mut alone, all, of_one_tenant), Some(Guard::Rejections));
    let line = line(&alone, Guard::Rejections);
    assert!(line.canary.tasks + line.active.tasks < 80, "of one tenant: {line:?}");
}

#[test]
fn a_recorder_that_begins_again_comes_to_the_same_and_says_it_once() {
    let mut dice = Dice::new(6);
    let ways = Ways { failures: 0.5, ..USUAL };
    let leaves: Vec<Leaf> = (0..400)
        .flat_map(|n| {
            let (bundle, ways) = if n % 2 == 0 { (canary(), ways) } else { (active(), USUAL) };
            task(&mut dice, n, bundle, ways)
        })
        .collect();
    let mut trials = [trial(&[]), trial(&[])];
    for trial in &mut trials {
        leaves.iter().for_each(|leaf| trial.see(leaf));
    }
    let [first, again] = &mut trials;
    assert_eq!((first.alarm(), first.lines()), (Some(Guard::Failures), again.lines()));
    assert_eq!(again.alarm(), Some(Guard::Failures), "negative control: the record does not say it yet");
    let act = |operator: &str, since: u64| {
        leaf(
            "control",
            1,
            &json!({ "detail": { "control": {
            "operator": operator, "act": "bundle_rollback", "hash": canary(), "guard": "failures", "since": since } } }),
        )
    };
    again.see(&act("olga", 7));
    again.see(&act("recorder", 6));
    assert!(again.alarm().is_some(), "another's, and about another trial");
    again.see(&act("recorder", 7));
    assert_eq!(again.alarm(), None);
}

#[test]
fn tasks_of_two_bundles_of_others_and_withdrawn_ones_do_not_count() {
    let mut trial = trial(&[]);
    let work = |n, bundle| leaf("work", n, &json!({ "decision": decision("local", bundle) }));
    let completed = result("completed", 1, 0);
    let other = Digest::plain(b"other");
    for (n, bundles, ended) in [
        (1, vec![canary(), active()], &completed),
        (2, vec![other], &completed),
        (3, vec![canary(), other], &completed),
        (4, vec![canary()], &result("canceled", 1, 0)),
        (5, vec![], &completed),
    ] {
        bundles.into_iter().for_each(|bundle| trial.see(&work(n, bundle)));
        trial.see(&leaf("result", n, ended));
    }
    let counted = |trial: &Trial| {
        (line(trial, Guard::Failures).canary.tasks, line(trial, Guard::Failures).active.tasks)
    };
    assert_eq!(counted(&trial), (0, 0));
    trial.see(&work(6, canary()));
    trial.see(&leaf("result", 6, &completed));
    assert_eq!(counted(&trial), (1, 0), "negative control");
}
